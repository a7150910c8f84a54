"""Figures as files and as parts of a page; text from outside is shown as it is, not as mathematics."""

import io
import pathlib

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import Formatter, LogFormatter, ScalarFormatter

from resnet_jax.escape import printable_lines
from resnet_jax.safe_files import write_bytes


class PrintableLabels(Formatter):
    """Labels at an axis that were given, with control characters escaped."""

    def __init__(self, labels: Formatter) -> None:
        self._labels = labels

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label at ``x``, the one of number ``pos``."""
        return printable_lines(self._labels(x, pos))


def save(figure: Figure, path: pathlib.Path, dpi: int = 120) -> None:
    """Write ``figure`` to ``path``, in the format of its suffix, whole or not at all."""
    write_bytes(path, rendered(figure, path.suffix.removeprefix("."), dpi))


def svg(figure: Figure) -> str:
    """Return ``figure`` as an SVG element."""
    text = rendered(figure, "svg").decode()
    return text[text.index("<svg") :]


def rendered(figure: Figure, suffix: str, dpi: int | str = "figure") -> bytes:
    """Return ``figure`` in the format ``suffix``."""
    make_literal(figure)
    stream = io.BytesIO()
    figure.savefig(stream, format=suffix, dpi=dpi)
    return stream.getvalue()


def make_literal(figure: Figure) -> None:
    r"""Show the text in ``figure`` as it is: ``$\frac{$`` in a name is not a formula; control characters are escaped.

    Numbers at axes, which matplotlib writes itself, stay as they are.
    """
    numbers = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        formatter = axis.get_major_formatter()
        if isinstance(formatter, (ScalarFormatter, LogFormatter)):
            numbers |= {id(text) for text in axis.findobj(Text) if text is not axis.label}
        elif not isinstance(formatter, PrintableLabels):  # Panels may share it.
            axis.set_major_formatter(PrintableLabels(formatter))
    for text in figure.findobj(Text):
        if isinstance(text, Text) and id(text) not in numbers:
            text.set_parse_math(False)
            text.set_text(printable_lines(text.get_text()))
