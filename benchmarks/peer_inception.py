"""The peers of the Inception nets: written in PyTorch from the figures, in the notation of text that is parsed here.

"3(32)/2V-1x7(64) | max3/2V" is a 3x3 convolution of 32 features with stride 2 and without padding, then one of 1x7,
beside a pooling whose output is concatenated. ``load`` takes the weights of a net of this project, so that both compute
the same function; ``benchmarks.peer.make_step`` trains one.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from flax import linen
from torch import nn

from resnet_jax import models
from resnet_jax.models.stacking import unstacked


class Text(NamedTuple):
    """A net: its stem, whose mixed parts are divided by semicolons, its blocks and the reductions between them."""

    stem: str
    blocks: Sequence[str]
    reductions: Sequence[str]


STEM_OF_V4 = (
    "3(32)/2V-3(32)V-3(64); max3/2V | 3(96)/2V; 1(64)-3(96)V | 1(64)-1x7(64)-7x1(64)-3(96)V; 3(192)/2V | max3/2V"
)
PAPER = {
    "inception_resnet_v1": Text(
        "3(32)/2V-3(32)V-3(64)-max3/2V-1(80)-3(192)V-3(256)/2V",
        (
            "1(32) | 1(32)-3(32) | 1(32)-3(32)-3(32)",
            "1(128) | 1(128)-1x7(128)-7x1(128)",
            "1(192) | 1(192)-1x3(192)-3x1(192)",
        ),
        (
            "3(384)/2V | 1(192)-3(192)-3(256)/2V | max3/2V",
            "1(256)-3(384)/2V | 1(256)-3(256)/2V | 1(256)-3(256)-3(256)/2V | max3/2V",
        ),
    ),
    "inception_resnet_v2_paper": Text(
        STEM_OF_V4,
        (
            "1(32) | 1(32)-3(32) | 1(32)-3(48)-3(64)",
            "1(192) | 1(128)-1x7(160)-7x1(192)",
            "1(192) | 1(192)-1x3(224)-3x1(256)",
        ),
        (
            "3(384)/2V | 1(256)-3(256)-3(384)/2V | max3/2V",
            "1(256)-3(384)/2V | 1(256)-3(288)/2V | 1(256)-3(288)-3(320)/2V | max3/2V",
        ),
    ),
}


def small(width: int) -> Text:
    """Return the net for small images whose first stage has ``width`` features."""

    def block(width: int) -> str:
        u = width // 4
        return f"1({u}) | 1({u})-3({u}) | 1({u})-3({u + u // 2})-3({2 * u})"

    def reduction(width: int) -> str:
        u = width // 4
        return f"max3/2 | 3({2 * u})/2 | 1({u})-3({u})-3({2 * u})/2"

    widths = width, 2 * width, 4 * width
    return Text(f"3({width})", tuple(map(block, widths)), tuple(map(reduction, widths[:2])))


class Concatenation(nn.Module):
    """Branches side by side."""

    def __init__(self, text: str, inputs: int, eps: float) -> None:
        super().__init__()
        branches = [sequence(branch.strip(), inputs, eps) for branch in text.split("|")]
        self.branches = nn.ModuleList(layers for layers, _ in branches)
        self.features = sum(features for _, features in branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[batch, inputs, height, width]`` to the outputs of all branches."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def sequence(text: str, inputs: int, eps: float) -> tuple[nn.Sequential, int]:
    """Return the layers of one branch and their number of features."""
    layers: list[nn.Module] = []
    for step in text.split("-"):
        rows, columns, features, stride, valid = re.fullmatch(
            r"(?:max)?(\d)(?:x(\d))?(?:\((\d+)\))?(/2)?(V?)", step
        ).groups()
        kernel = int(rows), int(columns or rows)
        padding = (0, 0) if valid else (kernel[0] // 2, kernel[1] // 2)
        stride = 2 if stride else 1
        if step.startswith("max"):
            layers.append(nn.MaxPool2d(kernel, stride, padding))
        else:
            conv = nn.Conv2d(inputs, int(features), kernel, stride, padding, bias=False)
            layers += [conv, nn.BatchNorm2d(int(features), eps), nn.ReLU()]
            inputs = int(features)
    return nn.Sequential(*layers), inputs


class InceptionBlock(nn.Module):
    """relu(x + scale * up(branches)), or relu(up(branches)); ``up`` has a batch norm in the small nets, else a bias."""

    def __init__(self, text: str, inputs: int, eps: float, scale: float | None, has_norm: bool) -> None:
        super().__init__()
        self.mixed = Concatenation(text, inputs, eps)
        self.up = nn.Conv2d(self.mixed.features, inputs, 1, bias=not has_norm)
        self.norm = nn.BatchNorm2d(inputs, eps) if has_norm else nn.Identity()
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[batch, inputs, height, width]`` to the same shape."""
        y = self.norm(self.up(self.mixed(x)))
        return F.relu(y if self.scale is None else x + self.scale * y)


class PeerInception(nn.Module):
    """An Inception net.

    Args:
      text: of the net.
      repeats: blocks of each stage.
      scales: of the branches of each stage; None for the plain net.
      has_norm: whether ``up`` has a batch norm instead of a bias.
      channels: of the images.
      eps: of the batch norms.
    """

    def __init__(
        self,
        text: Text,
        repeats: Sequence[int],
        scales: Sequence[float | None],
        has_norm: bool,
        channels: int,
        eps: float,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = []

        def append(text: str) -> None:
            nonlocal channels
            parts.append(Concatenation(text, channels, eps))
            channels = parts[-1].features

        for part in text.stem.split(";"):
            append(part)
        for block, reduction, repeat, scale in zip(text.blocks, ("", *text.reductions), repeats, scales, strict=True):
            if reduction:
                append(reduction)
            parts += [InceptionBlock(block, channels, eps, scale, has_norm) for _ in range(repeat)]
        self.parts = nn.Sequential(*parts)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[batch, channels, height, width]`` to logits ``[batch, num_classes]``."""
        return self.linear(self.parts(x).mean((2, 3)))

    def load(self, model: linen.Module, variables: dict[str, Any], image_shape: tuple[int, ...]) -> None:
        """Load ``{"params": ..., "batch_stats": ...}`` of ``model``, by layers in the order of the forward pass."""
        leaves, names = models.unstack(variables), ("kernel", "scale", "bias", "mean", "var")
        ours = [
            leaves[(collection, *unstacked(layer.path, layer.block), name)]
            for layer in models.walk(model, image_shape)
            for collection, name in sorted(layer.variables, key=lambda variable: names.index(variable[1]))
        ]
        theirs = [
            getattr(module, name)
            for module in self.modules()
            for name in ("weight", "bias", "running_mean", "running_var")
            if getattr(module, name, None) is not None
        ]
        axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
        with torch.no_grad():
            for leaf, tensor in zip(ours, theirs, strict=True):
                transposed = np.transpose(leaf, axes[np.ndim(leaf)])
                if transposed.shape != tuple(tensor.shape):
                    raise ValueError(f"a layer has shape {transposed.shape} here and {tuple(tensor.shape)} in the peer")
                tensor.copy_(torch.from_numpy(np.array(transposed)))
