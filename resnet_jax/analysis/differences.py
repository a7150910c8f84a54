"""How nets differ from a reference of the same depth, such as the residual net without an intervention."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from resnet_jax.analysis.runs import Replicates
from resnet_jax.analysis.verdict import Gap, certainty, gap, points_of


class Difference(NamedTuple):
    """The final errors of a net less those of its reference.

    Attributes:
      net: what is compared, as "residual-56, route stop_gradient".
      reference: what it is compared with, as "residual-56".
      training: difference in training error.
      test: difference in test error.
    """

    net: str
    reference: str
    training: Gap
    test: Gap


def differences(nets: Sequence[Replicates], series: str) -> list[Difference]:
    """Return the differences of ``nets`` from those of ``series`` that have the same depth, over finished runs."""
    references = {net.depth: net for net in nets if net.series == series and net.finished}

    def between(net: Replicates, split: str) -> Gap:
        errors = [np.array([run.final(split) for run in each.finished]) for each in (net, references[net.depth])]
        return gap(*errors)

    return [
        Difference(net.label, references[net.depth].label, between(net, "train_clean"), between(net, "test"))
        for net in nets
        if net.series != series and net.finished and net.depth in references
    ]


def sentence(difference: Difference) -> str:
    """Return ``difference`` in words."""
    training, test = (
        f"{points_of(each)} of {name} error ({certainty(each)})"
        for name, each in (("training", difference.training), ("test", difference.test))
    )
    return f"{difference.net} against {difference.reference}: {training}, {test}."
