"""Several seeds of one net as one program whose convolutions pack the seeds into channels.

    python -m benchmarks.pack

The seeds of a group share one convolution with a block-diagonal kernel, of up to ``WIDTH`` channels: one kernel of a
GPU where each seed would take one of its own, for the price of products with zeros. Compared are a single seed, all by
``vmap``, whose convolutions are grouped, and all packed; five programs at once are in ``benchmarks.seeds``. Packing is
worth an option of ``experiments.sweep`` from a third of the time of one seed after another on.
"""

import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import measure
from configs import recipes
from resnet_jax import models
from resnet_jax.models.layers import conv
from resnet_jax.training.step import loss_fn

ON_CPU = jax.default_backend() == "cpu"
WIDTH = 128
ROUNDS = 5
STEPS = 2 if ON_CPU else 100
SEEDS = (4,) if ON_CPU else (4, 8, 16)


def packed(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **_: Any) -> jax.Array:
    """Convolve, under ``vmap`` over both arguments by block-diagonal kernels."""
    convolve = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    call = jax.custom_batching.custom_vmap(convolve)

    @call.def_vmap
    def batched(seeds: int, is_mapped: list[bool], x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, bool]:
        if not all(is_mapped):
            return jax.vmap(convolve, [0 if each else None for each in is_mapped])(x, kernel), True
        rows, columns, channels, features = kernel.shape[1:]
        together = max(
            each for each in range(1, seeds + 1) if seeds % each == 0 and each * channels <= max(WIDTH, channels)
        )
        groups = seeds // together
        blocks = jnp.einsum(
            "gshwcf,st->hwscgtf", kernel.reshape(groups, together, *kernel.shape[1:]), jnp.eye(together)
        )
        y = convolve(
            jnp.moveaxis(x, 0, 3).reshape(*x.shape[1:4], -1),
            blocks.reshape(rows, columns, together * channels, seeds * features).astype(kernel.dtype),
            feature_group_count=groups,
        )
        return jnp.moveaxis(y.reshape(*y.shape[:3], seeds, features), 3, 0), True

    return call(x, kernel)


def stepper(depth: int, seeds: int | None, convolve: Callable[..., jax.Array]) -> tuple[Callable[[], None], list[Any]]:
    """Return a function that takes ``STEPS`` steps with all ``seeds``, None: with one alone, and the list of losses."""
    config = recipes.cifar(depth, True)
    dtype = "float32" if ON_CPU else "bfloat16"
    model = models.build(config.model, 10, dtype)
    shape, batch = (32, 32, 3), 16 if ON_CPU else config.batch_size
    random = np.random.default_rng(0)
    images = jnp.asarray(random.normal(size=(seeds or 1, batch, *shape)), jnp.float32)
    labels = jnp.asarray(random.integers(0, 10, (seeds or 1, batch)))
    every = [models.initial_variables(model, seed, shape) for seed in range(seeds or 1)]
    variables = jax.tree.map(lambda *leaves: jnp.stack(leaves), *every)
    sgd = optax.sgd(0.01, momentum=0.9)

    def loss_of_all(params: Any, stats: Any, images: jax.Array, labels: jax.Array) -> Any:
        compute = functools.partial(loss_fn, model=model)
        losses, (_, moved) = jax.vmap(compute)(params, stats, images, labels)
        return losses.sum(), (losses, moved["batch_stats"])

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, images: jax.Array, labels: jax.Array) -> Any:
        params, stats, momentum = state
        (_, (losses, stats)), gradients = jax.value_and_grad(loss_of_all, has_aux=True)(params, stats, images, labels)
        updates, momentum = sgd.update(gradients, momentum)
        return (optax.apply_updates(params, updates), stats, momentum), losses

    state = variables["params"], variables["batch_stats"], sgd.init(variables["params"])
    recorded: list[Any] = []

    def turn() -> None:
        nonlocal state
        for _ in range(STEPS):
            with mock.patch.object(conv, "convolve", convolve):
                state, losses = step(state, images, labels)
            recorded.append(losses)
        jax.block_until_ready(losses)

    return turn, recorded


def compare(depth: int, seeds: int) -> dict[str, Any]:
    """Return the times of all ways to train ``seeds`` seeds, each divided by the time of one seed after another."""
    one, _ = stepper(depth, None, conv.convolve)
    ways = {"vmap": stepper(depth, seeds, conv.convolve), "packed": stepper(depth, seeds, packed)}
    seconds = measure.in_turn({"one": one} | {name: turn for name, (turn, _) in ways.items()}, ROUNDS)
    first = {name: np.asarray(losses[0]) for name, (_, losses) in ways.items()}
    np.testing.assert_allclose(first["packed"], first["vmap"], rtol=1e-4 if ON_CPU else 2e-2)
    return {
        "net": f"residual-{depth}, 32x32x3",
        "seeds": seeds,
        "ms a step of one seed": round(1e3 * seconds["one"] / STEPS, 2),
        "to one seed after another": {name: round(seconds[name] / seeds / seconds["one"], 2) for name in ways},
    }


def main() -> None:
    """Measure and record."""
    nets = [compare(depth, seeds) for depth in ((20,) if ON_CPU else (20, 56)) for seeds in SEEDS]
    measure.save("pack", {"width": WIDTH, "nets": nets})


if __name__ == "__main__":
    main()
