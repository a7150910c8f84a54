"""How nets differ from a reference of the same depth, such as the residual net without an intervention."""

from collections.abc import Sequence
from typing import NamedTuple

from resnet_jax.analysis.gap import Gap, certainty, finding, gap, points_of
from resnet_jax.analysis.runs import Replicates, series_fields
from resnet_jax.analysis.verdict import Statement


class Difference(NamedTuple):
    """Final errors of a net minus its reference's.

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
    """Return the differences of ``nets`` from nets of ``series`` with the same depth, over complete runs."""
    references = {net.depth: net for net in nets if net.series == series and net.complete}
    return [
        difference(net, references[net.depth])
        for net in nets
        if net.series != series and net.complete and net.depth in references
    ]


def plain_against_residual(nets: Sequence[Replicates]) -> list[Difference]:
    """Return the differences of plain nets from residual ones that differ in nothing else, at the greatest depth.

    Where residual nets differ in what a plain net does not have, such as the shortcut, the first one is its twin.
    """
    complete = [net for net in nets if net.complete]
    pairs: dict[str, tuple[Replicates, Replicates]] = {}
    for plain in sorted(complete, key=lambda net: net.depth):
        twins = [net for net in complete if net.depth == plain.depth and are_twins(plain, net)]
        if twins:
            pairs[plain.series] = plain, twins[0]
    return [difference(*pair) for pair in pairs.values()]


def are_twins(plain: Replicates, residual: Replicates) -> bool:
    """Return whether ``plain`` and ``residual`` are that, and agree in all fields that both read."""
    one, other = (series_fields(net.runs[0]) for net in (plain, residual))
    differing = {name for name in one.keys() & other.keys() if one[name] != other[name]}
    return differing == {"model.residual"} and not one["model.residual"]


def difference(net: Replicates, reference: Replicates) -> Difference:
    """Return the difference of ``net`` from ``reference``, over complete runs."""

    def between(split: str) -> Gap:
        return gap(*([run.final(split) for run in each.complete] for each in (net, reference)))

    return Difference(net.label, reference.label, between("train_clean"), between("test"))


def statement(difference: Difference, where: str = "") -> Statement:
    """Return ``difference`` in training error as a line of the table of verdicts; ``where`` as in ``Statement``."""
    name = f"{difference.reference} / {difference.net}"
    return Statement(name, difference.training, difference.training.against_reference, where)


def sentence(difference: Difference) -> str:
    """Return ``difference`` in words."""
    training = finding(
        difference.training, difference.training.against_reference, (difference.net, difference.reference)
    )
    test = f"{points_of(difference.test)} ({certainty(difference.test)})"
    return f"{difference.net} against {difference.reference}: {training}. Test error: {test}."
