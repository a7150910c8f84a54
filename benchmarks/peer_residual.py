"""The peer of the variants: other orders of norm and ReLU, shortcuts, blocks and widths, in PyTorch.

Written from the papers, as a second opinion on ``resnet_jax.models.resnet``; ``peer.py`` is the one that is timed.

- He et al. 2016, arXiv 1603.05027: orders (figure 4), shortcuts (table 1), appendix.
- Zagoruyko and Komodakis 2016, arXiv 1605.07146: wide nets.
- Huang et al. 2016, arXiv 1603.09382: stochastic depth.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from resnet_jax import interop
from resnet_jax.interop import names
from resnet_jax.models import Path

# He et al. 2016, figure 4: what a branch repeats (c: convolution, n: norm, r: ReLU) and what of its end comes after the
# addition instead.
ORDERS = {
    "original": ("cnr", "r"),
    "norm_after_addition": ("cnr", "nr"),
    "relu_before_addition": ("cnr", ""),
    "relu_preactivation": ("rcn", ""),
    "preactivation": ("nrc", ""),
}


class PeerUnit(nn.Module):
    """A branch of convolutions and its shortcut.

    Attributes:
      survival: probability that the branch is computed in training.
      survives: whether it is computed in the next training step.
    """

    def __init__(
        self,
        inputs: int,
        convolutions: list[tuple[int, int, int]],
        order: str,
        shortcut: str | None,
        is_activated: bool,
    ) -> None:
        """Make a unit whose ``convolutions`` are features, side and stride of each; a plain one has no ``shortcut``."""
        super().__init__()
        self.survival, self.survives, self.option = 1.0, True, shortcut
        self.stride = max(stride for _, _, stride in convolutions)
        self.outputs = convolutions[-1][0]
        repeated, after = ORDERS[order]
        steps: list[str] = []
        channels = inputs
        for index, (features, side, stride) in enumerate(convolutions, 1):
            setattr(self, f"conv{index}", nn.Conv2d(channels, features, side, stride, side // 2, bias=False))
            normalised = channels if order == "preactivation" else features
            steps += [{"c": "conv", "n": "bn", "r": "relu"}[step] + str(index) for step in repeated]
            if not (is_activated and order == "preactivation" and index == 1):
                setattr(self, f"bn{index}", nn.BatchNorm2d(normalised))
            channels = features
        end = len(steps) - len(after)
        self.steps, self.after = steps[:end], steps[end:]
        self.first: list[str] = []  # What branch and shortcut share.
        self.projects = shortcut in ("C", "conv") or (shortcut == "B" and (self.stride > 1 or inputs != self.outputs))
        opening = {"preactivation": 2, "relu_preactivation": 1}.get(order, 0)
        if is_activated:
            self.steps = self.steps[opening:]
        elif self.projects:
            self.first, self.steps = self.steps[:opening], self.steps[opening:]
        if self.projects:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, self.outputs, 1, self.stride, bias=False))
            if shortcut != "conv" and not opening:
                self.shortcut.append(nn.BatchNorm2d(self.outputs))
        if shortcut in ("exclusive_gating", "shortcut_gating"):
            self.gating = nn.Conv2d(inputs, self.outputs, 1, self.stride)

    def compute(self, steps: list[str], x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` after ``steps``."""
        for step in steps:
            x = F.relu(x) if step.startswith("relu") else getattr(self, step)(x)
        return x

    def identity(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` in the shape of the output, without parameters."""
        missing = self.outputs - x.shape[1]
        if self.option == "pool":
            x = F.avg_pool2d(x, 2) if self.stride == 2 else x
            return torch.cat([x, x.new_zeros(x.shape[0], missing, *x.shape[2:])], 1)
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, missing // 2, missing - missing // 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[batch, inputs, height, width]`` to ``[batch, outputs, height / stride, width / stride]``."""
        x = self.compute(self.first, x)
        if self.option is None:
            return self.compute(self.after, self.compute(self.steps, x))
        gate: torch.Tensor | float = 1.0
        if self.projects:
            shortcut = self.shortcut(x)
        elif self.option in ("exclusive_gating", "shortcut_gating"):
            open_share = torch.sigmoid(self.gating(x))
            shortcut = (1 - open_share) * self.identity(x)
            gate = open_share if self.option == "exclusive_gating" else 1.0
        else:
            shortcut = self.identity(x)
            if self.option == "dropout":
                shortcut = F.dropout(shortcut, 0.5, self.training)
        if self.training and not self.survives:
            return self.compute(self.after, shortcut)
        kept = 1.0 if self.training else self.survival
        return self.compute(self.after, shortcut + kept * gate * self.compute(self.steps, x))


class PeerResidualNet(nn.Module):
    """A net for small images, with the usual PyTorch names of layers."""

    def __init__(
        self,
        units: int,
        block: str = "basic",
        order: str = "original",
        shortcut: str | None = "A",
        widening: int = 1,
        widths: Sequence[int] = (16, 32, 64),
        channels: int = 3,
        num_classes: int = 10,
    ) -> None:
        """Make a net of ``units`` units in each of the stages of ``widths``; a plain net's ``shortcut`` is None."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.stages: list[nn.Sequential] = []
        inputs = 16
        for stage, width in enumerate(widths, 1):
            layer = nn.Sequential()
            for unit in range(units):
                stride = 2 if stage > 1 and unit == 0 else 1
                wide = widening * width
                convolutions = {
                    "single": [(wide, 3, stride)],
                    "basic": [(wide, 3, stride), (wide, 3, 1)],
                    "bottleneck": [(wide, 1, stride), (wide, 3, 1), (4 * width, 1, 1)],
                }[block]
                layer.append(PeerUnit(inputs, convolutions, order, shortcut, stage == 1 and unit == 0))
                inputs = convolutions[-1][0]
            setattr(self, f"layer{stage}", layer)
            self.stages.append(layer)
        self.order = order
        if order == "preactivation":
            self.bn = nn.BatchNorm2d(inputs)
        self.linear = nn.Linear(inputs, num_classes)

    def units(self) -> list[PeerUnit]:
        """Return all units, in forward order."""
        return [unit for stage in self.stages for unit in stage]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[batch, channels, height, width]`` to logits ``[batch, num_classes]``."""
        x = F.relu(self.bn1(self.conv1(x)))
        for unit in self.units():
            x = unit(x)
        if self.order == "preactivation":
            x = self.bn(x)
        return self.linear(F.relu(x).mean((2, 3)) if "preactivation" in self.order else x.mean((2, 3)))

    def load(self, variables: Mapping[str, Any]) -> None:
        """Load ``{"params": ..., "batch_stats": ...}`` of the same net of this project."""
        tensors = interop.to_torch(variables, NAMES)
        self.load_state_dict({name: torch.tensor(tensor) for name, tensor in tensors.items()}, strict=True)

    def train_on(self, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Make one step on ``images [batch, channels, height, width]``; return the loss before it."""
        self.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(self(images), labels)
        loss.backward()
        for parameter in self.parameters():
            if parameter.grad is None:  # A dropped branch decays all the same.
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        return loss.item()


def layer_name(path: Path) -> str:
    """Return the name of the layer at ``path``; only this scheme names the gating."""
    match path:
        case (stage, block, "gating", *_):
            return names.CIFAR.layer_name((stage, block, "conv1")).replace("conv1", "gating")
    return names.CIFAR.layer_name(path)


NAMES = names.CIFAR._replace(layer_name=layer_name)
