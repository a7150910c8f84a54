"""Layers of nets in numpy, written only from formulas, in the precision of their arguments."""

import numpy as np


def conv(x, kernel, stride=1):
    """Return the convolution of ``[batch, height, width, channels]``, padded by half the kernel."""
    size = kernel.shape[0]
    x = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("bhwcij,ijco->bhwo", windows, kernel)


def relu(x):
    return np.maximum(x, 0)


def batch_norm(x, layer):
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / np.sqrt(variance + 1e-5) * layer["scale"] + layer["bias"]


def head(params, x):
    """Return the logits of the outputs ``[batch, height, width, channels]`` of the last block."""
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]


def option_a(x, features, stride):
    """Return every ``stride``-th pixel with channels of zeros, half in front and half at the end."""
    missing = features - x.shape[-1]
    return np.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))


def standardized(layer, input_gain):
    """Return the kernel of a convolution with scaled standardised weights."""
    kernel = layer["kernel"]
    fan_in = np.prod(kernel.shape[:3])
    mean, deviation = kernel.mean((0, 1, 2)), kernel.std((0, 1, 2))
    return input_gain * layer["gain"] * (kernel - mean) / (np.sqrt(fan_in) * deviation)


def stages(params, blocks):
    """Yield the parameters, the stride and the place of each of so many ``blocks`` in each of three stages."""
    for stage in (1, 2, 3):
        for index in range(blocks):
            name = "block0" if index == 0 else "rest"
            layers = params[f"stage{stage}"][name]
            yield layers if index == 0 else at(layers, index - 1), 2 if stage > 1 and index == 0 else 1, index


def at(tree, index):
    return {name: at(leaf, index) if isinstance(leaf, dict) else leaf[index] for name, leaf in tree.items()}
