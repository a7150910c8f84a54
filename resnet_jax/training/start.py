"""The newest checkpoint of a run, for everything that continues from its net: another run, evaluation, surgery."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from resnet_jax import data, identity, models, registry
from resnet_jax.config import check
from resnet_jax.errors import UserError
from resnet_jax.identity import Identity
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
      config: config of the run.
      model: net of the run.
      mesh: the devices on which the state is placed.
      image_shape: ``(height, width, channels)``.

    Raises:
      UserError: the run has no intact checkpoint.
    """
    restored = None
    if (workdir / "checkpoints").is_dir():
        with Checkpoints(workdir / "checkpoints", read_only=True, run=identity.of_run(workdir)) as checkpoints:
            restored = checkpoints.restore(initial_state(config, model, mesh, image_shape))
    if restored is None:
        raise no_checkpoint(workdir)
    state, _ = restored
    logging.info("%s: using the checkpoint of step %d", workdir, int(state.step))
    return state


def state_after(
    workdir: pathlib.Path, config: ConfigDict, model: nn.Module, mesh: Mesh, image_shape: tuple[int, ...], step: int
) -> TrainState:
    """Return the state of the run in ``workdir`` after ``step`` steps; a kept net has no optimiser state.

    Arguments as in ``newest_state``.

    Raises:
      UserError: the run has no intact checkpoint of this step, and the step is not 0, or the initial values of the run
        do not follow from its seed.
    """
    template = initial_state(config, model, mesh, image_shape)
    for folder, like in (("checkpoints", template), (KEPT, without_optimizer(template))):
        if step in saved_steps(workdir, folder):
            with Checkpoints(workdir / folder, read_only=True, run=identity.of_run(workdir)) as checkpoints:
                return checkpoints.restore_step(step, like)
    there = available_steps(workdir, config)
    if step in there:  # Step 0: as drawn.
        return template
    raise UserError(
        f"{workdir} has no net of step {step}, only of {', '.join(map(str, there)) or 'none'}; "
        "config.keep_checkpoints keeps the nets of the steps it names."
    )


def available_steps(workdir: pathlib.Path, config: ConfigDict) -> list[int]:
    """Return the steps whose net ``state_after`` can return, in rising order: step 0 is drawn again from the seed."""
    drawn = [0] if config.from_run is None and config.model.init != "lsuv" and not is_made_by_surgery(workdir) else []
    return sorted({*drawn, *saved_steps(workdir), *saved_steps(workdir, KEPT)})


def variables_of(
    config: ConfigDict, program: Program, image_shape: tuple[int, ...], class_names: Sequence[str]
) -> dict[str, Any]:
    """Return the variables from which the run of ``config`` starts: the variables that ``config.from_run`` evaluates.

    Args:
      config: config of the run that starts.
      program: program of the run that starts.
      image_shape: shape of its images, ``(height, width, channels)``.
      class_names: class names of its data.

    Returns:
      ``{"params": ..., "batch_stats": ...}`` on the host.

    Raises:
      UserError: ``config.from_run`` is not a run directory, has no checkpoint, or has other layers or classes.
    """
    source = source_of(config, program.model, image_shape, class_names)
    state = newest_state(source.workdir, source.config, source.model, program.mesh, source.image_shape)
    params = evaluated_params(state.params, state.opt_state)
    return jax.device_get({"params": params, "batch_stats": state.batch_stats})


class Source(NamedTuple):
    """The run from whose newest checkpoint another starts.

    Attributes:
      workdir: its run directory.
      config: its config.
      model: its net.
      image_shape: shape of its images, ``(height, width, channels)``.
    """

    workdir: pathlib.Path
    config: ConfigDict
    model: nn.Module
    image_shape: tuple[int, ...]


def source_path(config: ConfigDict) -> pathlib.Path:
    """Return the run directory that ``config.from_run`` names."""
    return pathlib.Path(config.from_run.replace("{seed}", str(config.seed)))


def source_of(
    config: ConfigDict,
    model: nn.Module,
    image_shape: tuple[int, ...],
    class_names: Sequence[str] | None,
    planned: ConfigDict | None = None,
) -> Source:
    """Return the run from which the run of ``config`` starts; no checkpoint is read.

    Args:
      config: config of the run that starts.
      model: its net.
      image_shape: shape of its images, ``(height, width, channels)``.
      class_names: class names of its data; None if they are unknown, and so not compared.
      planned: config of the other run if that is still to be trained, so that it has no run directory yet.

    Raises:
      UserError: ``config.from_run`` is not a run directory, has no checkpoint, or has other layers or classes.
    """
    workdir = source_path(config)
    if planned is None:
        other, recorded = recorded_run(workdir, f"config.from_run={workdir}")
        if not saved_steps(workdir):
            raise no_checkpoint(workdir)
    else:
        other, recorded = planned.copy_and_resolve_references(), None
    if other.data.name == config.data.name:
        other.data.data_dir = config.data.data_dir  # The data may have moved since.
    if recorded is None:
        other_shape, other_classes = data.shape(other.data)
    else:
        names = recorded.data["class_names"]
        if class_names is not None:
            identity.check_classes(names, class_names, f"config.from_run={workdir}")
        other_shape, other_classes = tuple(recorded.data["image_shape"]), len(names)
    other_model = build_net(other, other_classes)
    here, there = (models.walk(*net) for net in ((model, image_shape), (other_model, other_shape)))
    difference = first_difference(here, there)
    if difference is not None:
        raise UserError(
            f"config.from_run={workdir} holds {models.title(other.model)}, but this run trains "
            f"{models.title(config.model)}; they differ in {difference}: give a run of a net with the same layers."
        )
    return Source(workdir, other, other_model, other_shape)


def no_checkpoint(workdir: pathlib.Path) -> UserError:
    """Return the error that the run in ``workdir`` has saved no checkpoint."""
    return UserError(f"{workdir} has no checkpoint yet; continue its training or use another run.")


def recorded_run(workdir: pathlib.Path, named: str) -> tuple[ConfigDict, Identity | None]:
    """Return the config of the run in ``workdir`` and its identity, None if that is not recorded.

    Args:
      workdir: the run directory.
      named: beginning of messages, as "--run=runs/a".

    Raises:
      UserError: there is no run, its config has been changed, or it uses other definitions than those here.
    """
    there = read_config(workdir)
    if there is None:
        raise UserError(f"{named} is not a run directory; give one like runs/NAME.")
    registry.check_definitions(there.registered, workdir)
    check(there.config, devices=1)
    models.build(there.config.model, num_classes=1)  # Refuses a depth that the family does not have.
    recorded = identity.read(workdir)
    if recorded is None:
        logging.warning("%s was made before runs recorded data and classes, so that these are not compared", workdir)
    else:
        identity.check_config(recorded, there.config, workdir)
    return there.config, recorded


def is_made_by_surgery(workdir: pathlib.Path) -> bool:
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
