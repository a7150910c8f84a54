"""The images on which nets are compared and statistics taken."""

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from resnet_jax import data
from resnet_jax.data import augment, sampling
from resnet_jax.data.sources import Subset
from resnet_jax.evaluation import TrainedNet
from resnet_jax.evaluation.views import views


def training_images(
    dataset: data.Dataset | data.Stream, config: ConfigDict, net: TrainedNet, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``count`` training images as ``net`` gets them, or all if there are fewer, and their labels.

    They are drawn at random but always the same, since a data set may be sorted by class. Of a stream they are central
    crops.

    Args:
      dataset: with the images.
      config: the ``data`` part of its config.
      net: by which they are normalised and cropped.
      count: of images.

    Returns:
      Float32 ``[count, height, width, channels]`` and int ``[count]``.
    """
    examples, _ = data.examples(dataset, "train")
    chosen = np.sort(sampling.epoch_order(0, 0, examples)[:count])
    part: data.Dataset | data.Stream
    if isinstance(dataset, data.Stream):
        part = dataset._replace(splits={"train": Subset(dataset.splits["train"], chosen)})
    else:
        images, labels = dataset.splits["train"]
        part = dataset._replace(splits={"train": data.Split(images[chosen], labels[chosen])})
    _, pairs = data.examples(part, "train", skip=config.on_bad_image == "skip")
    found = [(*views(image, net.crop, "single", flip=False), label) for image, label in pairs]
    pixels, of_classes = (np.stack(each) for each in zip(*found, strict=True))
    normalised = augment.normalise(*map(jnp.asarray, (pixels, net.mean, net.std)))
    return np.asarray(normalised), of_classes
