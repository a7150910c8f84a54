"""The peer of the DenseNets for small images: the net of the paper in PyTorch, with the names of torchvision."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from resnet_jax import models
from resnet_jax.interop.densenet import layer_name
from resnet_jax.interop.names import TENSORS


class DenseLayer(nn.Module):
    """BN, ReLU, 3x3 convolution; a bottleneck has BN, ReLU and a 1x1 convolution of four growths before these."""

    def __init__(self, inputs: int, growth: int, bottleneck: bool, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.bottleneck = bottleneck
        self.norm1 = nn.BatchNorm2d(inputs)
        if bottleneck:
            self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(4 * growth)
            self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[batch, inputs, height, width]`` to ``[batch, inputs + growth, height, width]``."""
        y = F.dropout(self.conv1(F.relu(self.norm1(x))), self.drop, self.training)
        if self.bottleneck:
            y = F.dropout(self.conv2(F.relu(self.norm2(y))), self.drop, self.training)
        return torch.cat([x, y], 1)


class Transition(nn.Module):
    """BN, ReLU, 1x1 convolution, 2x2 average pooling."""

    def __init__(self, inputs: int, outputs: int, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[batch, inputs, height, width]`` to ``[batch, outputs, height / 2, width / 2]``."""
        return F.avg_pool2d(F.dropout(self.conv(F.relu(self.norm(x))), self.drop, self.training), 2)


class PeerDenseNet(nn.Module):
    """The first ``blocks`` of DenseNet of depth 3n+4, or of DenseNet-BC of depth 6n+4 if ``compression`` is below 1."""

    def __init__(
        self,
        depth: int,
        growth: int,
        compression: float,
        channels: int,
        num_classes: int = 10,
        drop: float = 0.0,
        blocks: int = 3,
    ) -> None:
        super().__init__()
        bottleneck = compression < 1
        width = 2 * growth if bottleneck else 16
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(channels, width, 3, padding=1, bias=False))
        for number in range(1, blocks + 1):
            block = nn.Sequential()
            for layer in range((depth - 4) // (6 if bottleneck else 3)):
                block.add_module(f"denselayer{layer + 1}", DenseLayer(width, growth, bottleneck, drop))
                width += growth
            self.features.add_module(f"denseblock{number}", block)
            if number < blocks:
                outputs = int(compression * width)
                self.features.add_module(f"transition{number}", Transition(width, outputs, drop))
                width = outputs
        self.features.add_module("norm5", nn.BatchNorm2d(width))
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[batch, channels, height, width]`` to logits ``[batch, num_classes]``."""
        return self.classifier(F.relu(self.features(x)).mean((2, 3)))

    def load(self, variables: dict[str, Any]) -> None:
        """Load ``{"params": ..., "batch_stats": ...}`` of the same net of this project."""
        self.load_state_dict(tensors(variables), strict=True)


def tensors(variables: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the variables of a DenseNet of this project in PyTorch's layout, by torchvision's names."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    found = {}
    for path, leaf in models.unstack(variables).items():
        tensor = torch.tensor(np.transpose(leaf, axes[np.ndim(leaf)]).copy())
        found[f"{layer_name(path[1:-1])}.{TENSORS[path[-1]]}"] = tensor
        if path[-1] == "mean":  # PyTorch counts the batches that its running statistics have seen.
            found[f"{layer_name(path[1:-1])}.num_batches_tracked"] = torch.tensor(0)
    return found
