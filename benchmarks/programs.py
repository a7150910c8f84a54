"""What the compilers of GPUs and TPUs make of training and evaluation; neither device is needed.

    make programs                                       # the compilers, once, and all programs: hours
    python -m benchmarks.programs --target=gpu:h100 --net=residual-56
"""

import argparse
import hashlib
import time
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from benchmarks import compiled, targets
from configs import recipes
from resnet_jax import data, models
from resnet_jax.training import optimizer, parallel
from resnet_jax.training.program import Program, make_program
from resnet_jax.training.step import StepInputs, TrainState

jax.config.update("jax_platforms", "cpu")
STEPS = 100
EXAMPLES = 60_000


def abstract(tree: Any, mesh: Mesh, *spec: Any) -> Any:
    """Return ``tree`` with arrays in place of all arrays that have shape and type, but no values."""
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def state_of(config: ConfigDict, program: Program, image_shape: tuple[int, ...]) -> TrainState:
    def initial() -> TrainState:
        variables = models.initial_variables(program.model, config.seed, image_shape)
        params = variables["params"]
        descent = optimizer.descent(config.optimizer, program.rate)
        return TrainState(np.zeros((), np.int32), params, variables.get("batch_stats", {}), descent.init(params))

    return abstract(jax.eval_shape(initial), program.mesh)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", default="gpu:h100")
    parser.add_argument("--depth", type=int, default=56)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--unroll", action="store_true")
    parser.add_argument("--imagenet", action="store_true")
    parser.add_argument("--text")
    args = parser.parse_args()
    target = targets.target(args.target)
    mesh = parallel.device_mesh(target.devices())
    config = (recipes.imagenet if args.imagenet else recipes.cifar)(args.depth, True)
    config.dtype = "bfloat16"
    config.batch_size = args.batch * mesh.size
    config.compile.unroll = args.unroll
    shape, classes = data.shape(config.data)
    program = make_program(config, classes, mesh)
    state = state_of(config, program, shape)
    sample = data.Dataset(classes, {"train": data.Split(np.zeros((1, *shape), np.uint8), np.zeros(1, np.int32))})
    mean, std = data.normalisation(sample, config.data)
    streamed = config.data.image_size is not None
    steps = 1 if streamed else STEPS
    images = jax.ShapeDtypeStruct((EXAMPLES, *shape), np.uint8)
    labels = jax.ShapeDtypeStruct((EXAMPLES,), np.int32)
    if streamed:
        images = labels = None
        batch = (
            jax.ShapeDtypeStruct((1, config.batch_size, *shape), np.uint8),
            jax.ShapeDtypeStruct((1, config.batch_size), np.int32),
        )
    else:
        batch = jax.ShapeDtypeStruct((steps, config.batch_size), np.int32)
    inputs = abstract(StepInputs(images, labels, mean, np.uint32(0), std=std), mesh)
    start = time.perf_counter()
    lowered = program.train_steps.lower(state, inputs, abstract(batch, mesh, None, parallel.AXIS))
    print("traced in", round(time.perf_counter() - start, 1), hashlib.sha256(lowered.as_text().encode()).hexdigest()[:12])
    start = time.perf_counter()
    executable = target.compile(lowered)
    print("compiled in", round(time.perf_counter() - start, 1))
    print(executable.memory_analysis())
    text = executable.as_text()
    if args.text:
        open(args.text, "w").write(text)
    read = compiled.CompiledProgram(text)
    work = compiled.work(read)
    print(f"{'a step':28} {'kernels':>9} {'MB':>10} {'kcycles':>10}   (loops of unknown length: {read.unknown_loops()})")
    total = [sum(each[part] for each in work.values()) / steps for part in range(3)]
    print(f"{'all':28} {total[0]:9.1f} {total[1] / 1e6:10.2f} {total[2] / 1e3:10.1f}")
    for kind, each in sorted(work.items(), key=lambda item: -max(item[1].cycles, item[1].kernels)):
        print(f"{kind:28} {each.kernels / steps:9.1f} {each.bytes / steps / 1e6:10.2f} {each.cycles / steps / 1e3:10.1f}")


if __name__ == "__main__":
    main()
