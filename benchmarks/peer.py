"""The peer: the CIFAR nets and their training step in PyTorch, as its users write them.

Data on the device, channels-last, autocast in bfloat16, SGD of ``torch.optim``; optionally ``torch.compile`` with CUDA
graphs. ``load`` takes the weights of a net of this project, so that both compute the same function.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from resnet_jax import interop


class PeerBlock(nn.Module):
    """Two 3x3 convolutions and the zero-padded identity, shortcut option A."""

    def __init__(self, inputs: int, width: int, residual: bool) -> None:
        super().__init__()
        self.stride = 1 if inputs == width else 2
        self.residual = residual
        self.conv1 = nn.Conv2d(inputs, width, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[batch, inputs, height, width]`` to ``[batch, width, height / stride, width / stride]``."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if not self.residual:
            return F.relu(y)
        if self.stride == 2:
            missing = y.shape[1] - x.shape[1]
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, missing // 2, missing - missing // 2))
        return F.relu(y + x)


class PeerNet(nn.Module):
    """The net of ``6n+2`` layers of section 4.2 of the paper, with the usual PyTorch names of layers."""

    def __init__(self, depth: int, residual: bool, channels: int, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        blocks = (depth - 2) // 6
        self.layer1 = self.stage(16, 16, blocks, residual)
        self.layer2 = self.stage(16, 32, blocks, residual)
        self.layer3 = self.stage(32, 64, blocks, residual)
        self.linear = nn.Linear(64, num_classes)

    @staticmethod
    def stage(inputs: int, width: int, blocks: int, residual: bool) -> nn.Sequential:
        """Return ``blocks`` blocks; the first has ``inputs`` channels."""
        return nn.Sequential(*[PeerBlock(inputs if i == 0 else width, width, residual) for i in range(blocks)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[batch, channels, height, width]`` to logits ``[batch, num_classes]``."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))

    def load(self, variables: dict[str, Any]) -> None:
        """Load ``{"params": ..., "batch_stats": ...}`` of the same net of this project."""
        tensors = interop.to_torch(variables, interop.scheme_of_family("cifar"))
        self.load_state_dict({name: torch.tensor(tensor) for name, tensor in tensors.items()}, strict=True)


def make_step(
    net: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    mean: np.ndarray,
    padding: int,
    flip: bool,
    mixed: bool,
    compiled: bool = False,
    device: str = "cpu",
) -> Callable[[np.ndarray], torch.Tensor]:
    """Return a function that makes one training step on the given indices and returns the loss, on the device.

    Args:
      net: trained in place.
      images: uint8 ``[examples, height, width, channels]``.
      labels: ``[examples]``.
      mean: float32 ``[height, width, channels]``.
      padding: of the random crops.
      flip: whether images are mirrored at random.
      mixed: whether convolutions compute in bfloat16, by autocast.
      compiled: whether forward and backward pass are compiled, with CUDA graphs.
      device: of PyTorch.
    """
    net.to(device=device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    all_images = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
    all_labels = torch.from_numpy(labels.astype(np.int64)).to(device)
    pixel_mean = torch.from_numpy(mean.copy()).permute(2, 0, 1).to(device)
    model = torch.compile(net, mode="reduce-overhead") if compiled else net

    def augment(x: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = x.shape
        x = F.pad(x, (padding,) * 4)
        top, left = (torch.randint(2 * padding + 1, (batch, 1), device=device) for _ in range(2))
        columns = torch.arange(width, device=device)
        columns = torch.where(torch.rand(batch, 1, device=device) < 0.5 * flip, columns.flip(0), columns) + left
        rows = torch.arange(height, device=device) + top
        examples = torch.arange(batch, device=device)[:, None, None]
        return x.permute(0, 2, 3, 1)[examples, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def step(indices: np.ndarray) -> torch.Tensor:
        chosen = torch.from_numpy(indices).to(device, non_blocking=True)
        x = all_images[chosen].float() / 255 - pixel_mean
        if padding or flip:
            x = augment(x)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=mixed):
            loss = F.cross_entropy(model(x), all_labels[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
