"""Names of the layers of residual nets in PyTorch, and the nets in files with such names.

torchvision, timm and Hugging Face define their own names. PyTorch has no standard nets for CIFAR; ``CIFAR`` has the
names of the usual ports, and our own choices where ports have none: the norm after the last block of a pre-activation
or wide net is ``bn``, different from ``bn1`` in the stem, and the layers of a block are numbered in forward order. So
``layer1.0.bn1`` precedes ``layer1.0.conv1`` in a pre-activation net.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from resnet_jax.models import Path
from resnet_jax.models.stacking import FIRST

# By the number of convolutions.
BLOCKS = {1: "single", 2: "basic", 3: "bottleneck"}
# Width of the first stage of each family.
WIDTHS = {"cifar": 16, "imagenet": 64}


class ResidualNames(NamedTuple):
    """The names of the layers of a residual net.

    ``block``, the prefix of a block, has the placeholders ``stage`` (from 1), ``stage_from_0`` and ``block`` (from 0);
    ``conv`` and ``norm``, the layers of its branch, have ``layer`` (from 1) and ``layer_from_0``. ``final_norm`` is the
    norm after the last block, empty where such nets have no names.
    """

    stem_conv: str
    stem_norm: str
    block: str
    conv: str
    norm: str
    shortcut_conv: str
    shortcut_norm: str
    head: str
    final_norm: str = ""

    def layer_name(self, path: Path) -> str:
        """Return the name of the layer at ``path``, such as ("stage2", "block3", "shortcut", "conv").

        Raises:
          ValueError: the layer has no name.
        """
        match path:
            case ("head",):
                return self.head
            case ("bn",) if self.final_norm:
                return self.final_norm
            case ("stem", kind):
                return self.stem_conv if kind == "conv" else self.stem_norm
            case (stage, block, "shortcut", kind):
                return self.prefix(stage, block) + (self.shortcut_conv if kind == "conv" else self.shortcut_norm)
            case (stage, block, kind) if kind[:-1] in ("conv", "bn"):
                template, layer = self.conv if kind.startswith("conv") else self.norm, int(kind[-1])
                return self.prefix(stage, block) + template.format(layer=layer, layer_from_0=layer - 1)
        raise ValueError(f"no PyTorch name is defined for {path}")

    def prefix(self, stage: str, block: str) -> str:
        """Return the prefix of the names of a block's layers."""
        number = int(stage.removeprefix("stage"))
        return self.block.format(stage=number, stage_from_0=number - 1, block=int(block.removeprefix("block")))

    def fields(self, tensors: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
        """Return the fields of ``config.model`` that names and shapes determine; None for other nets.

        They do not determine the order of norm, ReLU and addition if no norm comes first, nor operations without
        parameters: shortcut "A" represents all shortcuts without parameters.

        Args:
          tensors: tensors by name.
        """

        def weight(*layer: str) -> np.ndarray | None:
            return tensors.get(f"{self.layer_name(layer)}.weight")

        def blocks(stage: int) -> int:
            return count(weight(f"stage{stage}", f"block{block}", "conv1") for block in itertools.count())

        stem, first = weight("stem", "conv"), weight("stage1", FIRST, "conv1")
        if stem is None or first is None or not stem.ndim == first.ndim == 4:
            return None
        family = "imagenet" if stem.shape[-1] == 7 else "cifar"
        convolutions = count(weight("stage1", FIRST, f"conv{layer}") for layer in (1, 2, 3))
        depth = 2 + convolutions * sum(itertools.takewhile(bool, map(blocks, itertools.count(1))))
        widening = first.shape[0] / WIDTHS[family]
        found = {"family": family, "depth": depth, "widening": widening} | self.shortcut_and_order(tensors)
        if family == "cifar":
            found["block"] = BLOCKS[convolutions]
        # A wide net of widening 1 is also a cifar net.
        wide = {"family": "cifar", "block": "basic", "shortcut": "B", "order": "preactivation", "stem_activation": True}
        if widening > 1 and wide.items() <= found.items():
            return {"family": "wide", "depth": depth + 2, "widening": widening}
        return found

    def shortcut_and_order(self, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return the fields ``shortcut``, ``order`` and ``stem_activation`` as far as ``tensors`` determine them."""
        blocks = [("stage1", FIRST), ("stage1", "block1"), ("stage2", FIRST)]
        prefixes = [self.prefix(*block) for block in blocks]
        kernels = [tensors.get(f"{prefix}{self.shortcut_conv}.weight") for prefix in prefixes]
        projections = [kernel for kernel in kernels if kernel is not None]
        has_norm = any(f"{prefix}{self.shortcut_norm}.weight" in tensors for prefix in prefixes)
        # Only if every block has a projection, one of them keeps the width.
        everywhere = any(kernel.shape[:1] == kernel.shape[1:2] for kernel in projections)
        found: dict[str, Any] = {"shortcut": "C" if everywhere else "B" if projections else "A"}
        if self.final_norm and f"{self.final_norm}.weight" in tensors:
            found |= {"order": "preactivation", "stem_activation": f"{self.stem_norm}.weight" in tensors}
        elif projections and not has_norm:  # Only one of the remaining orders has projections B without norm.
            found |= {"shortcut": "conv"} if everywhere else {"order": "relu_preactivation"}
        return found


def count(weights: Iterable[np.ndarray | None]) -> int:
    """Return the number of ``weights`` before the first missing one."""
    return sum(1 for _ in itertools.takewhile(lambda weight: weight is not None, weights))


CIFAR = ResidualNames(
    stem_conv="conv1",
    stem_norm="bn1",
    block="layer{stage}.{block}.",
    conv="conv{layer}",
    norm="bn{layer}",
    shortcut_conv="shortcut.0",
    shortcut_norm="shortcut.1",
    head="linear",
    final_norm="bn",
)
TORCHVISION = CIFAR._replace(shortcut_conv="downsample.0", shortcut_norm="downsample.1", head="fc", final_norm="")
HUGGING_FACE = ResidualNames(
    stem_conv="resnet.embedder.embedder.convolution",
    stem_norm="resnet.embedder.embedder.normalization",
    block="resnet.encoder.stages.{stage_from_0}.layers.{block}.",
    conv="layer.{layer_from_0}.convolution",
    norm="layer.{layer_from_0}.normalization",
    shortcut_conv="shortcut.convolution",
    shortcut_norm="shortcut.normalization",
    head="classifier.1",
)
# timm's own pre-activation nets have no norm in the stem.
TIMM_V2 = ResidualNames(
    stem_conv="stem.conv",
    stem_norm="stem.norm",
    block="stages.{stage_from_0}.blocks.{block}.",
    conv="conv{layer}",
    norm="norm{layer}",
    shortcut_conv="downsample.conv",
    shortcut_norm="downsample.norm",
    head="head.fc",
    final_norm="norm",
)
