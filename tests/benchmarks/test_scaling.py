"""The bytes that devices exchange in a step."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import scaling
from benchmarks.programs.compiled import CompiledProgram, collectives

pytestmark = pytest.mark.devices(8)


def exchanges(function, *arguments):
    mesh = jax.make_mesh((8,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec()
    mapped = jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    return collectives(CompiledProgram(jax.jit(mapped).lower(*arguments).compile().as_text()))


def test_all_reduced_arrays_are_counted_and_others_not():
    x, y = jnp.ones((10, 3)), jnp.ones(7, jnp.int32)
    both = exchanges(lambda x, y: jax.lax.psum((x, y), "devices"), x, y)
    assert both.keys() == {"all-reduce"}
    assert both["all-reduce"].bytes == 4 * (30 + 7)
    assert exchanges(lambda x: x + 1, x) == {}


def test_a_step_exchanges_its_gradients_statistics_loss_and_error_and_nothing_else():
    exchange = scaling.exchange(8)
    assert exchange["bytes all-reduced a step"] == exchange["bytes of parameters and statistics"] + 8
