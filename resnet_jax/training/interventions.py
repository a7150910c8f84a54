"""Interventions of a config: the gates of its blocks over the steps of a run, and what of the net is trained."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.config import changed_fields, shown
from resnet_jax.errors import UserError
from resnet_jax.models.gates import ROUTES, Gate
from resnet_jax.models.stage import Path, assemble


class GateSchedule(NamedTuple):
    """The gates of a run: constant, then moving linearly, then constant.

    Attributes:
      first: collection "gates" of the net up to step ``begin``.
      last: the same from step ``end`` on.
      begin: float32 scalar, steps made.
      end: float32 scalar, steps made.
    """

    first: Any
    last: Any
    begin: Any
    end: Any


class Interventions(NamedTuple):
    """What a config changes in how its net is trained, as arrays that the compiled step takes as arguments.

    Attributes:
      gates: of the blocks; None for the ungated net.
      trainable: a bool for each parameter, one for each block where blocks are stacked; None if all are trained.
    """

    gates: GateSchedule | None
    trainable: Any


def interventions_of(config: ConfigDict, model: nn.Module, image_shape: tuple[int, ...]) -> Interventions:
    """Return the interventions of ``config`` on its net ``model`` for images ``(height, width, channels)``.

    Raises:
      UserError: they do not fit the net.
    """
    check_gates(config)
    is_gated, frozen_below = bool(changed_fields(config, "gates")), config.optimizer.frozen_below
    if not is_gated and frozen_below is None:
        return Interventions(None, None)
    blocks = [layer.name for layer in models.walk(model, image_shape) if layer.is_block]
    if not blocks:
        raise UserError(
            f"{models.title(config.model)} has no modules named block0, block1, ..., which config.gates and "
            "config.optimizer.frozen_below are for; leave them out."
        )
    if frozen_below is not None and frozen_below not in blocks:
        raise UserError(
            f"config.optimizer.frozen_below={frozen_below!r} is no block of {models.title(config.model)}, whose blocks "
            f"are {blocks[0]} to {blocks[-1]}."
        )
    gates = schedule_of(config, model, image_shape, blocks) if is_gated else None
    return Interventions(gates, frozen_below and trainable_from(frozen_below, model, image_shape))


def check_gates(config: ConfigDict) -> None:
    """Raise a UserError if ``config`` has gates and its net no shortcuts for them."""
    changed = changed_fields(config, "gates")
    if changed and not (config.model.residual and models.FAMILIES[config.model.family].has_gates):
        name = next(iter(changed))
        raise UserError(
            f"config.{name}={shown(changed[name])} is for blocks with shortcuts, which "
            f"{models.title(config.model)} has not; leave it out."
        )


def schedule_of(config: ConfigDict, model: nn.Module, image_shape: tuple[int, ...], blocks: list[str]) -> GateSchedule:
    """Return the gates of ``config`` for ``blocks``, those of ``model`` by name as "stage2/block3".

    Raises:
      UserError: the factors are not as many as the stages.
    """
    stages = list(dict.fromkeys(block.partition("/")[0] for block in blocks))
    by_stage = [dict(zip(stages, gates, strict=True)) for gates in stage_gates(config.gates, len(stages))]
    first, last = (
        models.gate_blocks(model, image_shape, {block: gates[block.partition("/")[0]] for block in blocks})
        for gates in by_stage
    )
    begin, end = (np.float32(fraction * config.steps) for fraction in config.gates.phase)
    return GateSchedule(first, last, begin, end)


def stage_gates(config: ConfigDict, stages: int) -> tuple[list[Gate], list[Gate]]:
    """Return the gates of each stage before and after the phase.

    Args:
      config: the ``gates`` part of a run's config.
      stages: of the net.

    Raises:
      UserError: the factors are not as many as the stages.
    """
    route = ROUTES[config.route]

    def numbers(name: str) -> tuple[float, ...]:
        factors = tuple(config[name])
        if len(factors) not in (1, stages):
            raise UserError(
                f"config.gates.{name}={shown(factors)} has {len(factors)} numbers; give one, or one for each of the "
                f"{stages} stages."
            )
        return factors * stages if len(factors) == 1 else factors

    fields = ("shortcut_factor", "shortcut_gradient", "branch_factor", "branch_gradient")
    factors = list(zip(*map(numbers, fields), strict=True))

    def gates(multiples: tuple[float, ...]) -> list[Gate]:
        scaled = [np.multiply(each, multiples).tolist() for each in factors]
        return [
            Gate(
                route.shortcut * shortcut,
                route.shortcut_gradient * shortcut * gradient,
                route.branch * branch,
                route.branch_gradient * branch_gradient,
            )
            for shortcut, gradient, branch, branch_gradient in scaled
        ]

    return gates((1, 1, 1, 1)), gates(tuple(config.final))


def gates_at(schedule: GateSchedule | None, step: jax.typing.ArrayLike) -> Any:
    """Return the collection "gates" after ``step`` steps, None without gates."""
    if schedule is None:
        return None
    share = jnp.clip((step - schedule.begin) / (schedule.end - schedule.begin), 0, 1)

    def between(first: Any, last: Any) -> jax.Array:
        return jnp.where(share == 1, last, first + share * (last - first))  # Exact at both ends.

    return jax.tree.map(between, schedule.first, schedule.last)


def trainable_from(block: str, model: nn.Module, image_shape: tuple[int, ...]) -> Any:
    """Return which parameters of ``model`` are trained if all before ``block`` in the forward pass are frozen.

    Returns:
      For each parameter a bool in an array of as many axes, of which only that of stacked blocks is longer than 1.
    """

    def leaves() -> Iterator[tuple[Path, int | None, np.ndarray]]:
        reached = False
        for layer in models.walk(model, image_shape):
            reached = reached or f"{layer.name}/".startswith(f"{block}/")
            for (collection, name), variable in layer.variables.items():
                if collection == "params":
                    yield (*layer.path, name), layer.block, np.full([1] * len(variable.shape), reached)

    return assemble(leaves())
