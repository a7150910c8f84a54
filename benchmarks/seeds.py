"""Time to train five seeds of one net at once, relative to one seed.

    python -m benchmarks.seeds

Three ways: an ensemble axis in one program (vmap), one seed after another in one program (lax.map), and five processes
at once, as `experiments.sweep --workers=5` trains them. Without any gain, five seeds take 5 times as long.
"""

import functools
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import measure
from configs import recipes
from resnet_jax.data import sampling
from resnet_jax.training import optimizer, parallel
from resnet_jax.training.program import make_program
from resnet_jax.training.step import DeviceAugmentation, StepInputs, TrainState, train_steps

SEEDS = 5
ON_CPU = jax.default_backend() == "cpu"
STEPS = 10 if ON_CPU else 400
ROUNDS = 5


def config_of_benchmark(seed: int = 0) -> ConfigDict:
    """Return the config that is trained: on a CPU one of the digits."""
    config = recipes.digits(20, True) if ON_CPU else recipes.cifar(20, True)
    config.dtype = "float32" if ON_CPU else "bfloat16"
    config.seed = seed
    return config


def batches(seed: int, config: ConfigDict, examples: int) -> np.ndarray:
    """Return the examples of all steps of a turn."""
    return sampling.batch_indices(seed, range(STEPS), config.batch_size, examples)


class OneSeed:
    """Trains one seed; a turn is ``STEPS`` steps."""

    def __init__(self, seed: int) -> None:
        config = config_of_benchmark(seed)
        self.subject = measure.subject(config)
        self._state = self.subject.state
        self._batches = batches(seed, config, len(self.subject.train.labels))

    def __call__(self) -> None:
        self._state, metrics = self.subject.program.train_steps(self._state, self.subject.examples, self._batches)
        jax.block_until_ready(metrics)


def ensemble(first: measure.Subject, way: str) -> Any:
    """Return a function that takes the steps of a turn for all seeds in one program."""
    config = config_of_benchmark()
    mesh = first.program.mesh
    rate = optimizer.learning_rate(config.optimizer, config.model.depth, config.steps)
    settings = {
        "model": first.program.model,
        "optimizer": optimizer.descent(config.optimizer, rate),
        "augmentation": DeviceAugmentation.of(config.data),
        "sync_batch_norm": False,
    }
    step = functools.partial(train_steps, **settings)

    def all_seeds(state: TrainState, examples: StepInputs, indices: jax.Array) -> Any:
        def one(state: TrainState, seed: jax.Array, indices: jax.Array) -> Any:
            return step(state, examples._replace(seed=seed), indices)

        if way == "vmap":
            return jax.vmap(one)(state, examples.seed, indices)
        return jax.lax.map(lambda arguments: one(*arguments), (state, examples.seed, indices))

    mapped = parallel.map_over_devices(all_seeds, mesh, "shard_map", batch_arguments=1, batch_axis=2)
    image_shape = first.train.images.shape[1:]
    states = [make_program(config_of_benchmark(seed), 10).init(image_shape) for seed in range(SEEDS)]
    state = parallel.replicate(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), mesh)
    examples = first.examples._replace(seed=parallel.replicate(np.arange(SEEDS, dtype=np.uint32), mesh))
    indices = np.stack([batches(seed, config, len(first.train.labels)) for seed in range(SEEDS)])

    def turn() -> None:
        nonlocal state
        state, metrics = mapped(state, examples, indices)
        jax.block_until_ready(metrics)

    return turn


def work(seed: int) -> None:
    """Run as one of several processes: for each line of standard input take a turn and print "done"."""
    turn = OneSeed(seed)
    turn()
    print("ready", flush=True)
    for _ in sys.stdin:
        turn()
        print("done", flush=True)


class SeveralPrograms:
    """Trains all seeds, each in its own process."""

    def __init__(self) -> None:
        environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        command = [sys.executable, "-m", "benchmarks.seeds"]
        self._workers = [
            subprocess.Popen(
                [*command, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            for seed in range(SEEDS)
        ]
        self._wait()

    def _wait(self) -> None:
        for worker in self._workers:
            assert worker.stdout is not None
            assert worker.stdout.readline()

    def __call__(self) -> None:
        for worker in self._workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
        self._wait()

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.communicate()


def main() -> None:
    """Measure all three ways and one seed."""
    if len(sys.argv) == 2:
        work(int(sys.argv[1]))
        return
    one = OneSeed(0)
    several = SeveralPrograms()
    contestants = {
        "one seed": one,
        "five programs at once": several,
        "five by lax.map": ensemble(one.subject, "map"),
        "five by vmap": ensemble(one.subject, "vmap"),
    }
    seconds = measure.in_turn(contestants, ROUNDS)
    several.close()
    config = config_of_benchmark()
    results = {
        "net": f"residual-{config.model.depth}, {config.data.name}, batch {config.batch_size}",
        "ms a step of one seed": round(1e3 * seconds["one seed"] / STEPS, 2),
        "times the time of one seed": {
            name: round(value / seconds["one seed"], 2) for name, value in seconds.items() if name != "one seed"
        },
    }
    measure.save("seeds", results)


if __name__ == "__main__":
    main()
