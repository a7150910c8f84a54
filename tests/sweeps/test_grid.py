"""Lists of overrides."""

import subprocess
import sys

import pytest

from resnet_jax.sweeps.grid import axis, chain, product, together


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


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="a is set by two axes"):
        product(axis("a", [1]), axis("a", [2]))
    with pytest.raises(ValueError, match="zip"):
        together(axis("a", [1]), axis("b", [2, 3]))


def test_sweep_files_do_not_import_jax():
    program = "import sys; from configs.sweeps import cifar_seeds as s; s.get_sweep(); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
