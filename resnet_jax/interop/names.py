"""PyTorch names and layouts of the tensors of a residual net.

========================  =============================================  ==========================================
                          PyTorch                                        here
========================  =============================================  ==========================================
kernel of a convolution   ``[features, channels, height, width]``        ``[height, width, channels, features]``
kernel of the head        ``[classes, features]``                        ``[features, classes]``
batch norm's scale        ``weight``                                     ``scale``
running statistics        among the tensors, ``running_mean``            in their own collection, ``batch_stats``
running variance          average of unbiased batch variances            of biased ones; evaluation uses either as is
momentum                  0.1, weight of the new value                   0.9, weight of the old value: the same
epsilon                   1e-5, not among the tensors                    1e-5; ``from_torch`` converts from others
strided convolution       same padding on all sides                      the same, unlike "SAME" of other frameworks
stride of a bottleneck    torchvision, timm, Hugging Face: the 3x3       ``config.model.bottleneck_stride``: "middle";
                          the authors' Caffe nets: the first 1x1         "first"; no tensor shows which
========================  =============================================  ==========================================
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from resnet_jax.errors import UserError
from resnet_jax.models import Path, stack, unstack
from resnet_jax.models.norm import BatchNorm


class Scheme(NamedTuple):
    """A naming scheme of layers.

    ``block``, the prefix of a block, has the placeholders ``stage`` (from 1), ``stage_from_0`` and ``block`` (from 0);
    ``conv`` and ``norm``, the layers of its branch, have ``layer`` (from 1) and ``layer_from_0``.
    """

    title: str
    stem_conv: str
    stem_norm: str
    block: str
    conv: str
    norm: str
    shortcut_conv: str
    shortcut_norm: str
    head: str

    def layer(self, path: Path) -> str:
        """Return the name of the layer at ``path``, such as ("stage2", "block0", "shortcut", "conv")."""
        match path:
            case ("head",):
                return self.head
            case ("stem", kind):
                return self.stem_conv if kind == "conv" else self.stem_norm
            case (stage, block, *rest):
                number = int(stage.removeprefix("stage"))
                prefix = self.block.format(
                    stage=number, stage_from_0=number - 1, block=int(block.removeprefix("block"))
                )
                if rest[0] == "shortcut":
                    return prefix + (self.shortcut_conv if rest[1] == "conv" else self.shortcut_norm)
                template = self.conv if rest[0].startswith("conv") else self.norm
                layer = int(rest[0][-1])
                return prefix + template.format(layer=layer, layer_from_0=layer - 1)
        raise NotImplementedError(f"no PyTorch name is defined for {path}")

    def tensor(self, path: Path) -> str:
        """Return the name of the leaf at ``path`` of a net's variables."""
        return f"{self.layer(path[1:-1])}.{TENSORS[path[-1]]}"


TENSORS = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}

CIFAR = Scheme(
    "CIFAR nets of PyTorch",
    stem_conv="conv1",
    stem_norm="bn1",
    block="layer{stage}.{block}.",
    conv="conv{layer}",
    norm="bn{layer}",
    shortcut_conv="shortcut.0",
    shortcut_norm="shortcut.1",
    head="linear",
)
TORCHVISION = CIFAR._replace(
    title="torchvision and timm", shortcut_conv="downsample.0", shortcut_norm="downsample.1", head="fc"
)
HUGGING_FACE = Scheme(
    "Hugging Face",
    stem_conv="resnet.embedder.embedder.convolution",
    stem_norm="resnet.embedder.embedder.normalization",
    block="resnet.encoder.stages.{stage_from_0}.layers.{block}.",
    conv="layer.{layer_from_0}.convolution",
    norm="layer.{layer_from_0}.normalization",
    shortcut_conv="shortcut.convolution",
    shortcut_norm="shortcut.normalization",
    head="classifier.1",
)
SCHEMES = (CIFAR, TORCHVISION, HUGGING_FACE)
# The names under which a family is exported.
SCHEME_OF_FAMILY = {"cifar": CIFAR, "imagenet": TORCHVISION}


def scheme_of_family(family: str) -> Scheme:
    """Return the names under which nets of ``family`` are exported.

    Raises:
      UserError: the family has no PyTorch names.
    """
    if family not in SCHEME_OF_FAMILY:
        raise UserError(
            f"experiments.export --format=safetensors: family {family!r} has no PyTorch names; "
            f"families that have them are {', '.join(SCHEME_OF_FAMILY)}."
        )
    return SCHEME_OF_FAMILY[family]


class Recognised(NamedTuple):
    """What names and shapes say about a net: ``model`` has the fields of ``config.model`` that they determine."""

    scheme: Scheme
    model: dict[str, Any]


def recognise(tensors: Mapping[str, np.ndarray], where: str) -> Recognised:
    """Return the naming scheme of ``tensors`` and the net they belong to.

    Args:
      tensors: by name.
      where: the file they come from, for error messages.

    Raises:
      UserError: the names follow no known scheme.
    """

    def has(scheme: Scheme, *layer: str) -> bool:
        return f"{scheme.layer(layer)}.weight" in tensors

    known = [scheme for scheme in SCHEMES if has(scheme, "stem", "conv") and has(scheme, "stage1", "block0", "conv1")]
    # The first two differ only in the head and the shortcuts.
    found = next((scheme for scheme in known if has(scheme, "head")), known[0] if known else None)
    if found is None:
        titles = ", ".join(scheme.title for scheme in SCHEMES)
        example = ", ".join(list(tensors)[:3])
        raise UserError(f"{where} follows no known naming scheme ({titles}); its tensors include {example or 'none'}.")

    sizes: list[int] = []
    while has(found, f"stage{len(sizes) + 1}", "block0", "conv1"):
        blocks = 0
        while has(found, f"stage{len(sizes) + 1}", f"block{blocks}", "conv1"):
            blocks += 1
        sizes.append(blocks)
    layers = 3 if has(found, "stage1", "block0", "conv3") else 2
    if sizes[0] > 1 and has(found, "stage1", "block1", "shortcut", "conv"):
        shortcut = "C"
    else:
        shortcut = "B" if has(found, "stage2", "block0", "shortcut", "conv") else "A"
    stem = tensors[f"{found.layer(('stem', 'conv'))}.weight"]
    family = "imagenet" if stem.shape[-1:] == (7,) else "cifar"
    return Recognised(found, {"family": family, "depth": 2 + layers * sum(sizes), "shortcut": shortcut})


def to_torch(variables: Mapping[str, Any], scheme: Scheme) -> dict[str, np.ndarray]:
    """Return ``{"params": ..., "batch_stats": ...}`` of a net as tensors by their names in ``scheme``."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    return {
        scheme.tensor(path): np.ascontiguousarray(np.transpose(leaf, axes[np.ndim(leaf)]))
        for path, leaf in unstack(variables).items()
    }


def from_torch(
    tensors: Mapping[str, np.ndarray],
    like: Mapping[str, Any],
    scheme: Scheme,
    where: str,
    epsilon: float = BatchNorm.epsilon,
) -> dict[str, Any]:
    """Return the variables of a net from ``tensors``, all of them or none.

    Args:
      tensors: by their names in ``scheme``.
      like: ``{"params": ..., "batch_stats": ...}`` with the net's structure and shapes, as ``models.template`` returns.
      scheme: of the names.
      where: the file they come from, for error messages.
      epsilon: of the batch norms that the tensors were trained with.

    Raises:
      UserError: a tensor is missing, unexpected, of another shape or non-finite; each is logged.
    """
    wanted = to_torch(like, scheme)
    faults = []
    for name in sorted(wanted.keys() | tensors.keys()):
        shapes = [tuple(each[name].shape) if name in each else None for each in (tensors, wanted)]
        if shapes[0] != shapes[1]:
            faults.append(f"{name}: {shapes[0] or 'missing'} in the file, {shapes[1] or 'missing'} in the net")
        elif not np.isfinite(tensors[name]).all():
            faults.append(f"{name}: non-finite (inf or NaN)")
    for fault in faults:
        logging.error("%s", fault)
    if faults:
        raise UserError(
            f"{where} does not fit the net in {len(faults)} of {len(wanted.keys() | tensors.keys())} tensors, e.g. "
            f"{faults[0]}; nothing was loaded."
        )

    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    leaves = {}
    for path in unstack(like):
        tensor = np.asarray(tensors[scheme.tensor(path)], np.float32)
        leaf = np.ascontiguousarray(np.transpose(tensor, axes[tensor.ndim]))
        # Only the sum of variance and epsilon is used.
        leaves[path] = leaf + np.float32(epsilon - BatchNorm.epsilon) if path[-1] == "var" else leaf
    return stack(leaves, like)
