"""The layers of Inception-v4 and of the released Inception-ResNet-v2 by their names in timm.

Batch norms have an epsilon of 1e-3 in timm, as here.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from resnet_jax.models import Path
from resnet_jax.models.zoo.inception import RESNET_V2, V4, Architecture, Branches, Conv, depth

# timm numbers all parts of Inception-v4 in sequence; each block is one.
V4_PARTS = {"stem": 0, "stage1": 6, "reduction1": 10, "stage2": 11, "reduction2": 18, "stage3": 19}
RESNET_V2_STEM = {
    "conv1": "conv2d_1a",
    "conv2": "conv2d_2a",
    "conv3": "conv2d_2b",
    "conv5": "conv2d_3b",
    "conv6": "conv2d_4a",
    "mixed8": "mixed_5b",
}
RESNET_V2_PARTS = {
    "stage1": "repeat",
    "reduction1": "mixed_6a",
    "stage2": "repeat_1",
    "reduction2": "mixed_7a",
    "stage3": "repeat_2",
    "stage4": "block8",
    "top": "conv2d_7b",
}


def v4_fields(tensors: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Return the fields of ``config.model`` of Inception-v4 if ``tensors`` have its names, else None."""
    is_v4 = {"features.0.conv.weight", "last_linear.weight"} <= tensors.keys()
    return {"family": "inception_v4", "depth": depth(V4), "residual": False} if is_v4 else None


def resnet_v2_fields(tensors: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Return the fields of ``config.model`` of Inception-ResNet-v2 if ``tensors`` have its names, else None."""
    is_v2 = {"conv2d_1a.conv.weight", "block8.conv2d.weight"} <= tensors.keys()
    return {"family": "inception_resnet_v2", "depth": depth(RESNET_V2)} if is_v2 else None


def v4_name(path: Path) -> str:
    """Return the name of the layer of Inception-v4 at ``path``, such as ("stage2", "block3", "branch2", "conv1")."""
    match path:
        case ("head",):
            return "last_linear"
        case ("stem", layer):
            return f"features.{number(layer) - 1}.{kind(layer)}"
        case ("stem", "mixed4" | "mixed6" as mixed, _, layer):  # A convolution next to a pooling.
            return f"features.{number(mixed) - 1}.conv.{kind(layer)}"
        case ("stem", mixed, *inside):
            return f"features.{number(mixed) - 1}.{name_in_branches(branches_of(V4, mixed), inside)}"
        case ("stage3", block, "branch2" | "branch3" as branch, *inside):  # These end in two convolutions side by side.
            place, side = (inside[0], " ab"[number(inside[1])]) if len(inside) == 3 else (inside[0], "")
            prefix = f"features.{V4_PARTS['stage3'] + number(block)}.branch{number(branch) - 1}"
            return f"{prefix}_{number(place) - 1}{side}.{kind(inside[-1])}"
        case (part, block, *inside) if part.startswith("stage"):
            return f"features.{V4_PARTS[part] + number(block)}.{name_in_branches(branches_of(V4, part), inside)}"
        case (part, *inside):
            return f"features.{V4_PARTS[part]}.{name_in_branches(branches_of(V4, part), inside)}"
    raise ValueError(f"{path} is not a layer of Inception-v4")


def resnet_v2_name(path: Path) -> str:
    """Return the name of a layer of the released Inception-ResNet-v2."""
    match path:
        case ("head",):
            return "classif"
        case ("stem", layer):
            return f"{RESNET_V2_STEM[f'conv{number(layer)}']}.{kind(layer)}"
        case ("top", layer):
            return f"{RESNET_V2_PARTS['top']}.{kind(layer)}"
        case ("stem", mixed, *inside):
            return f"{RESNET_V2_STEM[mixed]}.{name_in_branches(branches_of(RESNET_V2, mixed), inside)}"
        case (part, block, *inside) if part.startswith("stage"):
            prefix = RESNET_V2_PARTS[part] + ("" if part == "stage4" else f".{number(block)}")
            is_up = inside[0] in ("up", "up_norm")  # A convolution and its bias.
            return f"{prefix}.{'conv2d' if is_up else name_in_branches(branches_of(RESNET_V2, part), inside)}"
        case (part, *inside):
            return f"{RESNET_V2_PARTS[part]}.{name_in_branches(branches_of(RESNET_V2, part), inside)}"
    raise ValueError(f"{path} is not a layer of Inception-ResNet-v2")


def branches_of(net: Architecture, part: str) -> Branches:
    """Return the branches of a step of the stem, such as "mixed5", of the blocks of a stage, or of a reduction."""
    if part.startswith("stage"):
        return net.stages[number(part) - 1].branches
    if part.startswith("reduction"):
        return net.stages[number(part)].reduction
    step = net.stem[number(part) - 1]
    assert not callable(step)
    assert not isinstance(step, Conv)
    return step


def name_in_branches(branches: Branches, inside: list[str]) -> str:
    """Return the name of a layer such as ["branch2", "conv1"]; timm numbers the steps of a branch of several."""
    branch, layer = inside
    place = f".{number(layer) - 1}" if len(branches[number(branch) - 1]) > 1 else ""
    return f"branch{number(branch) - 1}{place}.{kind(layer)}"


def number(name: str) -> int:
    """Return the number in ``name``, such as 2 in "conv2"."""
    return int(re.sub(r"\D", "", name))


def kind(layer: str) -> str:
    """Return the name of ``layer`` without its number, such as "conv" or "bn"."""
    return layer.rstrip("0123456789")
