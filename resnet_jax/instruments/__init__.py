"""Instruments that measure the inside of a net over depth. Another instrument is another row of ``INSTRUMENTS``."""

from collections.abc import Callable
from typing import Any, NamedTuple

from resnet_jax.instruments import (
    batch_mates,
    branches,
    channels,
    confusion,
    deletions,
    feature_rank,
    gradients,
    hessian,
    jacobian,
    landscape,
    paths,
    probes,
    refinement,
    responses,
    similarity,
    singular_units,
)
from resnet_jax.instruments.observed import ObservedNet as ObservedNet
from resnet_jax.instruments.observed import net_of as net_of
from resnet_jax.instruments.subject import Images as Images
from resnet_jax.instruments.subject import Settings as Settings
from resnet_jax.instruments.subject import Subject as Subject
from resnet_jax.instruments.subject import of_run as of_run
from resnet_jax.instruments.subject import subject_of as subject_of

# In the steps at which an instrument measures by default, END is the last step of the run.
END = "end"


class Instrument(NamedTuple):
    """An instrument.

    Attributes:
      measure: function that returns its measurements of a subject, for JSON; raises a UserError where the quantity does
        not exist.
      question: question that it answers.
      cost: number of passes: F is a forward pass and G a gradient of a batch, "set" is all examples, n blocks.
      steps: steps at which it measures by default.
      is_cheap: whether it measures unless others are requested.
    """

    measure: Callable[[Subject], dict[str, Any]]
    question: str
    cost: str
    steps: tuple[int | str, ...]
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
        "How much do an image's features depend on the rest of its batch?",
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
        "2 F",
        (END,),
    ),
    "singular_units": Instrument(
        singular_units.measure,
        "Are there units that do nothing, or the same as others?",
        "1 F of the set",
        (0, END),
    ),
    "deletions": Instrument(
        deletions.measure,
        "Does the net depend on each block and on their order?",
        "n set + 5n F",
        (END,),
        is_cheap=True,
    ),
    "responses": Instrument(responses.measure, "Are the branches small?", "0", (0, END), is_cheap=True),
    "branches": Instrument(branches.measure, "How much does a block add to its shortcut?", "1 F", (0, END)),
    "confusion": Instrument(confusion.measure, "Do mini-batches disagree about where to go?", "24 G", (0, END)),
    "refinement": Instrument(
        refinement.measure, "Do blocks move features down the loss?", "1 G and 1 F of the sets", (0, END)
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
