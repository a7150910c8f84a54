"""Panels from runs: their lines, bars and sentences are the records' losses and errors."""

import numpy as np
import pytest

from resnet_jax.analysis.diagnosed import Diagnosed
from resnet_jax.analysis.runs import read_run
from resnet_jax.report.figures import MOST_POINTS
from resnet_jax.report.run_panels import identities, is_intervened, last_loss, loss_line, routes, training_loss
from tests.analysis.measured import measurement
from tests.analysis.synthetic import nets_in, set_losses, write_run, write_seeds

STOP = {"gates__route": "stop_gradient"}


def write_losses(folder, *losses, residual=False, depth=20, status="finished", **fields):
    """Write a run of one net for each of ``losses``, the training losses of a seed."""
    for seed, each in enumerate(losses):
        set_losses(write_run(folder / f"{residual}-{depth}-{seed}", depth, residual, 0.1, seed, status, **fields), each)


def diagnosed(net):
    """Return the seeds of ``net``, without measurements."""
    config = net.runs[0].config
    return [Diagnosed(net.label, config["model.residual"], net.depth, run.name, run, []) for run in net.runs]


def test_training_losses_are_those_of_each_seed_and_plain_nets_are_dashed(tmp_path):
    write_losses(tmp_path, [2.0, 1.0, 0.5], [2.2, 1.1, 0.4])
    write_losses(tmp_path, [1.5, 0.5, 0.25], residual=True)
    panel = training_loss(nets_in(tmp_path), None)
    [plot] = panel.plots
    plain, residual = plot.lines
    np.testing.assert_array_equal(plain.x, [10, 20, 30])
    np.testing.assert_array_equal(plain.values, [[2.0, 1.0, 0.5], [2.2, 1.1, 0.4]])
    np.testing.assert_array_equal(residual.values, [[1.5, 0.5, 0.25]])
    assert [(line.label, line.depth, line.is_dashed) for line in plot.lines] == [
        ("plain-20", 20, True),
        ("residual-20", 20, False),
    ]
    assert (plot.x, plot.y, plot.is_log) == ("step (mini-batches)", "loss (nats)", True)


def test_nets_under_an_intervention_are_not_among_the_training_losses(tmp_path):
    write_run(tmp_path / "free", residual=True)
    write_run(tmp_path / "stopped", residual=True, **STOP)
    write_run(tmp_path / "frozen", residual=True, optimizer__frozen_below="stage3/block0")
    [plot] = training_loss(nets_in(tmp_path), None).plots
    assert [line.label for line in plot.lines] == ["residual-20"]
    assert training_loss([net for net in nets_in(tmp_path) if net.label != "residual-20"], None) is None


def test_the_sentence_on_training_losses_has_the_medians_and_ranges_of_the_last_records(tmp_path):
    write_losses(tmp_path, *([2.0, last] for last in (0.5, 0.7, 0.6)), depth=56)
    write_losses(tmp_path, *([2.0, last] for last in (0.1, 0.3, 0.2)), depth=56, residual=True)
    nets = nets_in(tmp_path)
    said = training_loss(nets, tuple(map(diagnosed, nets))).says
    assert said == (
        "plain-56 ends at a training loss of 0.6, residual-56 at 0.2. Median and range over seeds: plain-56 0.6 "
        "(0.5 to 0.7), residual-56 0.2 (0.1 to 0.3)."
    )


def test_a_line_ends_where_the_shortest_seed_does_and_is_missing_where_one_has_no_record(tmp_path):
    write_losses(tmp_path / "a", [3.0, 2.0, 1.0], [3.5, 2.5], status=None)
    [net] = nets_in(tmp_path / "a")
    line = loss_line(net, 20, is_dashed=True)
    np.testing.assert_array_equal(line.x, [10, 20])
    np.testing.assert_array_equal(line.values, [[3.0, 2.0], [3.5, 2.5]])
    write_losses(tmp_path / "b", [3.0, 2.0], [], status=None)
    [net] = nets_in(tmp_path / "b")
    assert loss_line(net, 20, is_dashed=True) is None
    assert training_loss([net], None) is None


def test_a_long_line_is_thinned_and_keeps_its_first_and_last_record(tmp_path):
    losses = np.linspace(3, 1, 2500).tolist()
    write_losses(tmp_path, losses, steps=25_000)
    [net] = nets_in(tmp_path)
    line = loss_line(net, 20, is_dashed=False)
    assert len(line.x) == line.values.shape[1] == MOST_POINTS
    assert (line.x[0], line.x[-1], line.values[0, 0], line.values[0, -1]) == (10, 25_000, 3.0, 1.0)
    np.testing.assert_allclose(line.values[0], np.interp(line.x, np.arange(10, 25_001, 10), losses))


def test_the_last_loss_is_missing_for_weights_and_before_the_first_record(tmp_path):
    run = set_losses(write_run(tmp_path / "run"), [2.0, 0.5])
    assert last_loss(Diagnosed("a", False, 20, "a", read_run(run), [])) == 0.5
    assert last_loss(Diagnosed("a", False, 20, "a", read_run(set_losses(run, [])), [])) is None
    assert last_loss(Diagnosed("a", False, 20, "a", None, [measurement("gradients", {}, 0)])) is None


def test_bars_are_medians_of_final_errors_of_the_nets_of_the_deepest_intervention(tmp_path):
    errors = {"free": (0.1, 0.14, 0.12), "stopped": (0.3, 0.32, 0.4)}
    for name, fields in (("free", {}), ("stopped", STOP)):
        write_seeds(tmp_path / name, 56, True, errors[name], **fields)
        write_seeds(tmp_path / f"{name}-shallow", 20, True, (0.01,), **fields)
    write_seeds(tmp_path / "plain", 56, False, (0.5,))
    write_seeds(tmp_path / "deep", 110, False, (0.6,))
    write_run(tmp_path / "started", 56, True, status=None, gates__route="second")
    write_run(tmp_path / "surgery", 56, False, 0.2, from_run="runs/x")
    panel = routes(nets_in(tmp_path))
    [plot] = panel.plots
    assert plot.title == "56 layers"
    assert plot.y == "final error (%), median over seeds"
    training, test = plot.lines
    assert (training.label, test.label) == ("training error", "test error")
    medians = dict(zip(plot.ticks, training.values[0], strict=True))
    assert medians == {
        "plain-56": pytest.approx(50),
        "residual-56": pytest.approx(12),
        "residual-56, route stop_gradient": pytest.approx(32),
    }
    np.testing.assert_allclose(test.values, training.values + 1)  # As the runs were written.
    np.testing.assert_array_equal(training.x, np.arange(3))
    assert "residual-56, route: stop gradient: 32 and 33" in panel.says
    assert "residual-56: 12 and 13" in panel.says
    assert plot.guessing == 0.9


def test_there_are_no_bars_without_a_finished_intervention(tmp_path):
    write_run(tmp_path / "free", residual=True)
    write_run(tmp_path / "started", residual=True, status=None, **STOP)
    assert routes(nets_in(tmp_path)) is None
    assert routes([]) is None


def write_identities(folder, **ends):
    """Write plain nets of 56 layers from a trained one; ``ends``: learning rates by name and last losses of seeds."""
    for rate, losses in ends.items():
        fields = {"from_run": "runs/x-as-56", "optimizer__learning_rate": float(rate.removeprefix("rate_"))}
        write_losses(folder / rate, *([0.2, last] for last in losses), depth=56, **fields)


def test_nets_from_a_trained_one_are_called_by_what_they_do_not_share_and_have_their_last_losses(tmp_path):
    write_identities(tmp_path, **{"rate_0.01": (0.1, 0.12, 0.11), "rate_0.1": (1.5, 1.0, 2.0)})
    write_losses(tmp_path / "shallow", [0.2, 9.0], depth=20, from_run="runs/x-as-20")
    write_losses(tmp_path / "free", [2.0, 9.0], depth=56)
    write_losses(tmp_path / "residual", [2.0, 9.0], depth=56, residual=True)
    panel = identities(nets_in(tmp_path))
    [plot] = panel.plots
    assert [line.label for line in plot.lines] == ["learning rate 0.01", "learning rate 0.1"]
    np.testing.assert_array_equal(plot.lines[1].values[:, -1], [1.5, 1.0, 2.0])
    assert panel.says == (
        "From the same good solution, 56 layers end at a training loss of 0.11 with learning rate 0.01 and of 1.5 with "
        "learning rate 0.1 (medians over seeds)."
    )
    assert {line.depth for line in plot.lines} == {None}  # Colours by order: all have one depth.


def test_a_single_net_from_a_trained_one_is_not_compared_with_itself(tmp_path):
    write_identities(tmp_path, **{"rate_0.01": (0.1,)})
    panel = identities(nets_in(tmp_path))
    assert panel.says.count("0.1") == 1
    assert len(panel.plots[0].lines) == 1


def test_seeds_that_diverge_from_a_trained_net_do_not_hide_where_the_others_end(tmp_path):
    write_identities(tmp_path, **{"rate_0.01": (0.1, 0.3, 0.2), "rate_0.1": (1.5, None, 2.5), "rate_1.0": (None,)})
    panel = identities(nets_in(tmp_path))
    assert "of 0.2 with learning rate 0.01 and of 2 with learning rate 0.1 (medians" in panel.says
    assert panel.says.endswith(" (medians over seeds), and diverge with learning rate 1.0.")
    assert len(panel.plots[0].lines) == 3
    only = identities([net for net in nets_in(tmp_path) if net.label.endswith("1.0")])
    assert only.says == "From the same good solution, 56 layers diverge with plain-56, learning rate 1.0."


def test_a_seed_that_diverges_early_does_not_shorten_where_the_others_end(tmp_path):
    fields = {"depth": 56, "from_run": "runs/x-as-56"}
    write_losses(tmp_path, [0.2, 1.0, 3.0, 0.4], [0.2, None], [0.2, 1.0, 3.0, 0.6], **fields)
    panel = identities(nets_in(tmp_path))
    assert "training loss of 0.5 with" in panel.says


def test_a_net_that_differs_in_nothing_is_called_by_its_title(tmp_path):
    write_losses(tmp_path / "a", [0.2, 0.5], depth=56, from_run="runs/x-as-56")
    write_losses(tmp_path / "b", [0.2, 0.7], depth=56, from_run="runs/x-as-56", optimizer__frozen_below="stage3/block0")
    [plot] = identities(nets_in(tmp_path)).plots
    assert [line.label for line in plot.lines] == ["plain-56", "frozen below stage 3, block 0"]


def test_there_is_no_panel_without_nets_from_a_trained_one(tmp_path):
    write_run(tmp_path / "run")
    assert identities(nets_in(tmp_path)) is None
    assert identities([]) is None


def test_an_intervention_is_a_field_that_differs_from_its_default_in_the_groups_asked_for(tmp_path):
    free = read_run(write_run(tmp_path / "free", residual=True)).config
    stopped = read_run(write_run(tmp_path / "stopped", residual=True, **STOP)).config
    started = read_run(write_run(tmp_path / "started", from_run="runs/x")).config
    assert [is_intervened(config) for config in (free, stopped, started)] == [False, True, True]
    assert [is_intervened(config, "gates.", "optimizer.frozen") for config in (free, stopped, started)] == [
        *(False, True, False)
    ]
