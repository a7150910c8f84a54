"""The subject of a measurement: a net after a number of steps, and the images on which it is measured."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from ml_collections import ConfigDict

from resnet_jax import data, evaluation
from resnet_jax.instruments.observed import ObservedNet, Variables, net_of
from resnet_jax.training import parallel
from resnet_jax.training.start import is_made_by_surgery

# Number of steps after which the running statistics, averages of momentum 0.9, have forgotten their initial values.
SETTLED = 100


class Settings(NamedTuple):
    """Settings of a measurement.

    Attributes:
      examples: number of images of each split, or all if there are fewer.
      batch: number of images in a batch.
      seed: seed of the draw of images, and of all other draws of an instrument.
    """

    examples: int = 512
    batch: int = 128
    seed: int = 0


class Images(NamedTuple):
    """Normalised images, float32 ``[images, height, width, channels]``, and their labels, int."""

    images: np.ndarray
    labels: np.ndarray

    def first(self, count: int) -> Self:
        """Return the first ``count`` images."""
        return type(self)(self.images[:count], self.labels[:count])


class Subject(NamedTuple):
    """A net after a number of steps, and images.

    Attributes:
      net: net with its compiled functions.
      variables: variables of the net, on the host.
      step: number of training steps; None for weights from elsewhere.
      has_running_statistics: whether the running statistics of its batch norms have settled, after having been near
        their initial values.
      train: training images in random order, not augmented.
      test: test images in random order.
      settings: settings of the measurement.
      name: name of the run or the file of weights.
      seed: seed of the run; None for weights.
      data: name of the data set.
      warnings: messages about changes of the data since the run was trained.
    """

    net: ObservedNet
    variables: Variables
    step: int | None
    has_running_statistics: bool
    train: Images
    test: Images
    settings: Settings
    name: str = ""
    seed: int | None = None
    data: str = ""
    warnings: Sequence[str] = ()

    @property
    def batch(self) -> Images:
        """The first ``settings.batch`` training images."""
        return self.train.first(self.settings.batch)

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether functions of the net use batch statistics, until running statistics settle."""
        return not self.has_running_statistics

    def random(self, purpose: int) -> np.random.Generator:
        """Return a generator of random numbers by the seed and ``purpose``, a number that the instrument chooses."""
        return np.random.default_rng([self.settings.seed, purpose])


def of_run(
    workdir: pathlib.Path,
    step: int | None = None,
    settings: Settings = Settings(),  # noqa: B008 - a tuple.
    data_dir: str | None = None,
) -> Subject:
    """Return a net of the run in ``workdir`` as a subject.

    Args:
      workdir: the run directory.
      step: number of steps after which; None for the newest checkpoint. ``config.keep_checkpoints`` keeps others.
      settings: settings of the measurement.
      data_dir: folder of the run's data set, if it has moved.

    Raises:
      UserError: there is no run, or no net of this step, or its data set is missing.
    """
    trained, config, dataset, warnings = evaluation.open_run(workdir, parallel.device_mesh(), data_dir, step)
    return subject_of(trained, dataset, config, settings, is_made_by_surgery(workdir))._replace(warnings=warnings)


def subject_of(
    trained: evaluation.TrainedNet,
    dataset: data.Dataset | data.Stream,
    config: ConfigDict,
    settings: Settings,
    was_made: bool = False,
) -> Subject:
    """Return the subject of ``trained`` on images of ``dataset``.

    Args:
      trained: trained net.
      dataset: data set with splits "train" and "test".
      config: config of the run, or the one that the weights fit.
      settings: settings of the measurement.
      was_made: whether surgery made the net, which then has running statistics at step 0.
    """

    def images(split: str) -> Images:
        found, labels = evaluation.sample(dataset, config.data, trained, split, settings.examples, settings.seed)
        order = np.random.default_rng([settings.seed, 0]).permutation(len(labels))
        return Images(found[order], labels[order])

    train, test = images("train"), images("test")
    net = net_of(trained.config, trained.num_classes, train.images.shape[1:])
    has_running_statistics = was_made or trained.step is None or trained.step >= SETTLED
    of_net = (net, trained.variables, trained.step, has_running_statistics)
    seed = None if trained.step is None else config.seed
    return Subject(*of_net, train, test, settings, trained.name, seed, config.data.name)
