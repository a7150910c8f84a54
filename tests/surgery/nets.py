"""Small nets with arbitrary numbers in float64, and what they compute, written by hand in numpy."""

import functools

import jax
import numpy as np

from resnet_jax import models
from resnet_jax.surgery import EditableNet

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(6, 8, 8, 1))


@functools.cache
def random_net(seed=0, **fields):
    """Return a net of 8 layers or of other ``fields``, with norms that scale, shift and have running statistics."""
    config = models.complete({"depth": 8} | fields)
    variables = models.initial_variables(models.build(config, 10), seed, (8, 8, 1))
    random = np.random.default_rng(seed)

    def shaken(path, leaf):
        noise = 0.3 * random.normal(size=leaf.shape)
        name = path[-1].key
        return np.exp(noise) if name == "var" else leaf + (0 if name == "kernel" else 1) * noise

    return EditableNet(config, jax.tree_util.tree_map_with_path(shaken, variables))


def by_hand(net, images=IMAGES):
    """Return logits and block outputs of a net of order original, with norms batch or none."""
    leaves = net.leaves

    def layer(*path):
        return {leaf[-1]: value for leaf, value in leaves.items() if leaf[1:-1] == path}

    def normed(x, **own):
        if "scale" not in own:
            return x + own.get("bias", 0)
        return own["scale"] * (x - own["mean"]) / np.sqrt(own["var"] + 1e-5) + own["bias"]

    def branch(x, stage, name, stride):
        for index in range(1, net.convolutions + 1):
            x = np.maximum(x, 0)
            x = convolution(x, layer(stage, name, f"conv{index}")["kernel"], stride if index == 1 else 1)
            x = normed(x, **layer(stage, name, f"bn{index}"))
        return x

    def shortcut(x, stage, name, stride, features):
        if projection := layer(stage, name, "shortcut", "conv"):
            return normed(convolution(x, projection["kernel"], stride), **layer(stage, name, "shortcut", "bn"))
        missing = features - x.shape[-1]
        if net.config.shortcut == "pool":
            x = sum(x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4 if stride == 2 else x
            return np.pad(x, ((0, 0), (0, 0), (0, 0), (0, missing)))
        return np.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))

    x = convolution(images, layer("stem", "conv")["kernel"], 1)
    x = np.maximum(normed(x, **layer("stem", "bn")), 0)
    outputs = {}
    for full_name in net.blocks:
        stage, name = full_name.split("/")
        stride = 2 if name == "block0" and stage != "stage1" else 1
        y = branch(x, stage, name, stride)
        if net.config.residual:
            y = y + shortcut(x, stage, name, stride, y.shape[-1])
        x = outputs[full_name] = np.maximum(y, 0)
    head = layer("head")
    return x.mean((1, 2)) @ head["kernel"] + head["bias"], outputs


def convolution(x, kernel, stride):
    side = kernel.shape[0]
    padded = np.pad(x, ((0, 0), (side // 2, side // 2), (side // 2, side // 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    return np.tensordot(windows, kernel, axes=((4, 5, 3), (0, 1, 2)))
