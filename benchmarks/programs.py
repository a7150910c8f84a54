"""What the compilers of GPUs and TPUs make of our programs, by their word: nothing is measured, no device is needed.

    make programs                                                       # their compilers, once
    python -m benchmarks.programs                                       # all programs of all targets: hours
    python -m benchmarks.programs --target=gpu:h100 --net=residual-56 --batch=128

The functions that train and evaluate are compiled as they are, the most important ones first, each in a process of its
own. What is recorded is compiled again only if the program has changed, so the command may be stopped and started.
benchmarks/records has one file for each target; ``python -m benchmarks.table`` makes the table of docs/scaling.md.
"""

import functools
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app, flags
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from benchmarks import compiled, measure, targets
from configs import recipes
from resnet_jax import data, models
from resnet_jax.errors import UserError
from resnet_jax.rundir import write_json
from resnet_jax.training import optimizer, parallel
from resnet_jax.training.program import Program, make_program
from resnet_jax.training.step import StepInputs, TrainState

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_compilation_cache", False)  # It would keep what cannot be read back, and hide the times.

TARGETS = ("gpu:h100", "tpu:v5e:2x2", "gpu:h200", "gpu:a100", "gpu:h100:8", "tpu:v4:2x2x1", "tpu:v5e:16x16")
STEPS_PER_DISPATCH = 100  # What a run makes of examples that lie on the device; a stream feeds one step at a time.
CIFAR_EXAMPLES = 60_000
# Assumed, between the 2 us that a launch costs from a CUDA graph and the 4 us it costs without.
LAUNCH_SECONDS = 2.5e-6

_CIFAR = [
    functools.partial(recipes.cifar, depth, residual) for depth in (20, 56, 110, 1202) for residual in (False, True)
]
_IMAGENET = [functools.partial(recipes.imagenet, depth, True) for depth in (50, 152)]
_ZOO: list[Callable[[], ConfigDict]] = [
    functools.partial(recipes.preact, 110),
    functools.partial(recipes.wide, 16, 4),
    functools.partial(recipes.densenet, 100, compression=0.5),
    functools.partial(recipes.inception, 44, True),
    functools.partial(recipes.imagenet_modern, 50, order="preactivation"),
    functools.partial(recipes.imagenet_densenet, 121),
    functools.partial(recipes.imagenet_inception, "inception_v4", 76, False),
    functools.partial(recipes.imagenet_inception, "inception_resnet_v2", 176, True),
]
NETS = {models.title(recipe().model): recipe for recipe in (*_CIFAR, *_IMAGENET, *_ZOO)}


class Case(NamedTuple):
    """A program to compile.

    Attributes:
      net: its name in ``NETS``.
      batch: images of each device.
      blocks: "looped" or "unrolled".
      step: "training" or "evaluation".
      mapper: as of ``config.parallel.mapper``.
    """

    net: str
    batch: int
    blocks: str = "looped"
    step: str = "training"
    mapper: str = "shard_map"


def cases() -> list[Case]:
    """Return all programs, the most important first."""
    main = ("residual-20", "residual-56", "residual-50")
    listed = [Case(net, batch, blocks) for blocks in ("looped", "unrolled") for net in main for batch in (128, 32)]
    listed += [Case(net, 128, step="evaluation") for net in main]
    listed += [Case(net, 128, mapper="pmap") for net in main]
    listed += [Case(net, 32) for net in map(models.title, (recipe().model for recipe in _ZOO))]
    listed += [Case(net, batch) for batch in (128, 32) for net in NETS if net not in {case.net for case in listed}]
    return listed


class Lowered(NamedTuple):
    """A program in the language of the compilers.

    Attributes:
      program: to compile.
      steps: that it makes.
      facts: what is known of it beforehand.
      seconds: that it took to trace.
    """

    program: jax.stages.Lowered
    steps: int
    facts: dict[str, Any]
    seconds: float


def lower(case: Case, mesh: Mesh) -> Lowered:
    """Return the program of ``case`` for the devices of ``mesh``, which need not exist."""
    config = NETS[case.net]()
    config.dtype = "bfloat16"
    config.batch_size = case.batch * mesh.size
    config.compile.unroll = case.blocks == "unrolled"
    config.parallel.mapper = case.mapper
    streamed = config.data.image_size is not None
    image_shape, classes = data.shape(config.data)
    program = make_program(config, classes, mesh)
    state = state_shapes(config, program, image_shape)
    examples = abstract(example_shapes(config, image_shape, classes), mesh)
    training = case.step == "training"
    steps = STEPS_PER_DISPATCH if training and not streamed else 1
    of_steps = (steps,) if training else ()
    size = (*of_steps, config.batch_size)
    labels = jax.ShapeDtypeStruct(size, np.int32)
    batch = (jax.ShapeDtypeStruct((*size, *image_shape), np.uint8), labels) if streamed else labels
    shares = (None,) * len(of_steps) + (parallel.AXIS,)
    arguments = [state, examples, abstract(batch, mesh, *shares)]
    if not training:
        arguments.append(abstract(jax.ShapeDtypeStruct(size, np.float32), mesh, *shares))
    start = time.perf_counter()
    lowered = (program.train_steps if training else program.eval_step).lower(*arguments)
    seconds = time.perf_counter() - start
    multiply_adds = models.totals(models.describe(program.model, image_shape))[1]
    facts = {
        "image": "x".join(map(str, image_shape)),
        "examples": "streamed" if streamed else "resident",
        "steps a dispatch": steps,
        "parameters and statistics": sum(leaf.size for leaf in jax.tree.leaves((state.params, state.batch_stats))),
        # Two for a multiply-add; the gradients by activations and by kernels cost as much as the forward pass each.
        "operations a step": (6 if training else 2) * multiply_adds * case.batch,
    }
    return Lowered(lowered, steps, facts, seconds)


def state_shapes(config: ConfigDict, program: Program, image_shape: tuple[int, ...]) -> TrainState:
    """Return the state that ``program`` trains, of which no array has values."""

    def state() -> TrainState:
        variables = models.initial_variables(program.model, config.seed, image_shape)
        descent = optimizer.descent(config.optimizer, program.rate)
        params = variables["params"]
        return TrainState(np.zeros((), np.int32), params, variables.get("batch_stats", {}), descent.init(params))

    return abstract(jax.eval_shape(state), program.mesh)


def example_shapes(config: ConfigDict, image_shape: tuple[int, ...], classes: int) -> StepInputs:
    """Return what every step of ``config`` reads; in place of the examples are shapes, if they lie on the device."""
    one = data.Split(np.zeros((1, *image_shape), np.uint8), np.zeros(1, np.int32))
    mean, std = data.normalisation(data.Dataset(classes, {"train": one}), config.data)
    images = labels = None
    if config.data.image_size is None:
        images = jax.ShapeDtypeStruct((CIFAR_EXAMPLES, *image_shape), np.uint8)
        labels = jax.ShapeDtypeStruct((CIFAR_EXAMPLES,), np.int32)
    return StepInputs(images, labels, mean, np.uint32(config.seed), std=std)


def abstract(tree: Any, mesh: Mesh, *axes: str | None) -> Any:
    """Return the shapes and types of the arrays of ``tree``, divided along ``axes`` over the devices of ``mesh``."""
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def report(executable: jax.stages.Compiled, lowered: Lowered, target: targets.Target) -> dict[str, Any]:
    """Return what the compiler of ``target`` says of ``executable``, to which ``lowered`` compiled.

    All figures are of one device, and all but memory of one step.
    """
    program = compiled.CompiledProgram(executable.as_text())
    memory = executable.memory_analysis()
    needed = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )
    work = compiled.work(program)
    measured = "kernels" if target.kind == "gpu" else "cycles"
    kinds = sorted(work, key=lambda kind: -getattr(work[kind], measured))
    total = compiled.Work(*(sum(part) / lowered.steps for part in zip(*work.values(), strict=True)))
    if target.kind == "gpu":
        seconds = gpu_seconds(program, target.chip) / lowered.steps
    else:
        seconds = total.cycles / target.chip.clock
    bounds = {
        "arithmetic": lowered.facts["operations a step"] / target.chip.peak,
        "memory": total.bytes / target.chip.bandwidth,
    }
    bound_by = max(bounds, key=lambda name: bounds[name])
    return {
        "memory": {
            "arguments": memory.argument_size_in_bytes,
            "temporaries": memory.temp_size_in_bytes,
            "all": needed,
            "of the device": target.chip.memory,
            "fits": needed <= target.chip.memory,
        },
        "collectives": {
            kind: {name: value / lowered.steps for name, value in each._asdict().items()}
            for kind, each in compiled.collectives(program).items()
        },
        "host transfers": compiled.host_transfers(program) / lowered.steps,
        "loops of unknown length": program.unknown_loops(),
        measured: round(getattr(total, measured), 1),
        "bytes": round(total.bytes),
        "kinds": {
            kind: {
                measured: round(getattr(work[kind], measured) / lowered.steps, 1),
                "bytes": round(work[kind].bytes / lowered.steps),
            }
            for kind in kinds
            if getattr(work[kind], measured)
        },
        "estimated ms": 1e3 * seconds,
        "bound ms": 1e3 * bounds[bound_by],
        "bound by": bound_by,
    }


def gpu_seconds(program: compiled.CompiledProgram, chip: targets.Chip) -> float:
    """Return the seconds for which ``program`` runs if a kernel takes as long as its launch or as moving its bytes."""
    return sum(
        times * max(LAUNCH_SECONDS, program.moved_bytes(name, kernel) / chip.bandwidth)
        for name, kernel, times in program.runs()
    )


def record_path(target: str) -> pathlib.Path:
    """Return the file of the records of ``target``."""
    return measure.RECORDS / f"programs-{target.replace(':', '-')}.json"


def recorded(target: str) -> list[dict[str, Any]]:
    """Return what is recorded of the programs of ``target``."""
    path = record_path(target)
    return json.loads(path.read_text())["results"]["programs"] if path.exists() else []


def record(target: str, case: Case, result: dict[str, Any]) -> None:
    """Record ``result`` of ``case`` in place of what is recorded of it."""
    entry = {**case._asdict(), **result}
    entries = recorded(target)
    place = next((i for i, other in enumerate(entries) if is_of(other, case)), len(entries))
    entries[place : place + 1] = [entry]
    results = {"target": target, "programs": entries}
    write_json(record_path(target), measure.record("programs", results))


def is_of(entry: dict[str, Any], case: Case) -> bool:
    """Return whether ``entry`` is recorded of ``case``."""
    return all(entry[name] == value for name, value in case._asdict().items())


def compile_one(target: targets.Target, case: Case, limit: float, texts: pathlib.Path | None = None) -> None:
    """Compile ``case`` for ``target`` and record it, unless that has been done.

    Args:
      target: to compile for.
      case: to compile.
      limit: seconds after which compilation is given up, and the process ends.
      texts: folder that keeps the text of the compiled program.
    """
    lowered = lower(case, parallel.device_mesh(target.devices()))
    key = hashlib.sha256(f"{target}{jax.__version__}{lowered.program.as_text()}".encode()).hexdigest()[:16]
    if any(is_answered(entry, case, key, limit) for entry in recorded(target.name)):
        print(f"{title(target.name, case)}: is recorded")
        return
    result = {"key": key, **lowered.facts, "tracing (s)": round(lowered.seconds, 1)}

    def give_up() -> None:
        record(target.name, case, result | {"not compiled within (s)": limit})
        print(f"{title(target.name, case)}: not compiled within {limit:g} s")
        os._exit(0)  # The compiler cannot be interrupted.

    timer = threading.Timer(limit, give_up)
    timer.start()
    start = time.perf_counter()
    try:
        executable = target.compile(lowered.program)
    except jax.errors.JaxRuntimeError as error:
        result["error"] = str(error).splitlines()[0]
    else:
        result["compiling (s)"] = round(time.perf_counter() - start, 1)
        result |= report(executable, lowered, target)
        if texts:
            texts.mkdir(parents=True, exist_ok=True)
            (texts / f"{re.sub(r'[^a-z0-9]+', '-', title(target.name, case).lower())}.txt").write_text(
                executable.as_text()
            )
    finally:
        timer.cancel()
    record(target.name, case, result)
    print(summary(target, case, result))


def summary(target: targets.Target, case: Case, result: dict[str, Any]) -> str:
    """Return ``result`` of ``case`` for ``target`` as lines of text."""
    if "error" in result:
        return f"{title(target.name, case)}: {result['error']}"
    unit = "kernels" if target.kind == "gpu" else "cycles"
    lines = [
        f"{title(target.name, case)}: compiled in {result['compiling (s)']} s, {result['memory']['all'] / 1e9:.2f} GB, "
        f"{result['estimated ms']:.2f} ms estimated, {result['bound ms']:.2f} ms bound by {result['bound by']}",
        f"{'a step':28} {unit:>12} {'MB':>10}",
    ]
    for kind, each in {"all": result, **result["kinds"]}.items():
        lines.append(f"{kind:28} {each[unit]:12,.1f} {each['bytes'] / 1e6:10,.2f}")
    return "\n".join(lines)


def is_answered(entry: dict[str, Any], case: Case, key: str, limit: float) -> bool:
    """Return whether ``entry`` is of ``case`` with the program of ``key``, and no longer ``limit`` could say more."""
    return is_of(entry, case) and entry["key"] == key and entry.get("not compiled within (s)", limit) >= limit


def title(target: str, case: Case) -> str:
    """Return ``case`` for ``target`` in words."""
    return f"{target}, {case.net}, {case.batch} images a device, {case.blocks}, {case.step}, {case.mapper}"


_TARGET = flags.DEFINE_list("target", list(TARGETS), "Targets to compile for.")
_NET = flags.DEFINE_list("net", [], "Nets to compile; by default all.")
_BATCH = flags.DEFINE_list("batch", [], "Images of each device; by default all.")
_BLOCKS = flags.DEFINE_enum("blocks", None, ["looped", "unrolled"], "By default both.")
_STEP = flags.DEFINE_enum("step", None, ["training", "evaluation"], "By default both.")
_MAPPER = flags.DEFINE_enum("mapper", None, parallel.MAPPERS, "By default both.")
_LIMIT = flags.DEFINE_float("limit", 1800.0, "Seconds after which a program is given up.")
_TEXTS = flags.DEFINE_string("texts", None, "Folder that keeps the texts of the compiled programs.")
_ONE = flags.DEFINE_string("one", None, "The one case to compile in this process, as JSON; for the first target.")


def chosen() -> list[Case]:
    """Return the cases that the flags choose."""
    wanted = {"net": _NET.value, "batch": [int(size) for size in _BATCH.value]}
    wanted |= {flag.name: [flag.value] if flag.value else [] for flag in (_BLOCKS, _STEP, _MAPPER)}
    return [
        case for case in cases() if all(not values or getattr(case, name) in values for name, values in wanted.items())
    ]


def main(_: list[str]) -> int:
    """Compile each program in a process of its own; return the exit status."""
    try:
        compile_targets = [targets.target(name) for name in _TARGET.value]
        if _ONE.value:
            texts = pathlib.Path(_TEXTS.value) if _TEXTS.value else None
            compile_one(compile_targets[0], Case(*json.loads(_ONE.value)), _LIMIT.value, texts)
            return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for case in chosen():
        for target in _TARGET.value:
            command = [sys.executable, "-m", "benchmarks.programs", f"--target={target}", f"--one={json.dumps(case)}"]
            command += [f"--limit={_LIMIT.value}"] + ([f"--texts={_TEXTS.value}"] if _TEXTS.value else [])
            status = subprocess.run(command, check=False).returncode
            if status == 2:
                return status
    return 0


if __name__ == "__main__":
    app.run(main)
