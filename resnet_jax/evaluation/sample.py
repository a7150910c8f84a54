"""A sample of images for comparisons, measurements and statistics."""

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from resnet_jax import data, identity
from resnet_jax.data import augment, sampling
from resnet_jax.data.sources import Subset
from resnet_jax.evaluation.nets import TrainedNet
from resnet_jax.evaluation.views import views


def sample(
    dataset: data.Dataset | data.Stream, config: ConfigDict, net: TrainedNet, split: str, count: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``count`` preprocessed images of ``split``, or all if there are fewer, and their labels.

    Only ``seed`` decides the draw; it is random, since a data set may be sorted by class. Images of a stream are
    cropped centrally.

    Args:
      dataset: data set with the images.
      config: ``data`` part of its config.
      net: net that defines normalisation and crop.
      split: "train", "validation" or "test".
      count: number of images.
      seed: seed of the draw.

    Returns:
      Float32 ``[count, height, width, channels]`` and int ``[count]``.

    Raises:
      UserError: the net was trained on other classes than ``dataset`` has.
    """
    identity.check_classes(net.class_names, dataset.class_names, net.name)
    examples, _ = data.examples(dataset, split)
    chosen = np.sort(sampling.epoch_order(seed, 0, examples)[:count])
    part: data.Dataset | data.Stream
    if isinstance(dataset, data.Stream):
        part = dataset._replace(splits={split: Subset(dataset.splits[split], chosen)})
    else:
        images, labels = dataset.splits[split]
        part = dataset._replace(splits={split: data.Split(images[chosen], labels[chosen])})
    _, pairs = data.examples(part, split, skip=config.on_bad_image == "skip")
    found = [(*views(image, net.crop, "single", flip=False), label) for image, label in pairs]
    pixels, of_classes = (np.stack(each) for each in zip(*found, strict=True))
    normalised = augment.normalise(*map(jnp.asarray, (pixels, net.mean, net.std)))
    return np.asarray(normalised), of_classes
