"""A non-finite loss (inf or NaN) ends a run at its step, and the layer it comes from can be found."""

import jax
import numpy as np
import pytest

from resnet_jax.data import sampling
from resnet_jax.rundir import read_metrics
from resnet_jax.safe_files import read_json, write_json
from resnet_jax.training import first_layer, parallel, train
from resnet_jax.training.checkpoints import Checkpoints
from resnet_jax.training.program import make_program
from tests.promises.runs import figures, last_state, words_of


@pytest.fixture
def diverging(config):
    """Return a run whose seventh step is so long that the eighth has no loss."""
    config.optimizer.milestones = (0.5,)
    config.optimizer.factor = 1e30
    return config


@pytest.mark.parametrize("steps_per_dispatch", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_a_run_stops_at_the_very_step_and_keeps_what_explains_it(diverging, tmp_path, steps_per_dispatch):
    diverging.steps_per_dispatch = steps_per_dispatch
    diverging.log_every = diverging.eval_every = 12  # Dispatches end at 5 and 10, or at every step.
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


@pytest.mark.slow
def test_a_diverged_run_continues_if_asked(diverging, tmp_path):
    train(diverging, tmp_path / "run")
    diverging.stop_at_divergence = False
    summary = train(diverging, tmp_path / "run")
    assert (summary["status"], summary["steps"]) == ("diverged", 12)
    assert not (tmp_path / "run" / "diverged.json").exists()
    losses = [line["loss"] for line in figures(tmp_path / "run") if line["split"] == "train"]
    assert losses[0] is not None
    assert losses[1:] == [None, None]
    assert train(diverging, tmp_path / "run") == summary


@pytest.mark.slow
def test_a_net_that_the_last_step_spoils_has_diverged(diverging, tmp_path):
    diverging.steps = 7
    diverging.optimizer.milestones = (6 / 7,)
    summary = train(diverging, tmp_path / "run")
    assert (summary["status"], summary["steps"]) == ("diverged", 7)
    assert summary["final"]["train_clean"]["loss"] is None


@pytest.mark.slow
def test_the_command_says_which_step_and_with_debug_nans_which_layer(commands, tmp_path):
    words = words_of(tmp_path / "run", **{"optimizer.milestones": "(0.5,)", "optimizer.factor": 1e30})
    done = commands("main", *words)
    assert done.returncode == 1
    assert "the loss of step 8 is non-finite (inf or NaN): the run has diverged" in done.stderr
    assert "diverged after 8 steps" in done.stdout
    assert "The same command with --debug_nans finds the first layer with non-finite values." in done.stdout
    done = commands("main", *words, "--debug_nans")
    assert done.returncode == 1
    assert "Step 8: the output of stem/bn is the first that is non-finite." in done.stdout


def spoil(config, workdir, change):
    """Write a run to ``workdir`` that diverged at step 6, with the initial state, changed by ``change``, at step 5."""
    program = make_program(config, 10)
    state = jax.device_get(program.init((8, 8, 1)))
    change(state.params)
    state = parallel.replicate(state.replace(step=np.int32(5)), program.mesh)
    workdir.mkdir()
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(5, state, {})
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


@pytest.mark.slow
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
    config.steps, config.optimizer.milestones = 6, ()
    config.compile.remat = remat
    spoil(config, tmp_path / "run", change)
    assert first_layer(config, tmp_path / "run") == message


@pytest.mark.slow
def test_parameters_that_the_update_spoils_are_found(config, tmp_path):
    config.steps, config.optimizer.milestones = 6, ()
    spoil(config, tmp_path / "run", lambda params: None)
    config.optimizer.learning_rate, config.optimizer.weight_decay = 3e38, 1e10
    found = first_layer(config, tmp_path / "run")
    assert found == (
        "Step 6: all outputs and gradients are finite, but the update makes the parameters of stem/conv non-finite."
    )
    config.optimizer.learning_rate, config.optimizer.weight_decay = 0.03, 1e-4
    assert first_layer(config, tmp_path / "run") == "All steps up to 6 are finite when they are repeated."
