"""From logits to loss and errors, and their table."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.special
from rich.table import Table


class Scores(NamedTuple):
    """Loss and errors of logits.

    Attributes:
      loss: mean cross entropy.
      top1_error: fraction of examples whose label does not have the highest logit.
      top5_error: fraction of examples whose label is not among the five highest logits.
    """

    loss: float
    top1_error: float
    top5_error: float


def score(logits: np.ndarray, labels: np.ndarray) -> Scores:
    """Return the scores of ``logits`` ``[examples, classes]`` for ``labels`` ``[examples]``."""
    own = logits[np.arange(len(labels)), labels][:, None]
    # Ties are resolved as by argmax: the first of equal logits ranks higher.
    before = np.arange(logits.shape[1]) < labels[:, None]
    rank = np.sum((logits > own) | ((logits == own) & before), axis=1)
    # An example with a NaN counts as an error.
    rank = np.where(np.isnan(logits).any(axis=1), logits.shape[1], rank)
    log_probabilities = scipy.special.log_softmax(logits.astype(np.float64), axis=1)
    loss = -np.mean(log_probabilities[np.arange(len(labels)), labels])
    return Scores(float(loss), float(np.mean(rank >= 1)), float(np.mean(rank >= 5)))


def average(logits: Sequence[np.ndarray]) -> np.ndarray:
    """Return the logarithm of the mean of the probabilities of all ``logits`` ``[..., classes]``."""
    probabilities = [scipy.special.softmax(each.astype(np.float64), axis=-1) for each in logits]
    with np.errstate(divide="ignore"):  # A class may have probability 0.
        return np.log(np.mean(probabilities, axis=0))


class Row(NamedTuple):
    """A row of the table: a net, or an ensemble.

    Attributes:
      name: name of its run or weights file.
      net: title of the net, for example "residual-20".
      scores: scores over all images.
      images_per_second: speed of the evaluation without compilation; None for an ensemble.
    """

    name: str
    net: str
    scores: Scores
    images_per_second: float | None


def records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return ``rows`` as records for JSON: errors are fractions, non-finite values None."""
    return [
        {"name": name, "net": net}
        | {field: value if np.isfinite(value) else None for field, value in scores._asdict().items()}
        | {"images_per_second": rate and round(rate, 1)}
        for name, net, scores, rate in rows
    ]


def table(rows: Sequence[Row], title: str) -> Table:
    """Return ``rows`` as a table, errors in per cent."""
    printed = Table(title=title)
    for column in ("weights", "net", "loss", "top-1 error", "top-5 error", "images/s"):
        printed.add_column(column, justify="left" if column in ("weights", "net") else "right", overflow="fold")
    for name, net, scores, rate in rows:
        errors = (f"{error:.2%}" for error in (scores.top1_error, scores.top5_error))
        speed = "" if rate is None else f"{rate:,.1f}" if rate < 10 else f"{rate:,.0f}"
        printed.add_row(name, net, f"{scores.loss:.4f}", *errors, speed)
    return printed
