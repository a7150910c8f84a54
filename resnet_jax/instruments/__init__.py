"""Instruments: what a net looks like inside, over depth. Another instrument is another row of ``INSTRUMENTS``."""

from collections.abc import Callable
from typing import Any, NamedTuple

from resnet_jax.instruments import (
    batch_mates,
    channels,
    feature_rank,
    gradients,
    probes,
    similarity,
    singular_units,
)
from resnet_jax.instruments.net import Net as Net
from resnet_jax.instruments.net import net_of as net_of
from resnet_jax.instruments.subject import Images as Images
from resnet_jax.instruments.subject import Settings as Settings
from resnet_jax.instruments.subject import Subject as Subject
from resnet_jax.instruments.subject import of_run as of_run
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
    "batch_mates": Instrument(
        batch_mates.measure,
        "Is what the net makes of an image its own, or that of its batch-mates?",
        "2 F",
        (0, END),
        is_cheap=True,
    ),
    "probes": Instrument(
        probes.measure,
        "Where does the class become readable, and where is it lost?",
        "1 F of the set",
        (0, END),
        is_cheap=True,
    ),
    "feature_rank": Instrument(
        feature_rank.measure,
        "Do images become alike on the way through the net?",
        "1 F of 256 images",
        (0, 1, 10, 100, END),
        is_cheap=True,
    ),
    "similarity": Instrument(similarity.measure, "Which blocks compute the same?", "1 F of the set", (END,)),
    "channels": Instrument(
        channels.measure,
        "Do channels mean the same from block to block, and what do filters look like?",
        "4 F a block",
        (END,),
    ),
    "singular_units": Instrument(
        singular_units.measure,
        "Are there units that do nothing, or the same as others?",
        "1 F of the set",
        (0, END),
    ),
}
