"""Instruments: what a net looks like inside, over depth. Another instrument is another row of ``INSTRUMENTS``."""

from collections.abc import Callable
from typing import Any, NamedTuple

from resnet_jax.instruments import confusion, gradients, refinement
from resnet_jax.instruments.net import Net as Net
from resnet_jax.instruments.net import net_of as net_of
from resnet_jax.instruments.subject import Images as Images
from resnet_jax.instruments.subject import Settings as Settings
from resnet_jax.instruments.subject import Subject as Subject
from resnet_jax.instruments.subject import subject_of as subject_of

# Steps at which something is measured by default; the last of a run is END.
END = "end"


class Instrument(NamedTuple):
    """An instrument.

    Attributes:
      measure: returns what it measures of a subject, for JSON; raises a UserError where the quantity does not exist.
      question: that it answers.
      cost: in passes: F is a forward pass and G a gradient of a batch, "set" is all examples.
      at: the steps at which it is measured by default.
      is_cheap: whether it is measured unless others are asked for.
    """

    measure: Callable[[Subject], dict[str, Any]]
    question: str
    cost: str
    at: tuple[int | str, ...]
    is_cheap: bool = False


INSTRUMENTS: dict[str, Instrument] = {
    "gradients": Instrument(
        gradients.measure,
        "Do gradients vanish, explode or shatter on the way back?",
        "2 G",
        (0, 1, 10, 100, END),
        is_cheap=True,
    ),
    "confusion": Instrument(confusion.measure, "Do mini-batches disagree about where to go?", "24 G", (0, END)),
    "refinement": Instrument(
        refinement.measure, "Do blocks move features down the loss?", "4 F of the sets a block", (0, END)
    ),
}
