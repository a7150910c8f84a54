"""Time to the first training step over depth on the digits: looped, unrolled and rematerialised blocks.

    python -m benchmarks.compile_time

Each net starts in a separate process without a compilation cache. Compile time is the first step minus the median of
the following ones.
"""

import itertools
import json
import statistics
import subprocess
import sys
import time

import jax

from benchmarks import measure
from configs import recipes
from resnet_jax.data import sampling

BATCH_SIZE = 32
# Depth, settings of config.compile.
NETS: list[tuple[int, dict[str, bool]]] = [(depth, {}) for depth in (20, 56, 110, 1202)]
NETS += [(depth, {"unroll": True}) for depth in (20, 56)] + [(depth, {"remat": True}) for depth in (56, 1202)]
STEPS = 6


def figures(depth: int, settings: dict[str, bool]) -> dict[str, float]:
    """Return seconds to the first step and of compilation, milliseconds per step, and temporary memory."""
    config = recipes.digits(depth, residual=True)
    config.batch_size = BATCH_SIZE
    config.compile.update(settings)
    start = time.perf_counter()
    program, state, examples, train = measure.subject(config)
    indices = sampling.batch_indices(config.seed, range(STEPS), BATCH_SIZE, len(train.labels))
    times = []
    for batch in indices:
        state, _ = jax.block_until_ready(program.train_steps(state, examples, batch[None]))
        times.append(time.perf_counter())
    step = statistics.median(later - earlier for earlier, later in itertools.pairwise(times))
    memory = program.train_steps.lower(state, examples, indices[:1]).compile().memory_analysis()
    return {
        "first step (s)": round(times[0] - start, 2),
        "compiling (s)": round(times[0] - start - step, 2),
        "step (ms)": round(1e3 * step, 1),
        "temporary memory (MiB)": round(memory.temp_size_in_bytes / 2**20, 1),
    }


def main() -> None:
    """Measure each net in a separate process."""
    if len(sys.argv) == 3:
        print(json.dumps(figures(int(sys.argv[1]), json.loads(sys.argv[2]))))
        return
    results = []
    for depth, settings in NETS:
        command = [sys.executable, "-m", "benchmarks.compile_time", str(depth), json.dumps(settings)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results.append({"depth": depth, "blocks": "+".join(settings) or "loop", **json.loads(output)})
        results[-1]["compiling, ratio to 20 layers"] = round(
            results[-1]["compiling (s)"] / results[0]["compiling (s)"], 2
        )
    measure.save("compile_time", {"net": f"residual, digits, batch {BATCH_SIZE}", "nets": results})


if __name__ == "__main__":
    main()
