"""The values a net starts from, drawn without compiling anything."""

import zlib
from typing import Any

import flax.linen as nn
import numpy as np

from resnet_jax.models.stacking import Path, stack, template, unstack


def initial_variables(model: nn.Module, seed: int, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the initial ``{"params": ..., "batch_stats": ...}`` of ``model``.

    Kernels are He-normal (Gaussian, variance 2 / fan-in), scales and running variances 1, biases and running means 0:
    the distribution that the modules declare. Each leaf of each block is drawn by the seed and its own path, so nets
    share the values of the leaves they share, on every backend; and drawing on the host takes 0.1 s where compiling
    Flax's own initialisation takes 10 s for 20 layers on a CPU.

    Args:
      model: a module called as ``model(images, train=...)``.
      seed: any non-negative integer.
      image_shape: ``(height, width, channels)``.
    """
    shapes = template(model, image_shape)
    return stack({path: draw(path, leaf.shape, seed) for path, leaf in unstack(shapes).items()}, like=shapes)


def draw(path: Path, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return the initial value of the leaf at ``path``, float32."""
    match path[-1]:
        case "kernel":
            address = zlib.crc32("/".join(path).encode())
            normal = np.random.default_rng([seed, address]).standard_normal(shape, np.float32)
            return normal * np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        case "scale" | "var":
            return np.ones(shape, np.float32)
        case "bias" | "mean":
            return np.zeros(shape, np.float32)
        case name:
            raise NotImplementedError(f"no initial value is defined for leaves named {name!r}")
