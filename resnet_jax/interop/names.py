"""What PyTorch users call the tensors of a residual net, and how these are laid out there.

========================  =============================================  ==========================================
                          PyTorch                                        here
========================  =============================================  ==========================================
kernel of a convolution   ``[features, channels, height, width]``        ``[height, width, channels, features]``
kernel of the head        ``[classes, features]``                        ``[features, classes]``
batch norm's scale        ``weight``                                     ``scale``
running statistics        among the tensors, ``running_mean``            a collection of their own, ``batch_stats``
running variance          moved by the unbiased variance of a batch      by the biased one; evaluation uses either as is
momentum                  0.1, the share of the new                      0.9, the share of the old: the same
epsilon                   1e-5, not among the tensors                    1e-5; ``from_torch`` carries another over
strided convolution       padded alike on all sides                      the same; "SAME" of other frameworks is not
stride of a bottleneck    torchvision, timm, Hugging Face: the 3x3       ``config.model.bottleneck_stride``: "middle";
                          the authors' Caffe nets: the first 1x1         "first"; no tensor tells which
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
    """What the layers are called.

    A block's prefix is filled in with its ``stage`` (from 1), ``stage_from_0`` and ``block`` (from 0), the name of a
    layer of its branch with ``layer`` (from 1) and ``layer_from_0``.
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
        """Return what the layer at ``path`` is called, a path as ("stage2", "block0", "shortcut", "conv")."""
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
        """Return what the leaf at ``path`` of a net's variables is called."""
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
# Under which names a family is written.
SCHEME_OF_FAMILY = {"cifar": CIFAR, "imagenet": TORCHVISION}


class Recognised(NamedTuple):
    """What names and shapes tell of a net; ``model`` has the fields of ``config.model`` that they settle."""

    scheme: Scheme
    model: dict[str, Any]


def recognise(tensors: Mapping[str, np.ndarray], where: str) -> Recognised:
    """Return whose names ``tensors`` have, and of which net they are.

    Args:
      tensors: by their names.
      where: the file they come from, for the message.

    Raises:
      UserError: the names are none of the known ones.
    """

    def has(scheme: Scheme, *layer: str) -> bool:
        return f"{scheme.layer(layer)}.weight" in tensors

    known = [scheme for scheme in SCHEMES if has(scheme, "stem", "conv") and has(scheme, "stage1", "block0", "conv1")]
    # The first two differ in the head and the shortcuts alone.
    found = next((scheme for scheme in known if has(scheme, "head")), known[0] if known else None)
    if found is None:
        titles = ", ".join(scheme.title for scheme in SCHEMES)
        example = ", ".join(list(tensors)[:3])
        raise UserError(f"{where} has none of the known names ({titles}) but {len(tensors)} as {example or 'none'}.")

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
    """Return ``{"params": ..., "batch_stats": ...}`` of a net as tensors, by their names in ``scheme``."""
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
      like: ``{"params": ..., "batch_stats": ...}`` of the net's structure and shapes, as ``models.template`` gives it.
      scheme: of the names.
      where: the file they come from, for the message.
      epsilon: of the batch norms that the tensors were trained with.

    Raises:
      UserError: a tensor is missing, superfluous, of another shape or not finite; the log names each.
    """
    wanted = to_torch(like, scheme)
    faults = []
    for name in sorted(wanted.keys() | tensors.keys()):
        shapes = [tuple(each[name].shape) if name in each else None for each in (tensors, wanted)]
        if shapes[0] != shapes[1]:
            faults.append(f"{name}: {shapes[0] or 'missing'} in the file, {shapes[1] or 'missing'} in the net")
        elif not np.isfinite(tensors[name]).all():
            faults.append(f"{name}: not finite")
    for fault in faults:
        logging.error("%s", fault)
    if faults:
        raise UserError(
            f"{where} does not fit the net in {len(faults)} of {len(wanted.keys() | tensors.keys())} tensors, as in "
            f"{faults[0]}; nothing was loaded."
        )

    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    leaves = {}
    for path in unstack(like):
        tensor = np.asarray(tensors[scheme.tensor(path)], np.float32)
        leaf = np.ascontiguousarray(np.transpose(tensor, axes[tensor.ndim]))
        # Only the sum of variance and epsilon is ever used.
        leaves[path] = leaf + np.float32(epsilon - BatchNorm.epsilon) if path[-1] == "var" else leaf
    return stack(leaves, like)
