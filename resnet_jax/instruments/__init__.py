"""Instruments: what a net looks like inside, over depth. Another instrument is another row of ``INSTRUMENTS``."""

from collections.abc import Callable
from typing import Any, NamedTuple

from resnet_jax.instruments import confusion, gradients, hessian, jacobian, landscape, paths, refinement
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
    "paths": Instrument(paths.measure, "How long are the paths by which gradients come?", "4 G a block", (0, END)),
    "jacobian": Instrument(
        jacobian.measure, "How much do logits change with the image?", "20 G and 10 second-order", (0, END)
    ),
    "hessian": Instrument(hessian.measure, "How sharp and how non-convex is the loss?", "900 G", (0, END)),
    "landscape": Instrument(
        landscape.measure, "What does the loss look like around the net?", "121 F of the set", (END,)
    ),
}
