"""What the benchmarks share: a net to measure, interleaved timing, and records."""

import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from resnet_jax import data
from resnet_jax.backend import keep_freed_memory
from resnet_jax.safe_files import write_json
from resnet_jax.sweeps.local import available_cores
from resnet_jax.training import feed
from resnet_jax.training.program import Program, make_program
from resnet_jax.training.step import StepInputs, TrainState

RECORDS = pathlib.Path(__file__).parent / "records"
PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "torch",
    "torchvision",
    "tensorflow",
    "tensorflow-cpu",
    "grain",
    "pillow",
    "simplejpeg",
    "cykooz.resizer",
    "jax-cuda13-plugin",
    "libtpu",
)


class Subject(NamedTuple):
    """A net that is ready to be trained.

    Attributes:
      program: of its config.
      state: initial.
      examples: on the devices.
      train: the training examples, on the host.
    """

    program: Program
    state: TrainState
    examples: StepInputs
    train: data.Split


def subject(config: ConfigDict, mesh: Mesh | None = None) -> Subject:
    """Return the net of ``config`` on the digits or, for any other data set, on noise of the size of CIFAR-10.

    ``mesh`` holds the devices to train on, by default all.
    """
    keep_freed_memory()
    if config.data.name == "digits":
        dataset = data.load(config.data)
    else:
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8)
        splits = {"train": data.Split(images, random.integers(0, 10, 10_000).astype(np.int32))}
        dataset = data.Dataset(tuple("0123456789"), splits)
    program = make_program(config, 10, mesh)
    examples, _ = feed.place(dataset, data.normalisation(dataset, config.data), config.seed, program.mesh)
    return Subject(program, program.init(dataset.splits["train"].images.shape[1:]), examples, dataset.splits["train"])


def in_turn(contestants: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each of ``contestants``, which take turns, so that disturbances affect all alike.

    The first call of each, which compiles, does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for contestant in contestants.values():
        contestant()
    for _ in range(rounds):
        for name, contestant in contestants.items():
            start = time.perf_counter()
            contestant()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def on_one_core_and_all(module: str) -> dict[str, Any]:
    """Return the output of ``python -m module --results`` on all cores, with that on one core as "one core"."""
    cores = available_cores()
    results = []
    for count in (len(cores), 1):
        os.sched_setaffinity(0, cores[:count])
        try:
            done = subprocess.run([sys.executable, "-m", module, "--results"], stdout=subprocess.PIPE, check=True)
        finally:
            os.sched_setaffinity(0, cores)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    return results[0] | {"one core": results[1]["nets"]}


def hardware() -> dict[str, Any]:
    """Return a description of the hardware."""
    processor = platform.machine()
    if pathlib.Path("/proc/cpuinfo").exists():
        names = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
        processor = names[1] if names else processor
    return {
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processor": processor,
        "cores": len(available_cores()),
    }


def short_name(hardware: Mapping[str, Any]) -> str:
    """Return ``hardware`` in a few words, such as "2 CPU cores" or "NVIDIA H200"."""
    if hardware["backend"] == "cpu":
        return f"{hardware['cores']} CPU core{'s' if hardware['cores'] != 1 else ''}"
    return f"{hardware['devices']} x {hardware['device']}" if hardware["devices"] > 1 else hardware["device"]


def record(benchmark: str, results: Any) -> dict[str, Any]:
    """Return ``results`` of ``benchmark`` with hardware, versions and date."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "benchmark": benchmark,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "hardware": hardware(),
        "versions": versions,
        "results": results,
    }


def save(benchmark: str, results: Any) -> None:
    """Write the record of ``results`` of ``benchmark`` to ``RECORDS``, and print them."""
    whole = record(benchmark, results)
    RECORDS.mkdir(exist_ok=True)
    path = RECORDS / f"{benchmark}-{re.sub(r'[^a-z0-9]+', '-', short_name(whole['hardware']).lower())}.json"
    write_json(path, whole)
    print(json.dumps(results, indent=1))
    print(f"Recorded in {path}")


def read(benchmark: str) -> list[dict[str, Any]]:
    """Return the records of ``benchmark``, one per kind of hardware."""
    return [json.loads(path.read_text()) for path in sorted(RECORDS.glob(f"{benchmark}-*.json"))]
