"""Flags of a comparison, which compare and publish share."""

import pathlib
from typing import Any

from absl import flags

from resnet_jax.analysis.runs import Run, of_one_device, read_runs
from resnet_jax.errors import UserError
from resnet_jax.report.findings import Findings, find, tuned_field

_LOG_SCALE = flags.DEFINE_bool("log_scale", False, "Draw errors on a logarithmic scale.")
_TUNED = flags.DEFINE_string(
    "tuned",
    None,
    "Field tuned for each net, which is judged at its own best value, e.g. optimizer.learning_rate, or FIELD=VALUE "
    "with the common value; by default the field that the sweep tunes.",
)
_RATES = flags.DEFINE_bool("rates", False, "Measure how fast the training loss falls, and how that depends on depth.")
_THRESHOLDS = flags.DEFINE_list("thresholds", ["1.0", "0.5", "0.1"], "Training losses of --rates, in nats.")
_MIXED_DEVICES = flags.DEFINE_bool("mixed_devices", False, "Judge runs on different kinds of device together.")


def read(folders: list[pathlib.Path]) -> tuple[list[Run], list[str]]:
    """Return the runs in and below ``folders`` that are judged together, and sentences on the others."""
    runs, problems = read_runs(folders)
    kept, others = (runs, []) if _MIXED_DEVICES.value else of_one_device(runs)
    return kept, problems + others


def findings(runs: list[Run], sweeps: list[dict[str, Any]]) -> Findings:
    """Return the findings in ``runs`` of ``sweeps``, according to the flags."""
    thresholds = positive(_THRESHOLDS.value) if _RATES.value else None
    return find(runs, sweeps, tuned_field(_TUNED.value, sweeps), thresholds, _LOG_SCALE.value)


def positive(texts: list[str]) -> list[float]:
    """Return the numbers of --thresholds, the greatest first; raise a UserError if one is not a positive number."""
    try:
        numbers = sorted(set(map(float, texts)), reverse=True)
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise UserError(f"--thresholds={','.join(texts)} must be losses above 0, e.g. 1.0,0.5,0.1.")
    return numbers


def given() -> list[str]:
    """Return the flags that are not at their defaults, as words of a command line."""
    return [
        word
        for flag in (_LOG_SCALE, _TUNED, _RATES, _THRESHOLDS, _MIXED_DEVICES)
        if flag.value != flag.default
        for word in flags.FLAGS[flag.name].serialize().split("\n")
    ]
