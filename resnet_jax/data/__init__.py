"""Images and labels: where they come from, in which order a step sees them, how they are augmented."""

from ml_collections import ConfigDict

from resnet_jax.data import digits, prepared
from resnet_jax.data.dataset import Dataset as Dataset
from resnet_jax.data.dataset import Split as Split
from resnet_jax.data.dataset import digest as digest
from resnet_jax.data.dataset import hold_out

# Image shape and number of classes of sets whose nets are described without their data.
SHAPES = {
    "digits": ((8, 8, 1), 10),
    "cifar10": ((32, 32, 3), 10),
    "cifar100": ((32, 32, 3), 100),
    "imagenet2012": ((224, 224, 3), 1000),
}


def load(config: ConfigDict) -> Dataset:
    """Return the data set that ``config`` (the ``data`` part of a run's config) names, in host memory.

    Raises:
      UserError: the set is unknown, missing or unfit, or too small for ``validation_examples``.
    """
    dataset = digits.load() if config.name == "digits" else prepared.load(config.name, config.data_dir)
    return hold_out(dataset, config.validation_examples)


def shape(config: ConfigDict) -> tuple[tuple[int, int, int], int]:
    """Return ``(height, width, channels)`` and the number of classes of the set that ``config`` names.

    Raises:
      UserError: the set is none of the usual ones and cannot be loaded.
    """
    if config.name in SHAPES:
        return SHAPES[config.name]
    dataset = load(config)
    return dataset.splits["train"].images.shape[1:], dataset.num_classes
