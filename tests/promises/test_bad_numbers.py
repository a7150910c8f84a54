"""A non-finite loss (inf or NaN) ends a run at its step, and the layer it comes from can be found."""

import jax
import numpy as np
import pytest

from resnet_jax.data import sampling
from resnet_jax.rundir import read_json, read_metrics, write_json
from resnet_jax.training import first_layer, train
from resnet_jax.training.checkpoints import Checkpoints
from resnet_jax.training.program import make_program
from tests.promises.runs import command, figures, finish, last_state, start


@pytest.fixture
def diverging(config):
    """Return a run whose seventh step is so long that the eighth has no loss."""
    config.optimizer.milestones = (0.5,)
    config.optimizer.factor = 1e30
    return config


@pytest.mark.parametrize("steps_per_dispatch", [1, 3, 100])
def test_a_run_stops_at_the_very_step_and_keeps_what_explains_it(diverging, tmp_path, steps_per_dispatch):
    diverging.steps_per_dispatch = steps_per_dispatch
    summary = train(diverging, tmp_path / "run")
    assert (summary["status"], summary["steps"]) == ("diverged", 8)
    recorded = read_json(tmp_path / "run" / "diverged.json")
    [batch] = sampling.batch_indices(diverging.seed, range(7, 8), diverging.batch_size, 1500)
    assert recorded == {"step": 8, "indices": batch.tolist()}
    last = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    assert (last["step"], last["split"], last["loss"]) == (8, "train", None)
    state = last_state(diverging, tmp_path / "run")
    assert int(state.step) == 5
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    assert train(diverging, tmp_path / "run") == summary


def test_a_diverged_run_goes_on_if_asked(diverging, tmp_path):
    train(diverging, tmp_path / "run")
    diverging.stop_at_divergence = False
    summary = train(diverging, tmp_path / "run")
    assert (summary["status"], summary["steps"]) == ("diverged", 12)
    assert not (tmp_path / "run" / "diverged.json").exists()
    losses = [line["loss"] for line in figures(tmp_path / "run") if line["split"] == "train"]
    assert losses[0] is not None
    assert losses[1:] == [None, None]
    assert train(diverging, tmp_path / "run") == summary


def test_a_net_that_the_last_step_spoils_has_diverged(diverging, tmp_path):
    diverging.steps = 7
    summary = train(diverging, tmp_path / "run")
    assert (summary["status"], summary["steps"]) == ("diverged", 7)
    assert summary["final"]["train_clean"]["loss"] is None


def test_the_command_says_which_step_and_with_debug_nans_which_layer(tmp_path):
    words = command(tmp_path / "run", **{"optimizer.milestones": "(0.5,)", "optimizer.factor": 1e30})
    status, stdout, stderr = finish(start(words))
    assert status == 1
    assert "the loss of step 8 is non-finite (inf or NaN): the run has diverged" in stderr
    assert "diverged after 8 steps" in stdout
    assert "The same command with --debug_nans finds the first layer that is not finite." in stdout
    status, stdout, _ = finish(start([*words, "--debug_nans"]))
    assert status == 1
    assert "Step 8: the output of stem/bn is the first that is non-finite." in stdout


def spoil(config, workdir, change):
    """Write a run to ``workdir`` that stopped at step 6, resumed from a state that ``change`` has made at step 5."""
    train(config, workdir)
    program = make_program(config, 10)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state, progress = checkpoints.restore(program.init((8, 8, 1)), before=6)
    params = jax.device_get(state.params)
    change(params)
    state = state.replace(params=jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), params, state.params))
    for checkpoint in (workdir / "checkpoints").iterdir():
        checkpoint.rename(workdir / f"old{checkpoint.name}")
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(5, state, progress)
    write_json(workdir / "diverged.json", {"step": 6, "indices": []})


def set_block(params, stage, block, layer, factor):
    """Multiply what ``layer`` of a block after the first has by ``factor``."""
    kernels = params[stage]["rest"][layer]
    name = "kernel" if "kernel" in kernels else "scale"
    kernels[name] = kernels[name].copy()
    kernels[name][block - 1] *= factor


def too_large_an_output(params):
    set_block(params, "stage2", 1, "conv1", 1e38)


def too_large_a_gradient(params):
    # Small before the last norm and large after it: the loss is finite, but the gradients of earlier layers are not.
    set_block(params, "stage3", 1, "conv2", 1e-6)
    set_block(params, "stage3", 1, "bn2", 1e19)
    params["head"]["kernel"] = params["head"]["kernel"] * 1e20


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (too_large_an_output, "Step 6: the output of stage2/block1/conv1 is the first that is non-finite."),
        (
            too_large_a_gradient,
            "Step 6: all outputs are finite; in the backward pass, "
            "the gradient of stage3/block1/conv2 is the first that is non-finite.",
        ),
    ],
)
def test_the_first_layer_is_found(config, tmp_path, change, message, remat):
    config.model.depth = 14
    config.steps, config.eval_every, config.optimizer.milestones = 5, 5, ()
    config.compile.remat = remat
    spoil(config, tmp_path / "run", change)
    config.steps = 6
    assert first_layer(config, tmp_path / "run") == message


def test_parameters_that_the_update_spoils_are_found(config, tmp_path):
    config.steps, config.eval_every, config.optimizer.milestones = 5, 5, ()
    spoil(config, tmp_path / "run", lambda params: None)
    config.steps = 6
    config.optimizer.learning_rate, config.optimizer.weight_decay = 3e38, 1e10
    found = first_layer(config, tmp_path / "run")
    assert found == (
        "Step 6: all outputs and gradients are finite, but the update makes the parameters of stem/conv non-finite."
    )
    config.optimizer.learning_rate, config.optimizer.weight_decay = 0.03, 1e-4
    assert first_layer(config, tmp_path / "run") == "All steps up to 6 are finite when they are repeated."
