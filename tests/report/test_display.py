"""Order and words for nets, and the error of guessing."""

import json

import pytest

from resnet_jax import identity
from resnet_jax.analysis.runs import group_depths, group_seeds, read_runs
from resnet_jax.report import display
from tests.analysis.synthetic import nets_in, write_run


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("residual-56", "residual-56"),
        ("plain, norm batch, learning_rate 0.03", "plain, batch norm, learning rate 0.03"),
        ("plain-20, norm none", "plain-20, no norm"),
        ("residual nets, frozen_below stage3/block0", "residual nets, frozen below stage 3, block 0"),
        ("residual, route stop_gradient", "residual, route: stop gradient"),
        ("residual, shortcut B", "residual, shortcut B"),
        (
            "residual, shortcut exclusive_gating, gating_bias -6.0",
            "residual, shortcut: exclusive gating, gating bias -6.0",
        ),
        ("plain, reserve True", "plain, with reserve"),
        ("plain, from my_run-56, steps 300", "plain, from my_run-56, steps 300"),
        ("residual, without every second shortcut", "residual, without every second shortcut"),
        (
            "residual, final [0, 1, 1, 1], phase [0.25, 0.75]",
            "residual, shortcuts fade out, between 0.25 and 0.75 of the steps",
        ),
        ("residual, final [1, 0, 1, 1], shortcut_factor 0.5", "residual, final [1, 0, 1, 1], shortcut factor 0.5"),
        ("my_net, optimizer_name a_b", "my_net, optimizer name a b"),
    ],
)
def test_names_of_fields_become_words(name, words):
    assert display.in_words(name) == words


@pytest.fixture
def nets(tmp_path):
    for depth in (56, 20):
        for residual in (False, True):
            write_run(tmp_path / f"{residual}-{depth}", depth, residual)
        write_run(tmp_path / f"dirac-{depth}", depth, residual=False, model__parametrization="dirac")
    return nets_in(tmp_path)


def test_the_reference_is_first_then_plain_and_residual_nets(nets):
    def order(reference):
        return list(dict.fromkeys(net.series for net in display.in_order(nets, reference)))

    assert nets[0].series == "dirac plain"
    assert order(None) == ["plain", "residual", "dirac plain"]
    assert order("residual") == ["residual", "plain", "dirac plain"]
    assert order("dirac plain") == ["dirac plain", "plain", "residual"]


def test_series_keep_their_order_and_have_their_nets_by_depth(nets):
    assert {series: [net.depth for net in members] for series, members in group_depths(nets[::-1]).items()} == {
        "residual": [20, 56],
        "plain": [20, 56],
        "dirac plain": [20, 56],
    }


def test_the_error_of_guessing_follows_the_recorded_classes_then_the_name_of_the_data(tmp_path):
    def error(name, data_name):
        run = write_run(tmp_path / name / "run", data__name=data_name)
        return run, lambda: display.error_of_guessing(group_seeds(read_runs([run.parent])[0]))

    run, guessing = error("a", "my_images")
    assert guessing() is None
    data = {"class_names": list("abcd"), "image_shape": [8, 8, 1], "examples": {}, "covers": "", "contents": ""}
    (run / identity.FILE).write_text(json.dumps({"config": {}, "data": data, "versions": {}}))
    assert guessing() == 0.75
    run, guessing = error("b", "cifar100")
    assert guessing() == pytest.approx(0.99)
    (run / identity.FILE).write_text("{")
    assert guessing() == pytest.approx(0.99)


def test_data_sets_of_different_numbers_of_classes_have_no_common_error_of_guessing(tmp_path):
    for name in ("cifar10", "cifar100"):
        write_run(tmp_path / name, data__name=name)
    assert display.error_of_guessing(nets_in(tmp_path)) is None


def test_divergence_says_at_which_steps_and_of_how_many_runs(tmp_path):
    write_run(tmp_path / "a", seed=0)
    assert display.divergence(nets_in(tmp_path)[0]) == ""
    write_run(tmp_path / "b", seed=1, status="diverged")
    assert display.divergence(nets_in(tmp_path)[0]) == "1 of 2 diverged at step 200"
    (net,) = group_seeds(
        read_runs([tmp_path / "b", write_run(tmp_path / "c", seed=2, status="diverged", records=5)])[0]
    )
    assert display.divergence(net) == "diverged at step 180 to 200"
