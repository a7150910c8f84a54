"""Published values next to values from the records."""

import pathlib
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from configs import recipes
from resnet_jax import models
from resnet_jax.analysis.diagnosed import START, read_diagnosed
from resnet_jax.analysis.gap import certainty, each_error, points_of
from resnet_jax.analysis.rates import measure
from resnet_jax.analysis.runs import group_seeds, read_runs
from resnet_jax.analysis.verdict import judge
from resnet_jax.escape import Markdown, markdown
from resnet_jax.report.rates_report import factor_words
from resnet_jax.report.tables import markdown_table, records
from resnet_jax.safe_files import read_json
from resnet_jax.schema import FRACTION

# The running error is a mean over the steps of one record, which scatters.
LAST_RECORDS = 10


class Reproduced(NamedTuple):
    """One row of the table of what was reproduced.

    Attributes:
      what: was measured.
      published: the published value with its source.
      here: the value found here.
      record: file in the folder of results, None if the value follows from shapes.
    """

    what: str
    published: str
    here: str
    record: str | None


def reproduced(results: pathlib.Path) -> list[Reproduced]:
    """Return published values next to values from the records in ``results``."""
    figure6 = "He et al. 2015, figure 6"
    return [
        Reproduced(
            "training-error gap, plain-56 minus plain-20, CIFAR-10",
            f"above 0 ({figure6})",
            degradation(results / "cifar_seeds", "plain"),
            "cifar_seeds/README.md",
        ),
        Reproduced(
            "same gap in the full schedule, running error of mini-batches",
            f"above 0 ({figure6})",
            running_gap(results / "cifar_figure6", 20, 56),
            "cifar_figure6/README.md",
        ),
        Reproduced(
            "training-error gap, residual-56 minus residual-20, CIFAR-10",
            f"below 0 ({figure6})",
            degradation(results / "cifar_seeds", "residual"),
            "cifar_seeds/README.md",
        ),
        *final_errors(results / "cifar_figure6"),
        *evaluated(results / "why_cifar_weights" / "evaluation.json", (8.27, 6.61)),
        Reproduced(
            "per-layer gradient growth towards the input at initialization, plain nets, CIFAR-10",
            "1.211, the root of 1.467 for squared norms, in wide, fully connected nets (Yang et al. 2019)",
            growth_of_gradients(results / "cifar_seeds", "plain-56"),
            "cifar_seeds/README.md",
        ),
        Reproduced(
            "factor in steps to a training loss of 1 per ten extra layers, plain nets (digits)",
            "conjectured to grow exponentially (He et al. 2015, section 4.1)",
            growth_of_steps(results / "digits_threshold", (0.003, 0.01), 1.0),
            "digits_threshold/README.md",
        ),
        Reproduced(
            "parameters of residual-20, 56 and 110",
            "0.27, 0.85 and 1.7 M (He et al. 2015, table 6)",
            ", ".join(f"{cost(recipes.cifar(depth, True), 32)[0]:,}" for depth in (20, 56, 110)),
            None,
        ),
        Reproduced(
            "multiply-adds of ResNet-34, 50 and 152",
            "3.6, 3.8 and 11.3 G (He et al. 2015, table 1)",
            ", ".join(f"{cost(recipes.imagenet(depth, True), 224)[1] / 1e9:.2f}" for depth in (34, 50, 152)) + " G",
            None,
        ),
    ]


def reproduced_table(rows: list[Reproduced], results: str) -> str:
    """Return ``rows`` as Markdown, with links to the records in the folder ``results``."""
    columns = ("", "published", "here")
    here = [
        row.here if row.record is None else Markdown(f"[{markdown(row.here)}]({results}/{row.record})") for row in rows
    ]
    return markdown_table(
        [
            dict(zip(columns, (row.what, row.published, value), strict=True))
            for row, value in zip(rows, here, strict=True)
        ],
        left=columns,
    )


def degradation(folder: pathlib.Path, series: str) -> str:
    """Return the gap in training error of ``series`` among the runs in ``folder``, in percentage points."""
    gap = next(each.whole for each in judge(read_runs([folder])[0]).series if each.series == series)
    return f"{points_of(gap)}: {each_error(gap.errors)} % against {each_error(gap.others)} % ({certainty(gap)})"


def running_gap(folder: pathlib.Path, shallow: int, deep: int) -> str:
    """Return the gap in running training error of plain nets in ``folder`` over the last records that both have."""
    plain = {run.config["model.depth"]: run for run in read_runs([folder])[0] if not run.config["model.residual"]}
    errors = [dict(zip(*plain[depth].curve("train"), strict=True)) for depth in (shallow, deep)]
    steps = sorted(errors[0].keys() & errors[1].keys())[-LAST_RECORDS:]
    points = 100 * statistics.mean(errors[1][step] - errors[0][step] for step in steps)
    return f"{points:+.1f} points before step {steps[-1]:,} of {plain[deep].config['steps']:,} (1 seed)"


def final_errors(folder: pathlib.Path) -> Iterator[Reproduced]:
    """Yield the test error of each finished net in ``folder`` with a published one."""
    for net in group_seeds(read_runs([folder])[0]):
        for record in records([net]):
            if record["published test error"] is not None:
                yield Reproduced(
                    f"test error of {record['net']} after {net.runs[0].config['steps']:,} steps, CIFAR-10",
                    f"{100 * record['published test error']:.2f} % ({record['source']})",
                    f"{100 * record['test error']:.2f} % ({record['seeds']} seed{'s' * (record['seeds'] > 1)})",
                    f"{folder.name}/README.md",
                )


def evaluated(file: pathlib.Path, published: tuple[float, ...]) -> Iterator[Reproduced]:
    """Yield the test errors in ``file``, of experiments.evaluate, next to the ``published`` ones, in per cent."""
    content = read_json(file, {"nets": [{"net": str, "top1_error": FRACTION}]})
    assert content is not None
    for net, error in zip(content["nets"], published, strict=False):  # The last may be the ensemble.
        yield Reproduced(
            f"test error, third-party weights, {net['net']}, CIFAR-10",
            f"{error:.2f} % (published with them, PyTorch)",
            f"{100 * net['top1_error']:.2f} %",
            f"{file.parent.name}/{file.name}",
        )


def growth_of_gradients(folder: pathlib.Path, net: str) -> str:
    """Return by what factor a layer gradients grow towards the input of ``net`` at the start: median and range."""
    measured, _ = read_diagnosed([folder], group_seeds(read_runs([folder])[0]))
    factors = [each.result("gradients", START, "a_layer") for each in measured if each.label == net]
    depth = net.partition("-")[2]
    return f"{statistics.median(factors):.3f} with {depth} layers ({min(factors):.3f} to {max(factors):.3f})"


def growth_of_steps(folder: pathlib.Path, rates: Sequence[float], threshold: float) -> str:
    """Return the factors by which steps to a loss of ``threshold`` grow per ten layers, at each of ``rates``."""
    nets = group_seeds(read_runs([folder])[0])
    laws = {growth.series: growth.steps for growth in measure(nets, [threshold]).growths}
    found = [(rate, laws[f"plain, learning_rate {rate:g}"]) for rate in rates]
    return ", ".join(
        f"at a rate of {rate:g} {factor_words(each)} up to {each.measured[1]} layers" for rate, each in found if each
    )


def cost(config: ConfigDict, size: int) -> tuple[int, int]:
    """Return parameters and multiply-adds of the net of ``config`` for images of ``size`` pixels."""
    classes = 1000 if config.data.name == "imagenet2012" else 10
    return models.totals(models.describe(models.build(config.model, classes), (size, size, 3)))
