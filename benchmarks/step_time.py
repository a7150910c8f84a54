"""Time of a training step, compared with PyTorch and with the bound set by the hardware.

    python -m benchmarks.step_time

Ours and the peer (benchmarks/peer.py) start from the same weights and take turns in one process, on the same examples
with the same augmentation, loss and update. On an accelerator both compute convolutions in bfloat16, the peer eagerly
and compiled with CUDA graphs, and ours takes 100 steps per dispatch; on a CPU both compute in float32.

The bound is the larger of two times: all operations at the rate of a large matrix product, and all bytes that the
compiled program moves (as counted by XLA) at the rate of a large copy, both rates measured here. On a CPU it is the
first only, because most bytes come from caches.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from ml_collections import ConfigDict

from benchmarks import measure, peer
from configs import recipes
from resnet_jax import models
from resnet_jax.data import sampling
from resnet_jax.models.layers import onednn
from resnet_jax.training import convolutions
from resnet_jax.training.program import make_program

ON_CPU = jax.default_backend() == "cpu"
# Recipe, depth, steps per turn.
CPU_NETS = [(recipes.digits, 20, 20), (recipes.digits, 56, 10), (recipes.cifar, 20, 4)]
ACCELERATOR_NETS = [(recipes.cifar, 20, 200), (recipes.cifar, 56, 200), (recipes.cifar, 110, 200)]
ROUNDS = 7


def compare(recipe: Callable[[int, bool], ConfigDict], depth: int, steps: int, rates: dict[str, float]) -> dict:
    """Return the measurements of one net."""
    config = recipe(depth, True)
    config.dtype = "float32" if ON_CPU else "bfloat16"
    dispatch = 1 if ON_CPU else 100
    subject = measure.subject(config)
    shape = subject.train.images.shape[1:]
    form = convolutions.form_of_new_run(config, shape, jax.default_backend())
    state = subject.state
    variables = jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
    batches = sampling.batch_indices(0, range(steps), config.batch_size, len(subject.train.labels))

    def ours() -> None:
        nonlocal state
        for part in batches.reshape(-1, dispatch, config.batch_size):
            with onednn.computed_by(form):
                state, metrics = subject.program.train_steps(state, subject.examples, part)
        jax.block_until_ready(metrics)

    def theirs(compiled: bool) -> Callable[[], None]:
        net = peer.PeerNet(depth, True, shape[-1])
        net.load(variables)
        augmentation = {"padding": config.data.padding, "flip": config.data.flip}
        device = "cpu" if ON_CPU else "cuda"
        mean = np.asarray(subject.examples.mean)
        settings = {**augmentation, "mixed": not ON_CPU, "compiled": compiled, "device": device}
        step = peer.make_step(net, subject.train.images, subject.train.labels, mean, **settings)

        def turn() -> None:
            for batch in batches:
                loss = step(batch)
            loss.item()

        return turn

    contestants = {"ours": ours, "peer": theirs(compiled=False)}
    if not ON_CPU:
        contestants["compiled peer"] = theirs(compiled=True)
    seconds = measure.in_turn(contestants, ROUNDS)
    operations, moved = work_of_a_step(config, subject)
    bounds = {"operations": operations / rates["operations a second"]}
    if not ON_CPU:
        bounds["bytes"] = moved / rates["bytes a second"]
    bound_by = max(bounds, key=lambda name: bounds[name])
    bound = bounds[bound_by]
    result: dict[str, Any] = {
        "net": f"residual-{depth}, {'x'.join(map(str, shape))}",
        "dtype": config.dtype,
        "convolutions": form,
        "batch": config.batch_size,
        "ms a step": {name: round(1e3 * value / steps, 3) for name, value in seconds.items()},
        "images a second": round(config.batch_size * steps / seconds["ours"]),
        "operations a step": operations,
        "bytes a step": moved,
        "bound (ms)": round(1e3 * bound, 3),
        "bound by": bound_by,
        "ours to bound": round(seconds["ours"] / steps / bound, 2),
    }
    for name in contestants:
        if name != "ours":
            result[f"ours to {name}"] = round(seconds["ours"] / seconds[name], 2)
    return result


def work_of_a_step(config: ConfigDict, subject: measure.Subject) -> tuple[int, int]:
    """Return floating-point operations (two per multiply-add, times three for the gradients) and bytes moved."""
    shape = subject.train.images.shape[1:]
    multiply_adds = models.totals(models.describe(subject.program.model, shape))[1]
    unrolled = ConfigDict(config.to_dict())
    unrolled.compile.unroll = True  # XLA counts the body of a loop once.
    program = make_program(unrolled, 10)
    indices = np.zeros((1, config.batch_size), np.int32)
    compiled = program.train_steps.lower(subject.state, subject.examples, indices).compile()
    return 6 * multiply_adds * config.batch_size, int(compiled.cost_analysis()["bytes accessed"])


def rates_of_this_machine(dtype: Any) -> dict[str, float]:
    """Return operations per second of a large matrix product, and bytes read and written per second of a large copy."""
    size = 2048 if ON_CPU else 8192
    matrix = jnp.ones((size, size), dtype)
    array = jnp.ones((64 if ON_CPU else 1024) * 2**20, jnp.float32)
    multiply, add = jax.jit(lambda x: x @ x), jax.jit(lambda x: x + 1, donate_argnums=0)

    def copy() -> None:
        nonlocal array
        array = jax.block_until_ready(add(array))

    product = {"product": lambda: jax.block_until_ready(multiply(matrix)), "copy": copy}
    seconds = measure.in_turn(product, rounds=20)
    return {
        "operations a second": 2 * size**3 / seconds["product"],
        "bytes a second": 2 * array.nbytes / seconds["copy"],
    }


def results_here() -> dict[str, Any]:
    """Return the measurements of the nets for this hardware, on the cores that this process may use."""
    torch.set_num_threads(measure.hardware()["cores"])
    rates = rates_of_this_machine(jnp.float32 if ON_CPU else jnp.bfloat16)
    return {"rates": rates, "nets": [compare(*net, rates) for net in (CPU_NETS if ON_CPU else ACCELERATOR_NETS)]}


def main() -> None:
    """Measure the nets for this hardware, on a CPU on one core too."""
    if sys.argv[1:] == ["--results"]:
        print(json.dumps(results_here()))
        return
    measure.save("step_time", measure.on_one_core_and_all("benchmarks.step_time") if ON_CPU else results_here())


if __name__ == "__main__":
    main()
