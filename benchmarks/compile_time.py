"""Time to the first training step over depth, loops against blocks written out, on the digits.

    python -m benchmarks.compile_time

Each net starts in a process of its own, without kept programs. Compiling is the first step less the median of the next.
"""

import itertools
import json
import statistics
import subprocess
import sys
import time

import rich
from rich.table import Table

BATCH_SIZE = 32
NETS = [(20, False), (56, False), (110, False), (1202, False), (20, True), (56, True)]


def measure(depth: int, unroll: bool) -> dict[str, float]:
    """Return seconds to the first step, of compiling and of a step."""
    from resnet_jax.backend import set_xla_flags

    set_xla_flags()
    import jax

    from configs import recipes
    from resnet_jax import data
    from resnet_jax.data import sampling
    from resnet_jax.training import loop

    config = recipes.digits(depth, residual=True)
    config.batch_size = BATCH_SIZE
    config.compile.unroll = unroll
    start = time.perf_counter()
    dataset = data.load(config.data)
    program = loop.make_program(config, dataset.num_classes)
    examples, splits = loop.place(dataset.splits, config.seed, program.mesh)
    state = program.init(examples.images.shape[1:])
    times = []
    for step in itertools.count():
        indices = sampling.batch_indices(config.seed, range(step, step + 1), BATCH_SIZE, len(splits["train"]))
        state, _ = jax.block_until_ready(program.train_steps(state, examples, indices))
        times.append(time.perf_counter())
        if step == 5:
            break
    step_time = statistics.median(later - earlier for earlier, later in itertools.pairwise(times))
    first = times[0] - start
    return {"first step (s)": first, "without the step itself (s)": first - step_time, "step (ms)": 1e3 * step_time}


def main() -> None:
    """Measure every net in a process of its own and print the table."""
    if len(sys.argv) == 3:
        print(json.dumps(measure(int(sys.argv[1]), sys.argv[2] == "True")))
        return
    table = Table(title=f"residual nets on the digits, batch {BATCH_SIZE}")
    results = {}
    for depth, unroll in NETS:
        command = [sys.executable, "-m", "benchmarks.compile_time", str(depth), str(unroll)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results[depth, unroll] = json.loads(output)
    columns = next(iter(results.values()))
    for column in ("depth", "blocks", *columns, "ratio to 20 layers"):
        table.add_column(column, justify="right")
    for (depth, unroll), result in results.items():
        name = "without the step itself (s)"
        ratio = result[name] / results[20, unroll][name]
        figures = (f"{value:.1f}" for value in result.values())
        table.add_row(f"{depth}", "written out" if unroll else "loop", *figures, f"{ratio:.2f}")
    rich.print(table)


if __name__ == "__main__":
    main()
