"""Made-up measurements."""

import json

from resnet_jax.instruments import diagnosis
from resnet_jax.instruments.diagnosis import Measurement

BLOCKS = ["stage1/block0", "stage1/block1", "stage2/block0", "stage3/block0"]


def measurement(instrument, result, step, residual=False, depth=20, seed=0, name="run"):
    """Return a measurement of a net of four blocks."""
    model = {"residual": residual, "depth": depth}
    title = f"{'residual' if residual else 'plain'}-{depth}"
    settings = {"examples": 512, "batch": 128, "seed": 0}
    statistics = "running" if step else "batch"
    where = (name, seed, "digits", step, settings, statistics, BLOCKS)
    return Measurement(instrument, title, model, *where, result, 1.0, ["python"], {"time": "2026-01-01T00:00:00Z"})


def measure(folder, residual, depth, seed, size):
    """Add measurements to ``folder`` whose numbers are multiples of ``size``, another for each quantity."""
    rows = [size + 0.01 * seed + place for place in range(len(BLOCKS))]

    def times(factor):
        return [factor * row for row in rows]

    results = {
        ("gradients", 0): {"relative": rows, "cosine_of_net": times(0.02), "a_layer": rows[0]},
        ("batch_mates", 0): {"sensitivity": times(0.1)},
        ("probes", 0): {"test_error": times(0.03)},
        ("feature_rank", 0): {"rank": times(5)},
        ("feature_rank", 300): {"rank": times(2)},
        ("deletions", 300): {
            "error": {"test": 0.1},
            "deleted": {"test": times(0.04)},
            "deleted_by_batch": {"test": times(0.05)},
            "several": [{"blocks": k, "errors": {"test": [0.0, k / 10, 1.0]}} for k in (2, 4)],
        },
        ("responses", 300): {"deviation": times(0.2)},
        ("branches", 0): {"share": times(0.06)},
        ("branches", 300): {"share": times(0.07)},
    }
    for (instrument, step), result in results.items():
        diagnosis.add(folder, measurement(instrument, result, step, residual, depth, seed, folder.name))


def lines(path):
    """Return the objects of the lines of ``path``."""
    return [json.loads(line) for line in path.read_text().splitlines()]
