"""How often the verdict's 95 % interval contains the true gap: 1,000 simulated sweeps per number of seeds.

python -m benchmarks.coverage
"""

import numpy as np
import rich
from rich.table import Table

from resnet_jax.analysis.verdict import gap

SWEEPS = 1000
GAP = 0.03
DEVIATIONS = {"equal scatter": (0.01, 0.01), "scatter of one net ten times the other's": (0.02, 0.002)}


def main() -> None:
    """Simulate and print the table."""
    table = Table(title=f"{SWEEPS:,} simulated sweeps with a gap of {100 * GAP:.0f} points, and as many without")
    for column in ("seeds", "scatter over seeds", "interval contains the gap (%)", "false verdicts of degradation (%)"):
        table.add_column(column, justify="left" if column.startswith("scatter") else "right")
    for seeds in (3, 4, 5, 10):
        for scatter, (deep, shallow) in DEVIATIONS.items():
            random = np.random.default_rng(0)
            held = said = 0
            for _ in range(SWEEPS):
                errors = random.normal(0.1, deep, seeds), random.normal(0.1, shallow, seeds)
                low, high = gap(errors[0] + GAP, errors[1]).interval or (np.nan, np.nan)
                held += low <= GAP <= high
                said += gap(*errors).sign == 1
            table.add_row(f"{seeds}", scatter, f"{100 * held / SWEEPS:.1f}", f"{100 * said / SWEEPS:.1f}")
    rich.print(table)


if __name__ == "__main__":
    main()
