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
    """Add measurements to ``folder`` whose numbers are about ``size``."""
    rows = [size + 0.01 * seed + place for place in range(len(BLOCKS))]
    results = {
        ("gradients", 0): {"relative": rows, "cosine_of_net": rows, "a_layer": rows[0]},
        ("batch_mates", 0): {"sensitivity": rows},
        ("probes", 0): {"test_error": [row / 100 for row in rows]},
        ("feature_rank", 300): {"rank": rows},
        ("deletions", 300): {
            "error": {"test": 0.1},
            "deleted": {"test": [row / 100 for row in rows]},
            "several": [{"blocks": k, "errors": {"test": [0.0, k / 10, 1.0]}} for k in (2, 4)],
        },
        ("responses", 300): {"deviation": rows},
        ("branches", 0): {"share": rows},
        ("branches", 300): {"share": rows},
    }
    for (instrument, step), result in results.items():
        diagnosis.add(folder, measurement(instrument, result, step, residual, depth, seed, folder.name))


def lines(path):
    """Return the objects of the lines of ``path``."""
    return [json.loads(line) for line in path.read_text().splitlines()]
