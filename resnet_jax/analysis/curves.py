"""Training curves in the style of the paper's figure 6."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from resnet_jax.analysis.runs import Run

# Okabe and Ito's palette for all kinds of colour vision, without its yellow, too pale on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
WIDTHS = {"train": 0.9, "test": 2.4}


def draw_curves(runs: Sequence[Run]) -> Figure:
    """Draw training and test error over steps, plain nets in one panel and residual nets in another.

    As in the paper thin lines are training error, of the mini-batches of training, and bold ones test error. A depth
    has the same colour in both panels.
    """
    kinds = sorted({run.kind for run in runs})
    depths = sorted({run.depth for run in runs})
    colours = {depth: COLOURS[index % len(COLOURS)] for index, depth in enumerate(depths)}
    figure = Figure(figsize=(4.8 * len(kinds), 3.8), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharex=True, sharey=True, squeeze=False)[0]
    for kind, panel in zip(kinds, panels, strict=True):
        for run in sorted((run for run in runs if run.kind == kind), key=lambda run: run.depth):
            for split, width in WIDTHS.items():
                steps, errors = run.curve(split)
                panel.plot(steps, 100 * errors, color=colours[run.depth], linewidth=width)
        panel.set_title(f"{kind} nets")
        panel.set_xlabel("step (mini-batches)")
        panel.set_ylim(-2, 100)  # Curves at 0 stay clear of the axis.
        panel.set_xlim(0, max(run.config["steps"] for run in runs))
        panel.grid(color="0.9")
        panel.spines[["top", "right"]].set_visible(False)
        add_legend(panel, {f"{depth} layers": colours[depth] for depth in depths})
    panels[0].set_ylabel("error (%)")
    return figure


def add_legend(panel: Axes, colours: dict[str, str]) -> None:
    """Say in ``panel`` which net each colour of ``colours`` is, and what thin and bold lines are."""
    names = {"train": "thin: training error", "test": "bold: test error"}
    handles = [Line2D([], [], color=colour, linewidth=WIDTHS["test"], label=name) for name, colour in colours.items()]
    handles += [Line2D([], [], color="0.3", linewidth=WIDTHS[split], label=name) for split, name in names.items()]
    panel.legend(handles=handles, loc="best", fontsize="small", frameon=True, framealpha=0.9)
