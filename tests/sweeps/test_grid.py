"""Lists of overrides."""

import json
import subprocess
import sys

import pytest

from resnet_jax.sweeps.grid import axis, chain, product, together, tuned, tuned_fields


def test_a_product_has_every_combination_in_order():
    assert product(axis("a", [1, 2]), axis("b", "xy")) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]


def test_together_pairs_and_chain_appends():
    assert together(axis("a", [1, 2]), axis("b", [3, 4])) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
    assert chain(axis("a", [1]), axis("b", [2])) == [{"a": 1}, {"b": 2}]
    nested = product(chain(axis("a", [1]), axis("b", [2])), axis("seed", range(2)))
    assert nested == [{"a": 1, "seed": 0}, {"a": 1, "seed": 1}, {"b": 2, "seed": 0}, {"b": 2, "seed": 1}]


def test_a_tuned_axis_is_an_axis_that_is_remembered():
    sweep = product(axis("seed", range(2)), chain(axis("a", [0]), tuned("lr", [0.1, 0.2])))
    assert sweep == product(axis("seed", range(2)), chain(axis("a", [0]), axis("lr", [0.1, 0.2])))
    assert json.dumps(sweep[1]) == '{"seed": 0, "lr": 0.1}'
    assert tuned_fields(sweep) == ["lr"]
    assert tuned_fields(together(tuned("a", [1]), tuned("b", [2]))) == ["a", "b"]
    assert tuned_fields(axis("lr", [0.1])) == []


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="a is set by two axes"):
        product(axis("a", [1]), axis("a", [2]))
    with pytest.raises(ValueError, match="zip"):
        together(axis("a", [1]), axis("b", [2, 3]))


def test_sweep_files_do_not_import_jax():
    program = "import sys; from configs.sweeps import cifar_seeds as s; s.get_sweep(); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
