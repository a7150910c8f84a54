"""One per-device step, mapped over all devices.

The step is written for one device with a named axis; ``jax.shard_map`` (the default) or ``jax.pmap`` runs it on every
device with the same numbers. Plain ``jax.jit`` over a sharded batch would not do: it makes every batch norm one over
the whole batch, where the paper's, and pmap's, is over each device's share.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "devices"
MAPPERS = ("shard_map", "pmap")


def device_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return ``devices``, by default all of all processes, along the one axis ``AXIS``."""
    count = jax.device_count() if devices is None else len(devices)
    return jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Return ``tree`` with every leaf whole on every device of ``mesh``."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def map_over_devices(
    function: Callable[..., Any],
    mesh: Mesh,
    mapper: str,
    batch_arguments: int,
    batch_axis: int = 0,
    donate_state: bool = False,
) -> Callable[..., Any]:
    """Return ``function(state, data, *batch)`` compiled for all devices of ``mesh``.

    Args:
      function: sees its device's share of each batch argument and returns what is equal on all devices; inside it the
        axis ``AXIS`` is bound.
      mesh: the devices.
      mapper: "shard_map" or "pmap".
      batch_arguments: how many arrays follow state and data of which the devices divide the batch.
      batch_axis: which axis of these is the batch.
      donate_state: whether the memory of the state is given to the result.
    """
    donated = (0,) if donate_state else ()
    if mapper == "shard_map":
        whole, share = PartitionSpec(), PartitionSpec(*[None] * batch_axis, AXIS)
        mapped = jax.shard_map(
            function, mesh=mesh, in_specs=(whole, whole, *[share] * batch_arguments), out_specs=whole
        )
        return jax.jit(mapped, donate_argnums=donated)
    in_axes = (None, None, *[batch_axis] * batch_arguments)
    devices = list(mesh.devices.flat)
    mapped = jax.pmap(function, AXIS, in_axes=in_axes, out_axes=None, devices=devices, donate_argnums=donated)

    def call(state: Any, data: Any, *batch: np.ndarray) -> Any:
        before, after = slice(batch_axis), slice(batch_axis + 1, None)
        shares = (part.reshape(*part.shape[before], mesh.size, -1, *part.shape[after]) for part in batch)
        return mapped(state, data, *shares)

    return call
