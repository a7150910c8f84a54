"""Why it degrades: measurements over depth, and training losses, as panels with a statement each."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from resnet_jax.analysis.contrast import Seeds, Statistic, Twins, deepest_twins, says
from resnet_jax.analysis.diagnosed import START, Diagnosed, by_label
from resnet_jax.analysis.runs import Replicates
from resnet_jax.instruments import END
from resnet_jax.instruments.diagnosis import Measurement
from resnet_jax.report.panels import (
    Groups,
    Line,
    Panel,
    Plot,
    in_per_cent,
    last_of,
    line_of,
    note_of,
    over_blocks,
    percent,
    short,
    three_digits,
)
from resnet_jax.report.run_panels import identities, routes, training_loss
from resnet_jax.report.selection import MOST_MEASURED, select, spread


class Page(NamedTuple):
    """What was found.

    Attributes:
      panels: in order.
      filters: by label of the net, for the first seed whose filters were measured.
      foot: sentences on what was not measured or is not drawn.
    """

    panels: list[Panel]
    filters: dict[str, Measurement]
    foot: list[str]


def page(measured: Seeds, nets: Sequence[Replicates], *others: Sequence[Replicates]) -> Page:
    """Return the page of nets that were ``measured`` and of runs.

    A panel whose quantity was measured of no net is missing, and named at the foot.

    Args:
      measured: nets of one seed each.
      nets: of the runs of one study.
      *others: of further studies, each of which is the source of a panel if it has what that shows.
    """
    all_groups = by_label(measured)
    twins = deepest_twins(all_groups)
    labels = {*spread(list(all_groups), MOST_MEASURED), *(seeds[0].label for seeds in twins or ())}
    groups = {label: seeds for label, seeds in all_groups.items() if label in labels}
    nets, others = select(nets).nets, tuple(select(each).nets for each in others)
    made = {
        "training loss": training_loss(nets, twins),
        "gradients (instrument gradients)": gradients(groups, twins),
        "cosines of gradients (gradients)": cosines(groups, twins),
        "batch-mate sensitivity and probes (batch_mates, probes)": signal(groups, twins),
        "feature rank (feature_rank)": ranks(groups, twins),
        "routes of the gradient (runs of configs/sweeps/digits_routes.py)": first_of(routes, nets, *others),
        "deletions (deletions)": deletions(groups),
        "identity layers (runs of configs/sweeps/digits_identity.py)": first_of(identities, nets, *others),
        "branches and shortcuts (branches)": branch_shares(groups, twins),
        "layer responses (responses)": layer_responses(groups, twins),
    }
    missing = [name for name, panel in made.items() if panel is None]
    foot = [f"Not measured: {'; '.join(missing)}."] if missing else []
    if len(groups) < len(all_groups):
        foot.append(f"Drawn are {len(groups)} of {len(all_groups)} measured nets.")
    seen = {label: [each for net in seeds if (each := net.found("channels", END))] for label, seeds in groups.items()}
    filters = {label: found[0] for label, found in seen.items() if found}
    return Page([panel for panel in made.values() if panel is not None], filters, foot)


def first_of(panel: Callable[[Sequence[Replicates]], Panel | None], *studies: Sequence[Replicates]) -> Panel | None:
    """Return ``panel`` of the first of ``studies`` that has what it shows, None if none has."""
    return next(filter(None, map(panel, studies)), None)


def gradients(groups: Groups, twins: Twins | None) -> Panel | None:
    """Return the norms of gradients over blocks, at the start and after 100 steps."""
    plots = [
        Plot(title, "block", "gradient norm / last block's", lines, is_log=True)
        for title, when in (("step 0", START), ("step 100", 100), ("end", END))
        if (lines := over_blocks(groups, "gradients", when, "relative"))
    ]
    if not plots:
        return None
    text = "At the start gradients grow by a factor of {0} a layer towards the input in {plain}, of {1} in {residual}"
    at_start = any(net.found("gradients", START) for seeds in groups.values() for net in seeds)
    text = text if at_start else text.replace("At the start", "In the trained nets")
    when = START if at_start else END

    def growth(net: Diagnosed) -> float | None:
        return net.result("gradients", when, "a_layer")

    return Panel(
        "why_gradients",
        "Whether gradients vanish or explode",
        plots[:2],
        note_of(groups, "gradients", START, 100, END, is_training=True),
        says(groups, twins, Statistic("Growth of gradients a layer towards the input", growth, text, three_digits)),
    )


def cosines(groups: Groups, twins: Twins | None) -> Panel | None:
    """Return how alike gradients of different images are, at the start."""
    lines = over_blocks(groups, "gradients", START, "cosine_of_net")
    if not lines:
        return None

    def middle(net: Diagnosed) -> float | None:
        values = net.result("gradients", START, "cosine_of_net")
        return None if not values else values[len(values) * 3 // 4]

    text = (
        "Three quarters up the net, gradients of different images have a mean cosine of {0} in {plain}, of {1} in "
        "{residual}"
    )
    return Panel(
        "why_cosines",
        "Whether gradients of different images are related",
        [Plot("step 0", "block", "mean cosine over pairs of images", lines)],
        note_of(groups, "gradients", START, is_training=True) + " For one cotangent in place of the loss.",
        says(groups, twins, Statistic("Mean cosine three quarters up the net", middle, text, three_digits)),
    )


def signal(groups: Groups, twins: Twins | None) -> Panel | None:
    """Return how much an image's features depend on its batch-mates, and what a linear probe reads, at the start."""
    plots = []
    if lines := over_blocks(groups, "batch_mates", START, "sensitivity"):
        plots.append(Plot("step 0", "block", "change with other batch-mates", lines))
    for title, when in (("step 0", START), ("end", END)):
        if lines := in_per_cent(over_blocks(groups, "probes", when, "test_error")):
            plots.append(Plot(title, "block", "test error of a linear probe (%)", lines))
    if not plots:
        return None
    mates = Statistic(
        "Change of features at the last block with other batch-mates, before training",
        lambda net: last_of(net.result("batch_mates", START, "sensitivity")),
        "Before training, the features of an image at the last block change by {0} of their size with its batch-mates "
        "in {plain}, by {1} in {residual}; 1.41 would be unrelated",
        short,
    )
    at = START if any(net.found("probes", START) for seeds in groups.values() for net in seeds) else END
    probe = Statistic(
        "Test error of a linear probe after the last block",
        lambda net: last_of(net.result("probes", at, "test_error")),
        "A linear probe after the last block errs on {0} of test images in {plain}, on {1} in {residual}",
        percent,
    )
    sentences = [says(groups, twins, each) for each in ([mates, probe] if twins or at == START else [probe])]
    return Panel(
        "why_signal",
        "Whether the signal is lost on the way forward",
        plots,
        note_of(groups, "probes", START, END),
        " ".join(sentences),
    )


def ranks(groups: Groups, twins: Twins | None) -> Panel | None:
    """Return the rank of features over blocks, at the start and at the end."""
    plots = [
        Plot(title, "block", "entropy rank of features", lines, is_log=True)
        for title, when in (("step 0", START), ("end", END))
        if (lines := over_blocks(groups, "feature_rank", when, "rank"))
    ]
    if not plots:
        return None

    text = "At the end, features in the upper half of {plain} have a median rank of {0}, of {residual} one of {1}"
    return Panel(
        "why_rank",
        "Whether examples become alike",
        plots,
        note_of(groups, "feature_rank", START, END),
        says(
            groups,
            twins,
            Statistic("Median rank in the upper half at the end", upper_half("feature_rank", "rank"), text, short),
        ),
    )


def deletions(groups: Groups) -> Panel | None:
    """Return the error after each block is deleted, and after several are."""
    plots = [
        Plot(title, "deleted block", "test error (%)", in_per_cent(lines))
        for title, key in (("running statistics", "deleted"), ("statistics of the batch", "deleted_by_batch"))
        if (lines := over_blocks(groups, "deletions", END, key, "test"))
    ]
    if not plots:
        return None
    plots.append(Plot("several at once", "deleted blocks", "test error (%)", in_per_cent(several_deleted(groups))))

    def works(seeds: Seeds) -> bool:
        errors = [net.result("deletions", END, "error") for net in seeds]
        return all(error is not None and error["test"] < 0.5 for error in errors)

    twins = deepest_twins(groups, works)

    def median(net: Diagnosed) -> float | None:
        deleted = net.result("deletions", END, "deleted")
        return None if not deleted else float(np.median(deleted["test"]))

    text = "Deleting a single block leaves a median test error of {0} in {plain}, of {1} in {residual}"
    said = says(groups, twins, Statistic("Median test error after deleting one block", median, text, percent))
    costliest = [f"{label} without {costliest_block(seeds)}" for label, seeds in groups.items() if works(seeds)]
    said += f" The costliest block leaves more: {'; '.join(costliest)}." * bool(costliest)
    return Panel(
        "why_deletions",
        "Whether blocks are links of a chain or corrections",
        plots,
        note_of(groups, "deletions", END) + " Several blocks are drawn at random; medians over draws.",
        said,
    )


def costliest_block(seeds: Seeds) -> str:
    """Return the block that is the costliest to delete in the median over ``seeds``, and the test errors it leaves."""
    found = [each for net in seeds if (each := net.found("deletions", END)) is not None]
    errors = np.array([each.result["deleted"]["test"] for each in found])
    worst = int(np.argmax(np.median(errors, axis=0)))
    low, high = percent(errors[:, worst].min()), percent(errors[:, worst].max())
    return f"{found[0].blocks[worst]} {low}" + f" to {high}" * (len(found) > 1)


def several_deleted(groups: Groups) -> list[Line]:
    """Return the test error, a fraction, over the number of deleted blocks: the median over draws of each seed."""
    lines = []
    for label, seeds in groups.items():
        rows = [row for net in seeds if (row := net.result("deletions", END, "several"))]
        if rows:
            counts = np.array([each["blocks"] for each in rows[0]])
            values = np.array([[np.median(each["errors"]["test"]) for each in row] for row in rows])
            lines.append(line_of(label, seeds[0], counts, values))
    return lines


def branch_shares(groups: Groups, twins: Twins | None) -> Panel | None:
    """Return the share of the branch in each block's sum, at the start and at the end."""
    plots = [
        Plot(title, "block", "branch / (branch + shortcut), of variances", lines)
        for title, when in (("step 0", START), ("end", END))
        if (lines := over_blocks(groups, "branches", when, "share"))
    ]
    if not plots:
        return None

    text = (
        "At the end, branches have a median share of {0} in the upper half of {plain}, where nothing is added to them, "
        "and of {1} of {residual}"
    )
    note = note_of(groups, "branches", START, END) + " In a plain net the shortcut is the identity that it lacks."
    return Panel(
        "why_branches",
        "Whether branches are small",
        plots,
        note,
        says(
            groups,
            twins,
            Statistic(
                "Median share of branches in the upper half at the end", upper_half("branches", "share"), text, short
            ),
        ),
    )


def layer_responses(groups: Groups, twins: Twins | None) -> Panel | None:
    """Return the deviations of layers' responses at the end, sorted (He et al. 2015, figure 7)."""
    lines = []
    for label, seeds in groups.items():
        rows = [row for net in seeds if (row := net.result("responses", END, "deviation"))]
        if rows:
            values = -np.sort(-np.array(rows, float), axis=1)
            lines.append(line_of(label, seeds[0], np.arange(1, values.shape[1] + 1), values))
    if not lines:
        return None

    def median(net: Diagnosed) -> float | None:
        values = net.result("responses", END, "deviation")
        return None if not values else float(np.median(values))

    text = "At the end, layers respond with a median deviation of {0} in {plain}, of {1} in {residual}"
    plots = [Plot("end", "layer, by size", "standard deviation after batch norm", lines)]
    note = "From only scale and bias of the batch norms, so at step 0 all are 1. Median and range of seeds."
    return Panel(
        "why_responses",
        "Whether layers respond weakly",
        plots,
        note,
        says(groups, twins, Statistic("Median deviation of responses at the end", median, text, three_digits)),
    )


def upper_half(instrument: str, key: str) -> Callable[[Diagnosed], float | None]:
    """Return the function of a net that gives the median of ``key`` over the upper half of its blocks, at the end."""

    def median(net: Diagnosed) -> float | None:
        values = net.result(instrument, END, key) or []
        measured = [value for value in values[len(values) // 2 :] if value is not None]
        return float(np.median(measured)) if measured else None

    return median
