"""Dropout, and that its draws depend only on the key and the example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from resnet_jax.models.layers.dropout import Dropout
from tests.models.nets import quick_jit


def dropped(rate=0.25, shape=(64, 4, 4, 8), key=0, dtype=np.float32, **options):
    layer = Dropout(rate, train=True, **options)
    return quick_jit(lambda x, key: layer.apply({}, x, rngs={"dropout": key}))(
        jnp.ones(shape, dtype), jax.random.key(key)
    )


def test_a_share_of_the_activations_is_zeroed_and_the_others_are_scaled_up():
    y = np.asarray(dropped())
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert np.mean(y == 0) == pytest.approx(0.25, abs=0.02)
    assert np.any(dropped(key=1) != y)
    assert np.any(y[0] != y[1])
    assert dropped(dtype=jnp.bfloat16).dtype == jnp.bfloat16


@pytest.mark.parametrize(("rate", "train"), [(0.25, False), (0.0, True)])
def test_in_evaluation_and_at_rate_0_nothing_is_zeroed(rate, train):
    x = jnp.ones((2, 3))
    assert Dropout(rate, train).apply({}, x) is x


@pytest.mark.devices(2)
def test_two_devices_zero_what_one_would():
    mesh = Mesh(np.array(jax.devices()), ("devices",))

    def share(x, key):
        return Dropout(0.5, train=True, axis_name="devices").apply({}, x, rngs={"dropout": key})

    batch = PartitionSpec("devices")
    mapped = quick_jit(jax.shard_map(share, mesh=mesh, in_specs=(batch, PartitionSpec()), out_specs=batch))
    x = jnp.ones((8, 4, 4, 2))
    np.testing.assert_array_equal(mapped(x, jax.random.key(0)), dropped(0.5, x.shape))
