"""Panels from runs without measurements: how training loss falls, and what interventions on shortcuts do."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from resnet_jax.analysis.contrast import Statistic, Twins, says
from resnet_jax.analysis.diagnosed import Diagnosed
from resnet_jax.analysis.runs import Replicates
from resnet_jax.config import default, flatten
from resnet_jax.fields import INTERVENTION_FIELDS
from resnet_jax.report.display import classes_of, in_words, part_in_words
from resnet_jax.report.figures import MOST_POINTS, thinned
from resnet_jax.report.panels import Line, Panel, Plot, short


def training_loss(nets: Sequence[Replicates], twins: Twins | None) -> Panel | None:
    """Return the training loss over steps."""
    shown = [net for net in nets if not is_intervened(net.runs[0].config)]
    lines = [line for net in shown if (line := loss_line(net, net.depth, not net.runs[0].config["model.residual"]))]
    if not lines:
        return None
    text = "{plain} ends at a training loss of {0}, {residual} at {1}"
    return Panel(
        "why_loss",
        "Which nets fit, and when",
        [Plot("training loss", "step (mini-batches)", "loss (nats)", lines, is_log=True)],
        "Of mini-batches, each the mean since the record before. Median and range of seeds; plain nets dashed.",
        says({}, twins, Statistic("Training loss at the end", last_loss, text, short)),
    )


def loss_line(net: Replicates, depth: int | None, is_dashed: bool) -> Line | None:
    """Return the training loss over steps of ``net``, as far as all its seeds have it; None if one has none."""
    curves = [run.losses() for run in net.runs]
    length = min(len(steps) for steps, _ in curves)
    if not length:
        return None
    kept = thinned(length, MOST_POINTS)
    values = np.array([losses[kept] for _, losses in curves])
    return Line(net.label, depth, is_dashed, curves[0][0][kept], values)


def last_loss(net: Diagnosed) -> float | None:
    """Return the last recorded training loss of ``net``, None for weights."""
    if net.run is None:
        return None
    _, losses = net.run.losses()
    return losses[-1] if len(losses) else None


def routes(nets: Sequence[Replicates]) -> Panel | None:
    """Return final errors of nets whose gates or trained layers were changed, and of those without."""
    changed = [net for net in nets if net.finished and is_intervened(net.runs[0].config, "gates.", "optimizer.frozen")]
    if not changed:
        return None
    depth = max(net.depth for net in changed)
    shown = [net for net in nets if net.finished and net.depth == depth and net.runs[0].config["from_run"] is None]

    def median(net: Replicates, split: str) -> float:
        return 100 * float(np.median([run.final(split) for run in net.finished]))

    places, splits = np.arange(len(shown)), {"training error": "train_clean", "test error": "test"}
    classes = classes_of(shown[0].runs[0])
    bars = [
        Line(name, None, False, places, np.array([[median(net, split) for net in shown]]), classes=classes)
        for name, split in splits.items()
    ]
    ticks = tuple(net.label for net in shown)
    plot = Plot(f"{depth} layers", "", "final error (%), median over seeds", bars, ticks=ticks)
    each = (
        f"{in_words(net.label)}: {short(median(net, 'train_clean'))} and {short(median(net, 'test'))}" for net in shown
    )
    text = f"Training and test error in per cent, medians over seeds. {'; '.join(each)}."
    note = "Finished runs, each net at its own best value of a tuned field. Intervals are on the page of the study."
    return Panel("why_routes", "What the shortcut does, forward and backward", [plot], note, text)


def identities(nets: Sequence[Replicates]) -> Panel | None:
    """Return training losses of nets that began as a trained shallow net with identity layers."""
    plain = [net for net in nets if not net.runs[0].config["model.residual"]]
    started = [net for net in plain if net.runs[0].config["from_run"] is not None]
    deepest = max((net.depth for net in started), default=0)
    shown = [(net, line) for net in started if net.depth == deepest and (line := loss_line(net, None, is_dashed=False))]
    if not shown:
        return None
    parts = [net.label.split(", ") for net, _ in shown]
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    own = [", ".join(part_in_words(part) for part in each if part not in shared) or each[0] for each in parts]
    lines = [line._replace(label=label) for (_, line), label in zip(shown, own, strict=True)]
    ends = {label: median_end(net) for (net, _), label in zip(shown, own, strict=True)}
    finite = sorted((end, label) for label, end in ends.items() if end is not None)
    said = []
    if finite:
        each = [f"of {short(end)} with {label}" for end, label in dict.fromkeys((finite[0], finite[-1]))]
        said.append(f"end at a training loss {' and '.join(each)} (medians over seeds)")
    if diverging := [label for label, end in ends.items() if end is None]:
        said.append(f"diverge with {' and '.join(diverging)}")
    text = f"From the same good solution, {deepest} layers {', and '.join(said)}."
    plot = Plot(f"{deepest} layers made of a trained net", "step (mini-batches)", "loss (nats)", lines, is_log=True)
    return Panel("why_identities", "Whether training stays at a good solution", [plot], "Of mini-batches.", text)


def median_end(net: Replicates) -> float | None:
    """Return the median last training loss of ``net`` over seeds that did not diverge; None if all have."""
    ends = [losses[-1] for run in net.runs for _, losses in [run.losses()] if len(losses) and np.isfinite(losses[-1])]
    return float(np.median(ends)) if ends else None


def is_intervened(config: dict[str, Any], *groups: str) -> bool:
    """Return whether ``config``, by dotted name, has an intervention, of fields that begin with one of ``groups``."""
    defaults = flatten(default().to_dict())
    fields = [name for name in INTERVENTION_FIELDS if not groups or name.startswith(groups)]
    return any(config[name] != defaults[name] for name in fields)
