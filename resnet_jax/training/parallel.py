"""One per-device step, mapped over all devices.

The step is written for one device with a named axis; ``jax.shard_map`` (the default) or ``jax.pmap`` runs it on every
device with the same numbers. Plain ``jax.jit`` over a sharded batch would not do: it makes every batch norm one over
the whole batch, where the paper's, and pmap's, is over each device's share.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from resnet_jax.errors import UserError

AXIS = "devices"
MAPPERS = ("shard_map", "pmap")


def device_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return ``devices``, by default all of all processes, along the one axis ``AXIS``."""
    count = jax.device_count() if devices is None else len(devices)
    return jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Return ``tree``, of arrays that are equal in all processes, with every leaf whole on every device of ``mesh``."""
    sharding = NamedSharding(mesh, PartitionSpec())

    def place(leaf: np.ndarray) -> jax.Array:
        # Not by device_put, which would let the processes compare their arrays first.
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(lambda leaf: place(np.asarray(leaf)), tree)


def shard(arrays: Any, mesh: Mesh, batch_axis: int) -> Any:
    """Return ``arrays``, this process's shares of a batch, as arrays of all processes on the devices of ``mesh``."""
    sharding = NamedSharding(mesh, PartitionSpec(*[None] * batch_axis, AXIS))
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, array), arrays)


def any_process(flag: bool, mesh: Mesh) -> jax.Array | bool:
    """Return whether ``flag`` holds in any process, all of which must ask; read it late, the devices work it out."""
    if jax.process_count() == 1:
        return flag
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    flags = jax.make_array_from_callback((mesh.size,), sharding, lambda _: np.array([flag]))
    return _any(flags)


_any = jax.jit(jax.numpy.any)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Run the body in every process; a UserError in one becomes one in all, so that none waits for it in vain."""
    error = None
    try:
        yield
    except UserError as mistake:
        error = mistake
    if jax.process_count() > 1:
        failed = np.flatnonzero(multihost_utils.process_allgather(np.array(error is not None)))
        if error is None and len(failed):
            raise UserError(f"process {failed[0]} of this run has stopped and says why; mend that and start all again.")
    if error is not None:
        raise error


def map_over_devices(
    function: Callable[..., Any],
    mesh: Mesh,
    mapper: str,
    batch_arguments: int,
    batch_axis: int = 0,
    donate_state: bool = False,
    own_batches: bool = False,
) -> Callable[..., Any]:
    """Return ``function(state, data, *batch)`` compiled for all devices of ``mesh``.

    Args:
      function: sees its device's share of each batch argument and returns what is equal on all devices; inside it the
        axis ``AXIS`` is bound.
      mesh: the devices.
      mapper: "shard_map" or "pmap".
      batch_arguments: how many arrays, or trees of them, follow state and data; the devices divide their batch.
      batch_axis: which axis of these is the batch.
      donate_state: whether the memory of the state is given to the result.
      own_batches: whether each process has its own share of a batch (for "shard_map" as ``shard`` returns it), instead
        of all the same whole.
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

    def as_one_of_all(array: jax.Array) -> jax.Array:
        shards = [shard.data for shard in array.addressable_shards]
        return jax.make_array_from_single_device_arrays(array.shape, whole, shards)

    def divide(part: np.ndarray) -> np.ndarray:
        """Return ``part`` with an axis of this process's devices."""
        before, after = part.shape[:batch_axis], part.shape[batch_axis + 1 :]
        if own_batches:
            return part.reshape(*before, len(own), -1, *after)
        return part.reshape(*before, mesh.size, -1, *after).take(own, batch_axis)

    def call(state: Any, data: Any, *batch: Any) -> Any:
        result = mapped(state, data, *jax.tree.map(divide, batch))
        # What pmap returns is of this process; checkpoints are of arrays that all processes have together.
        return result if len(own) == mesh.size else jax.tree.map(as_one_of_all, result)

    return call
