"""A function of one device, mapped over all devices.

A step is written for one device with a named axis; ``jax.shard_map`` (the default) or ``jax.pmap`` runs it on every
device and gives the same numbers. Plain ``jax.jit`` over a sharded batch would be another algorithm: every batch norm
would normalise over the whole batch, where the paper's, and pmap's, normalises over each device's share.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "devices"
MAPPERS = ("shard_map", "pmap")


def device_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return a mesh of ``devices``, by default all devices of all processes, along the one axis ``AXIS``."""
    count = jax.device_count() if devices is None else len(devices)
    return jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def platform(mesh: Mesh) -> str:
    """Return the platform of the devices of ``mesh``: "cpu", "gpu" or "tpu"."""
    return mesh.devices.flat[0].platform


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Return ``tree``, whose arrays are equal in all processes, with every array whole on every device of ``mesh``."""
    sharding = NamedSharding(mesh, PartitionSpec())

    def place(leaf: np.ndarray) -> jax.Array:
        # Not device_put, which would make the processes compare their arrays first.
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(lambda leaf: place(np.asarray(leaf)), tree)


def shard(arrays: Any, mesh: Mesh, batch_axis: int) -> Any:
    """Return ``arrays``, this process's share of a batch, as arrays over the devices of ``mesh`` of all processes."""
    sharding = NamedSharding(mesh, PartitionSpec(*[None] * batch_axis, AXIS))
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, array), arrays)


def map_over_devices(
    function: Callable[..., Any],
    mesh: Mesh,
    mapper: str,
    batch_arguments: int,
    batch_axis: int = 0,
    donate_state: bool = False,
    own_batches: bool = False,
) -> Callable[..., Any]:
    """Return ``function(state, examples, *batch)`` compiled for all devices of ``mesh``.

    Args:
      function: gets its device's share of each batch argument and returns values that are equal on all devices; inside
        it the axis ``AXIS`` is bound.
      mesh: the devices.
      mapper: "shard_map" or "pmap".
      batch_arguments: number of arguments after state and examples; these arrays, or trees of arrays, are divided among
        the devices.
      batch_axis: the axis along which they are divided.
      donate_state: whether the result may take over the memory of the state.
      own_batches: whether each process passes its own share of a batch (for "shard_map" as ``shard`` returns it); else
        every process passes the whole batch.

    Returns:
      The function, with a method ``lower`` like a function compiled by ``jax.jit``.
    """
    donated = (0,) if donate_state else ()
    if mapper == "shard_map":
        share = PartitionSpec(*[None] * batch_axis, AXIS)
        in_specs = (PartitionSpec(), PartitionSpec(), *[share] * batch_arguments)
        mapped = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=PartitionSpec())
        return jax.jit(mapped, donate_argnums=donated)
    in_axes = (None, None, *[batch_axis] * batch_arguments)
    devices = list(mesh.devices.flat)
    own = [place for place, device in enumerate(devices) if device.process_index == jax.process_index()]
    mapped = jax.pmap(function, AXIS, in_axes=in_axes, out_axes=None, devices=devices, donate_argnums=donated)

    whole = NamedSharding(mesh, PartitionSpec())

    def as_global(array: jax.Array) -> jax.Array:
        shards = [shard.data for shard in array.addressable_shards]
        return jax.make_array_from_single_device_arrays(array.shape, whole, shards)

    def divide(part: Any) -> Any:
        """Return this process's share of ``part``, with one more axis, for its devices."""
        before, after = part.shape[:batch_axis], part.shape[batch_axis + 1 :]
        if own_batches:
            return part.reshape(*before, len(own), -1, *after)
        return part.reshape(*before, mesh.size, -1, *after).take(np.array(own), batch_axis)

    def call(state: Any, examples: Any, *batch: Any) -> Any:
        result = mapped(state, examples, *jax.tree.map(divide, batch))
        # pmap returns arrays of only this process; checkpoints need arrays over the devices of all processes.
        return result if len(own) == mesh.size else jax.tree.map(as_global, result)

    def lower(state: Any, examples: Any, *batch: Any) -> jax.stages.Lowered:
        return mapped.lower(state, examples, *jax.eval_shape(lambda *parts: jax.tree.map(divide, parts), *batch))

    call.lower = lower  # type: ignore[attr-defined]
    return call
