"""The names of a DenseNet's layers in torchvision."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from resnet_jax.models import Path
from resnet_jax.models.zoo.densenet import IMAGENET_BLOCKS


def layer_name(path: Path) -> str:
    """Return torchvision's name of the layer at ``path``, such as ("stage1", "block3", "conv1").

    torchvision has no nets for small images; their layers are named as if its stem had no norm.

    Raises:
      ValueError: there is no such layer.
    """
    match path:
        case ("head",):
            return "classifier"
        case ("bn",):  # The last norm counts as part 5, after four dense blocks.
            return "features.norm5"
        case ("stem", "conv" | "bn"):
            return f"features.{TORCHVISION[path[1]]}0"
        case (part, "conv" | "bn") if part.startswith("transition"):
            return f"features.{part}.{TORCHVISION[path[1]]}"
        case (stage, block, layer) if stage.startswith("stage") and block.startswith("block"):
            number, kind = int(block.removeprefix("block")) + 1, TORCHVISION[layer[:-1]]
            return f"features.denseblock{stage.removeprefix('stage')}.denselayer{number}.{kind}{layer[-1]}"
    raise ValueError(f"{path} is not a layer of a DenseNet")


def fields(tensors: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Return the fields of ``config.model`` that names and shapes of ``tensors`` determine, None if not a DenseNet.

    Compression is 0.5 if the first transition keeps half of its channels, rounded down, else the share it keeps.
    """

    def kernel(*layer: str) -> np.ndarray | None:
        tensor = tensors.get(f"{layer_name(layer)}.weight")
        return None if tensor is None or tensor.ndim != 4 else tensor

    def weight(stage: int, block: int, layer: str) -> np.ndarray | None:
        return kernel(f"stage{stage}", f"block{block}", layer)

    transition, first = kernel("transition1", "conv"), weight(1, 0, "conv1")
    if transition is None or first is None:
        return None
    blocks: list[int] = []
    while weight(len(blocks) + 1, 0, "conv1") is not None:
        layers = 0
        while weight(len(blocks) + 1, layers, "conv1") is not None:
            layers += 1
        blocks.append(layers)
    last = weight(1, 0, "conv2")
    kept, inputs = transition.shape[:2]
    found = {
        "growth": len(first if last is None else last),
        "compression": 0.5 if kept == inputs // 2 else kept / inputs,
    }
    for depth, layers_of_blocks in IMAGENET_BLOCKS.items():
        if tuple(blocks) == layers_of_blocks:
            return {"family": "imagenet_densenet", "depth": depth, **found}
    convolutions = sum(blocks) * (1 if last is None else 2)
    return {"family": "densenet", "depth": convolutions + len(blocks) + 1, **found}


TORCHVISION = {"conv": "conv", "bn": "norm"}
