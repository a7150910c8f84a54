"""Normalisation and augmentation, inside the compiled step (paper, sections 3.4 and 4.2)."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Principal components, as columns, of the RGB colours of ImageNet's pixels scaled to [0, 1], and their standard
# deviations (Krizhevsky et al. 2012, section 4.1; values as published in fb.resnet.torch).
COLOR_COMPONENTS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
)
COLOR_DEVIATIONS = np.array([0.2175, 0.0188, 0.0045], np.float32)
# By config.data.pad, the mode of ``jnp.pad``.
PADS = {"zero": "constant", "reflect": "reflect"}


class Crops(NamedTuple):
    """Which window of each padded image is cropped, and whether it is flipped.

    Attributes:
      top: int32 ``[batch]``, first row of the window.
      left: int32 ``[batch]``, first column of the window.
      flip: bool ``[batch]``.
    """

    top: jax.Array
    left: jax.Array
    flip: jax.Array


def normalise(images: jax.Array, mean: jax.Array, std: jax.Array | None = None) -> jax.Array:
    """Return uint8 ``images`` scaled to [0, 1] minus ``mean``, divided by ``std`` unless that is None, as float32.

    Args:
      images: uint8 ``[batch, height, width, channels]``.
      mean: ``[height, width, channels]`` or ``[1, 1, channels]``.
      std: ``[1, 1, channels]``, or None.
    """
    centred = images.astype(jnp.float32) / 255 - mean[None]
    return centred if std is None else centred / std[None]


def draw_crops(key: jax.Array, batch: int, padding: int, flip: bool) -> Crops:
    """Draw a window for each of ``batch`` images padded by ``padding``, and flips with probability 1/2 if ``flip``."""
    top_key, left_key, flip_key = jax.random.split(key, 3)
    return Crops(
        jax.random.randint(top_key, (batch,), 0, 2 * padding + 1),
        jax.random.randint(left_key, (batch,), 0, 2 * padding + 1),
        jax.random.bernoulli(flip_key, 0.5, (batch,)) & flip,
    )


def crop_and_flip(images: jax.Array, crops: Crops, padding: int, pad: str = "zero") -> jax.Array:
    """Return ``images`` padded by ``padding`` pixels on each side, cropped to their original size and flipped.

    Args:
      images: normalised, ``[batch, height, width, channels]``, so that zero is the mean of the training set.
      crops: one window and flip for each image.
      padding: rows and columns added on each side.
      pad: what they hold, a key of ``PADS``.
    """
    if padding:
        padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), PADS[pad])
        images = jax.lax.platform_dependent(
            padded,
            crops.top,
            crops.left,
            tpu=functools.partial(_windows_by_selection, padding=padding),
            default=functools.partial(_windows_by_slicing, padding=padding),
        )
    return jnp.where(crops.flip[:, None, None, None], images[:, :, ::-1], images)


def _windows_by_slicing(padded: jax.Array, top: jax.Array, left: jax.Array, padding: int) -> jax.Array:
    """Return the window of each image of ``padded`` at its ``top`` and ``left``."""
    height, width, channels = padded.shape[1] - 2 * padding, padded.shape[2] - 2 * padding, padded.shape[3]
    return jax.vmap(lambda image, *start: jax.lax.dynamic_slice(image, (*start, 0), (height, width, channels)))(
        padded, top, left
    )


def _windows_by_selection(padded: jax.Array, top: jax.Array, left: jax.Array, padding: int) -> jax.Array:
    """Return the same, of slices at all possible starts; XLA:TPU would loop over the images to slice each."""
    for axis, starts in ((1, top), (2, left)):
        length = padded.shape[axis] - 2 * padding
        slices = (jax.lax.slice_in_dim(padded, start, start + length, axis=axis) for start in range(2 * padding + 1))
        chosen = next(slices)
        for start, other in enumerate(slices, start=1):
            chosen = jnp.where((starts == start)[:, None, None, None], other, chosen)
        padded = chosen
    return padded


def draw_color_noise(key: jax.Array, batch: int, deviation: float) -> jax.Array:
    """Draw the colour added to all pixels of each image, float32 ``[batch, 1, 1, 3]``, for pixels scaled to [0, 1].

    Along each principal component it is Gaussian with ``deviation`` (AlexNet: 0.1) times the component's deviation.
    """
    weights = deviation * jax.random.normal(jax.random.fold_in(key, 1), (batch, 3))
    return ((weights * COLOR_DEVIATIONS[None]) @ COLOR_COMPONENTS.T)[:, None, None, :]
