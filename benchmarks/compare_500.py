"""Time of `experiments.compare` on a synthetic sweep of 500 runs of 64,000 steps.

python -m benchmarks.compare_500
"""

import pathlib
import subprocess
import sys
import tempfile
import time

from tests.analysis.synthetic import write_run

RUNS = 500
RECORDS = 320  # Three lines each: about what 64,000 steps leave.


def main() -> None:
    """Write the runs, compare them and print the time."""
    with tempfile.TemporaryDirectory() as folder:
        depths = range(8, 8 + 6 * 5, 6)
        for index in range(RUNS):
            depth, residual = depths[index % len(depths)], index % 2 == 0
            error = 0.1 + 0.001 * depth * (not residual) + 1e-5 * index
            write_run(pathlib.Path(folder, f"run{index}"), depth, residual, error, index, records=RECORDS, steps=64_000)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "experiments.compare", folder], check=True, stdout=subprocess.DEVNULL)
        print(f"compare on {RUNS} runs of {3 * RECORDS} lines each: {time.perf_counter() - start:.1f} s")
        size = pathlib.Path(folder, "comparison", "report.html").stat().st_size
        print(f"report.html: {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
