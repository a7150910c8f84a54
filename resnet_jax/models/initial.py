"""The values a net starts from, drawn without compiling anything."""

import zlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax.models.resnet import REST


def initial_variables(model: nn.Module, seed: int, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the initial ``{"params": ..., "batch_stats": ...}`` of ``model``.

    Kernels are He-normal (Gaussian, variance 2 / fan-in), scales and running variances 1, biases and running means 0:
    the distribution that the modules declare. Each leaf is drawn by the seed and its own path, so nets share the
    values of the leaves they share, on every backend; and drawing on the host takes 0.1 s where compiling Flax's own
    initialisation takes 10 s for 20 layers on a CPU.

    Args:
      model: a module called as ``model(images, train=...)``.
      seed: any non-negative integer.
      image_shape: ``(height, width, channels)``.
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    shapes = jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)

    def draw(path: list[str], shape: tuple[int, ...]) -> np.ndarray:
        if REST in path:  # Stacked blocks: each has the values that it would have on its own.
            place = path.index(REST)
            blocks = [[*path[:place], f"block{index + 1}", *path[place + 1 :]] for index in range(shape[0])]
            return np.stack([draw(block, shape[1:]) for block in blocks])
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

    return jax.tree.map_with_path(lambda path, leaf: draw([key.key for key in path], leaf.shape), shapes)
