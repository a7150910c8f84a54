"""Interventions of a config: the gates of its blocks over the steps of a run, and the trained part of the net."""

import itertools
from collections.abc import Iterator, Sequence
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
from resnet_jax.models.stacking import Path, assemble, stage_of

# The fields of ``config.gates`` that multiply the four numbers of a gate, in their order.
FACTORS = ("shortcut_factor", "shortcut_gradient", "branch_factor", "branch_gradient")


class GateSchedule(NamedTuple):
    """The gates of a run: constant, then moving linearly, then constant.

    Attributes:
      first: collection "gates" of the net up to step ``begin``.
      last: the same after step ``end``.
      begin: float32 scalar, steps made.
      end: float32 scalar, steps made.
    """

    first: Any
    last: Any
    begin: Any
    end: Any


class Interventions(NamedTuple):
    """Changes of a config to the training of its net: arrays that are arguments of the compiled step.

    Attributes:
      gates: gates of the blocks; None for the ungated net.
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
    blocks = models.block_names(model, image_shape)
    if not blocks:
        raise UserError(
            f"{models.title(config.model)} has no blocks, modules named 'block' and a number, which config.gates and "
            "config.optimizer.frozen_below are for; leave them out."
        )
    if frozen_below is not None and frozen_below not in blocks:
        raise UserError(
            f"config.optimizer.frozen_below={frozen_below!r} is not a block of {models.title(config.model)}; "
            f"valid blocks: {blocks[0]} to {blocks[-1]}."
        )
    gates = schedule_of(config, model, image_shape, blocks) if is_gated else None
    return Interventions(gates, frozen_below and trainable_from(frozen_below, model, image_shape))


def check_gates(config: ConfigDict) -> None:
    """Raise a UserError if ``config`` has gates that its net cannot have.

    They need shortcuts, and where blocks are dropped they must leave them: a dropped block is only its shortcut.
    """
    changed = changed_fields(config, "gates")
    if changed and not (config.model.residual and models.FAMILIES[config.model.family].has_gates):
        name = next(iter(changed))
        raise UserError(
            f"config.{name}={shown(changed[name])} needs blocks with shortcuts, which "
            f"{models.title(config.model)} does not have; leave it out."
        )
    removing = [name for name, value in changed.items() if removes_shortcuts(name, value)]
    if removing and config.model.survival < 1:
        raise UserError(
            f"config.{removing[0]}={shown(changed[removing[0]])} removes shortcuts, but with "
            f"config.model.survival={config.model.survival} a dropped block is only its shortcut; leave one of the two "
            "out."
        )


def removes_shortcuts(name: str, value: Any) -> bool:
    """Return whether ``value`` of field ``name`` multiplies shortcuts by 0, at least at the end of the phase."""
    match name:
        case "gates.route":
            return bool(ROUTES[value].shortcut == 0)
        case "gates.without":
            return value != "none"
        case "gates.shortcut_factor":
            return 0 in value
        case "gates.final":
            return value[0] == 0
    return False


# The patterns of ``config.gates.without``: from the names of all blocks in forward order to those without a shortcut.


def no_block(blocks: Sequence[str]) -> set[str]:
    """Return no block."""
    return set()


def every_second(blocks: Sequence[str]) -> set[str]:
    """Return the 2nd, 4th, ... of ``blocks``, counted through the whole net."""
    return set(blocks[1::2])


def all_but_first(blocks: Sequence[str]) -> set[str]:
    """Return each of ``blocks`` that follows another of its stage."""
    return {block for before, block in itertools.pairwise(blocks) if stage_of(before) == stage_of(block)}


def last_stage(blocks: Sequence[str]) -> set[str]:
    """Return the ``blocks`` of the last stage."""
    return {block for block in blocks if stage_of(block) == stage_of(blocks[-1])}


PATTERNS = {"none": no_block, "every_second": every_second, "all_but_first": all_but_first, "last_stage": last_stage}


def schedule_of(config: ConfigDict, model: nn.Module, image_shape: tuple[int, ...], blocks: list[str]) -> GateSchedule:
    """Return the gates of ``config`` for ``blocks``, the names of the blocks of ``model``.

    Raises:
      UserError: the factors are not as many as the stages or the blocks.
    """
    first, last = (models.gate_blocks(model, image_shape, gates) for gates in block_gates(config.gates, blocks))
    begin, end = (np.float32(fraction * config.steps) for fraction in config.gates.phase)
    return GateSchedule(first, last, begin, end)


def block_gates(config: ConfigDict, blocks: list[str]) -> tuple[dict[str, Gate], dict[str, Gate]]:
    """Return the gate of each block before and after the phase, by name.

    Args:
      config: the ``gates`` part of a run's config.
      blocks: names of all blocks in forward order.

    Raises:
      UserError: the factors are not as many as the stages or the blocks.
    """
    route, removed = ROUTES[config.route], PATTERNS[config.without](blocks)
    factors = np.stack([by_block(config, name, blocks) for name in FACTORS], axis=1)  # [blocks, 4]
    factors[[block in removed for block in blocks], FACTORS.index("shortcut_factor")] = 0

    def gates(multiples: tuple[float, ...]) -> dict[str, Gate]:
        return {
            block: Gate(
                route.shortcut * shortcut,
                route.shortcut_gradient * shortcut * gradient,
                route.branch * branch,
                route.branch_gradient * branch_gradient,
            )
            for block, (shortcut, gradient, branch, branch_gradient) in zip(
                blocks, (factors * multiples).tolist(), strict=True
            )
        }

    return gates((1, 1, 1, 1)), gates(tuple(config.final))


def by_block(config: ConfigDict, name: str, blocks: list[str]) -> np.ndarray:
    """Return factor ``name`` of ``config``, the ``gates`` part of a run's config, for each of ``blocks``: ``[blocks]``.

    Raises:
      UserError: its numbers are not one, nor as many as the stages or the blocks.
    """
    numbers, stages = np.array(config[name], float), list(dict.fromkeys(map(stage_of, blocks)))
    if len(numbers) == len(blocks):
        return numbers
    if len(numbers) == len(stages):
        return numbers[[stages.index(stage_of(block)) for block in blocks]]
    if len(numbers) == 1:
        return numbers.repeat(len(blocks))
    raise UserError(
        f"config.gates.{name}={shown(config[name])} has {len(numbers)} numbers; give one, or one for each of the "
        f"{len(stages)} stages or the {len(blocks)} blocks, which --describe lists."
    )


def gates_at(schedule: GateSchedule | None, step: jax.typing.ArrayLike) -> Any:
    """Return the collection "gates" after ``step`` steps, None without gates."""
    if schedule is None:
        return None
    share = jnp.clip((step - schedule.begin) / (schedule.end - schedule.begin), 0, 1)

    def between(first: Any, last: Any) -> jax.Array:
        return jnp.where(share == 1, last, first + share * (last - first))  # Exact at both ends.

    return jax.tree.map(between, schedule.first, schedule.last)


def trainable_from(block: str, model: nn.Module, image_shape: tuple[int, ...]) -> Any:
    """Return a bool for each parameter of ``model``: False for those before ``block`` in the forward pass.

    Returns:
      For each parameter an array with as many axes as it has; only the axis of stacked blocks is longer than 1.
    """

    def leaves() -> Iterator[tuple[Path, int | None, np.ndarray]]:
        reached = False
        for layer in models.walk(model, image_shape):
            reached = reached or f"{layer.name}/".startswith(f"{block}/")
            for (collection, name), variable in layer.variables.items():
                if collection == "params":
                    yield (*layer.path, name), layer.block, np.full([1] * len(variable.shape), reached)

    return assemble(leaves())
