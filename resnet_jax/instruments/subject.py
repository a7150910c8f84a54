"""The subject of a measurement: a net after so many steps, and the images it is measured on."""

from typing import NamedTuple, Self

import numpy as np
from ml_collections import ConfigDict

from resnet_jax import data, evaluation
from resnet_jax.instruments.net import Net, Variables, net_of

# After so many steps the running statistics, averages of momentum 0.9, have forgotten their initial values.
SETTLED = 100


class Settings(NamedTuple):
    """What a measurement depends on besides the net.

    Attributes:
      examples: images of each split, or all if there are fewer.
      batch: images of a batch.
      seed: of the draw of the images, and of all else that an instrument draws.
    """

    examples: int = 512
    batch: int = 128
    seed: int = 0


class Images(NamedTuple):
    """Images as the net gets them, float32 ``[images, height, width, channels]``, and their labels, int."""

    images: np.ndarray
    labels: np.ndarray

    def first(self, count: int) -> Self:
        """Return the first ``count`` of them."""
        return type(self)(self.images[:count], self.labels[:count])


class Subject(NamedTuple):
    """A net after so many steps, and images.

    Attributes:
      net: what is compiled.
      variables: of the net, on the host.
      step: the steps of training behind it; None for weights from elsewhere.
      has_statistics: whether the running statistics of its batch norms are of its layers, not still their initial
        values.
      train: training images in random order, not augmented.
      test: test images in random order.
      settings: of the measurement.
    """

    net: Net
    variables: Variables
    step: int | None
    has_statistics: bool
    train: Images
    test: Images
    settings: Settings

    @property
    def batch(self) -> Images:
        """The first ``settings.batch`` training images."""
        return self.train.first(self.settings.batch)

    @property
    def by_batch(self) -> bool:
        """Whether functions of the net are taken with the statistics of batches, for want of running ones."""
        return not self.has_statistics

    def random(self, purpose: int) -> np.random.Generator:
        """Return the generator of the seed for ``purpose``, a number of the instrument's own."""
        return np.random.default_rng([self.settings.seed, purpose])


def subject_of(
    trained: evaluation.TrainedNet,
    dataset: data.Dataset | data.Stream,
    config: ConfigDict,
    settings: Settings,
    is_made: bool = False,
) -> Subject:
    """Return the subject of ``trained`` on images of ``dataset``.

    Args:
      trained: the net.
      dataset: with splits "train" and "test".
      config: the ``data`` part of a config that the images have.
      settings: of the measurement.
      is_made: whether surgery made the net, which then has running statistics at step 0.
    """

    def images(split: str) -> Images:
        found, labels = evaluation.sample(dataset, config, trained, split, settings.examples, settings.seed)
        order = np.random.default_rng([settings.seed, 0]).permutation(len(labels))
        return Images(found[order], labels[order])

    train, test = images("train"), images("test")
    net = net_of(trained.config, trained.num_classes, train.images.shape[1:])
    has_statistics = is_made or trained.step is None or trained.step >= SETTLED
    return Subject(net, trained.variables, trained.step, has_statistics, train, test, settings)
