"""Time of a training step on a CPU by kind of operation, from JAX's profiler.

    python -m benchmarks.cpu_profile

All operations are timed except convolutions, which run in the background: they are the rest of the step.
"""

import collections
import gzip
import json
import pathlib
import re
import tempfile
from typing import Any

import jax
from ml_collections import ConfigDict

from benchmarks import measure
from configs import recipes
from resnet_jax import models
from resnet_jax.data import sampling
from resnet_jax.models.layers import onednn
from resnet_jax.training import convolutions

STEPS = 3
# Kinds by a pattern of XLA's names of operations; the first match counts.
KINDS = {
    "transposes for the gradient by the kernel": r"transpose",
    "matrix products (sums over images among them)": r"^dot",
    "sums": r"reduce",
    "loop: storing and fetching blocks' arrays": r"dynamic|^copy|^wrapped_broadcast",
    "elementwise: batch norm, ReLU, shortcut, update": r"fusion|^wrapped|^slice|^pad|^bitcast|^add|^multiply",
}


def profile(config: ConfigDict) -> dict[str, Any]:
    """Return milliseconds of a step by kind of operation."""
    subject = measure.subject(config)
    form = convolutions.form_of_new_run(config, subject.train.images.shape[1:], "cpu")
    with onednn.computed_by(form):
        return profile_of(config, subject, form)


def profile_of(config: ConfigDict, subject: measure.Subject, form: str) -> dict[str, Any]:
    """Do as ``profile`` for ``subject``, with convolutions by ``form``."""
    state, steps = subject.state, range(2 * STEPS)
    batches = sampling.batch_indices(0, steps, config.batch_size, len(subject.train.labels))
    for indices in batches[:STEPS]:
        state, metrics = subject.program.train_steps(state, subject.examples, indices[None])
    jax.block_until_ready(metrics)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            for indices in batches[STEPS:]:
                state, metrics = subject.program.train_steps(state, subject.examples, indices[None])
                jax.block_until_ready(metrics)
        (trace,) = pathlib.Path(folder).rglob("perfetto_trace.json.gz")
        events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    times: dict[str, float] = collections.Counter()
    step = 0.0
    for event in events:
        if event.get("ph") != "X" or event["name"].startswith("end:"):
            continue
        name, milliseconds = event["name"], event["dur"] / 1e3 / STEPS
        if name == "ThunkExecutor::Execute (wait for completion)":
            step += milliseconds
        kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), None)
        if kind is not None and "::" not in name:
            times[kind] += milliseconds
    rest = {"convolutions (the rest)": step - sum(times.values())}
    shares = sorted((rest | times).items(), key=lambda item: -item[1])
    survival = f", survival {config.model.survival}" if config.model.survival < 1 else ""
    return {
        "net": f"{models.title(config.model)}{survival}, {config.data.name}, batch {config.batch_size}",
        "convolutions": form,
        "ms a step": round(step, 1),
        "ms": {kind: round(value, 1) for kind, value in shares},
    }


def main() -> None:
    """Profile two nets of ``step_time``, two of the zoo that are slower than their peers, and stochastic depth."""
    if jax.default_backend() != "cpu":
        print("This benchmark profiles CPUs, but the default device is not a CPU.")
        return
    configs = [
        recipes.digits(56, True),
        recipes.cifar(20, True),
        recipes.wide(16, 4),
        recipes.densenet(40),
        recipes.digits(110, True),
        recipes.digits(110, True, survival=0.5),
    ]
    measure.save("cpu_profile", [profile(config) for config in configs])


if __name__ == "__main__":
    main()
