"""The newest checkpoint of a run, for those who go on from its net: another run, evaluation, surgery."""

import pathlib
from typing import Any

import flax.linen as nn
import jax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from resnet_jax import data, models, registry
from resnet_jax.config import check
from resnet_jax.errors import UserError
from resnet_jax.models import Layer
from resnet_jax.rundir import KEPT, MADE_BY_SURGERY, read_config, read_summary, saved_steps
from resnet_jax.training.checkpoints import Checkpoints
from resnet_jax.training.optimizer import evaluated_params
from resnet_jax.training.program import Program, build_net, initial_state
from resnet_jax.training.step import TrainState, without_optimizer


def newest_state(
    workdir: pathlib.Path, config: ConfigDict, model: nn.Module, mesh: Mesh, image_shape: tuple[int, ...]
) -> TrainState:
    """Return the state in the newest intact checkpoint of the run in ``workdir``, which may still be training.

    Args:
      workdir: the run directory; nothing in it is changed.
      config: of the run.
      model: of the run.
      mesh: the devices on which the state is placed.
      image_shape: ``(height, width, channels)``.

    Raises:
      UserError: the run has no intact checkpoint.
    """
    restored = None
    if (workdir / "checkpoints").is_dir():
        with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
            restored = checkpoints.restore(initial_state(config, model, mesh, image_shape))
    if restored is None:
        raise UserError(f"{workdir} has no checkpoint yet; continue its training or use another run.")
    state, _ = restored
    logging.info("%s: using the checkpoint of step %d", workdir, int(state.step))
    return state


def state_after(
    workdir: pathlib.Path, config: ConfigDict, model: nn.Module, mesh: Mesh, image_shape: tuple[int, ...], step: int
) -> TrainState:
    """Return the state of the run in ``workdir`` after ``step`` steps; of a kept net it is without the optimiser's.

    The arguments are those of ``newest_state``.

    Raises:
      UserError: the run has no intact checkpoint of this step, and the step is not 0, or the initial values of the run
        do not follow from its seed.
    """
    template = initial_state(config, model, mesh, image_shape)
    for folder, like in (("checkpoints", template), (KEPT, without_optimizer(template))):
        if step in saved_steps(workdir, folder):
            with Checkpoints(workdir / folder, read_only=True) as checkpoints:
                return checkpoints.restore_step(step, like)
    there = available_steps(workdir, config)
    if step in there:  # Step 0: as drawn.
        return template
    raise UserError(
        f"{workdir} has no net of step {step}, only of {', '.join(map(str, there)) or 'none'}; "
        "config.keep_checkpoints keeps the nets of the steps it names."
    )


def available_steps(workdir: pathlib.Path, config: ConfigDict) -> list[int]:
    """Return the steps of which ``state_after`` has the net, rising: step 0 is drawn again from the seed."""
    drawn = [0] if config.from_run is None and config.model.init != "lsuv" and not is_made(workdir) else []
    return sorted({*drawn, *saved_steps(workdir), *saved_steps(workdir, KEPT)})


def variables_of(config: ConfigDict, program: Program, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the variables from which the run of ``config`` starts: those that ``config.from_run`` evaluates.

    Args:
      config: of the run that starts.
      program: of the run that starts.
      image_shape: of its images, ``(height, width, channels)``.

    Returns:
      ``{"params": ..., "batch_stats": ...}`` on the host.

    Raises:
      UserError: ``config.from_run`` is no run directory, has no checkpoint, or holds a net of other layers.
    """
    workdir = pathlib.Path(config.from_run.replace("{seed}", str(config.seed)))
    recorded = read_config(workdir)
    if recorded is None:
        raise UserError(f"config.from_run={workdir} is not a run directory; give one like runs/NAME.")
    registry.check_definitions(recorded.registered, workdir)
    other = recorded.config
    check(other, devices=1)
    if other.data.name == config.data.name:
        other.data.data_dir = config.data.data_dir  # The data may have moved since.
    other_shape, other_classes = data.shape(other.data)
    other_model = build_net(other, other_classes)
    here, there = (models.walk(*net) for net in ((program.model, image_shape), (other_model, other_shape)))
    difference = first_difference(here, there)
    if difference is not None:
        raise UserError(
            f"config.from_run={workdir} holds {models.title(other.model)}, but this run trains "
            f"{models.title(config.model)}; they differ in {difference}: give a run of a net with the same layers."
        )
    state = newest_state(workdir, other, other_model, program.mesh, other_shape)
    params = evaluated_params(state.params, state.opt_state)
    return jax.device_get({"params": params, "batch_stats": state.batch_stats})


def is_made(workdir: pathlib.Path) -> bool:
    """Return whether ``workdir`` holds a net that surgery made, which no seed draws."""
    summary = read_summary(workdir)
    return summary is not None and summary["status"] == MADE_BY_SURGERY


def first_difference(here: list[Layer], there: list[Layer]) -> str | None:
    """Return the first layer in which two nets differ, and how, as in "head (bias 10 here, bias 100 there)"."""
    shapes = [{layer.name: shapes_of(layer) for layer in layers if layer.variables} for layers in (here, there)]
    for name in shapes[0] | shapes[1]:
        own, other = (each.get(name, "none") for each in shapes)
        if own != other:
            return f"{name} ({own} here, {other} there)"
    return None


def shapes_of(layer: Layer) -> str:
    """Return the shapes of the variables of ``layer``, as in "kernel 3x3x16x16"."""
    variables = sorted((name, variable.shape) for (_, name), variable in layer.variables.items())
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in variables)
