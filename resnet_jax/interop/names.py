"""PyTorch names and layouts of the tensors of a net. Another naming scheme is another row of ``SCHEMES``.

========================  =============================================  ==========================================
                          PyTorch                                        here
========================  =============================================  ==========================================
kernel of a convolution   ``[features, channels, height, width]``        ``[height, width, channels, features]``
kernel of the head        ``[classes, features]``                        ``[features, classes]``
                          timm's resnetv2: ``[classes, features, 1, 1]``
batch norm's scale        ``weight``                                     ``scale``
running statistics        among the tensors, ``running_mean``            in their own collection, ``batch_stats``
running variance          average of unbiased batch variances            of biased ones; evaluation uses either as is
momentum                  0.1, weight of the new value                   0.9, weight of the old value: the same
epsilon                   1e-5 or 1e-3, not among the tensors            ``Scheme.epsilon``; ``from_torch`` converts
strided convolution       same padding on all sides                      the same, unlike "SAME" of other frameworks
stride of a bottleneck    torchvision, timm, Hugging Face: the 3x3       ``config.model.bottleneck_stride``: "middle";
                          the authors' Caffe nets: the first 1x1         "first"; no tensor shows which
========================  =============================================  ==========================================
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from resnet_jax.errors import UserError
from resnet_jax.interop import densenet, inception, residual
from resnet_jax.models import Path, stack, unstack
from resnet_jax.models.layers.norm import BatchNorm


class Scheme(NamedTuple):
    """A library's names of the layers of its nets.

    Attributes:
      title: title of the nets with these names.
      layer_name: function that returns the name of the layer at a path, such as ("stage2", "block3", "conv1"); raises a
        ValueError for a layer without a name.
      fields: function that returns the fields of ``config.model`` that names and shapes of tensors determine, None if
        the tensors follow another scheme.
      epsilon: epsilon of the batch norms of these nets, there and here.
      head_is_convolution: whether the head is a 1x1 convolution there.
    """

    title: str
    layer_name: Callable[[Path], str]
    fields: Callable[[Mapping[str, np.ndarray]], dict[str, Any] | None]
    epsilon: float = BatchNorm.epsilon
    head_is_convolution: bool = False

    def tensor_name(self, path: Path) -> str:
        """Return the name of the leaf at ``path`` of a net's variables.

        Raises:
          UserError: the leaf has no name.
        """
        try:
            return f"{self.layer_name(path[1:-1])}.{TENSORS[path[-1]]}"
        except ValueError as error:
            raise UserError(
                f"layer {'/'.join(path[1:-1])} of the net has no PyTorch name in the scheme of {self.title}, so its "
                "weights cannot be exported or imported; evaluate its run directory with experiments.evaluate --run."
            ) from error


TENSORS = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}

CIFAR = Scheme("CIFAR nets of PyTorch", residual.CIFAR.layer_name, residual.CIFAR.fields)
TORCHVISION = Scheme("torchvision and timm", residual.TORCHVISION.layer_name, residual.TORCHVISION.fields)
HUGGING_FACE = Scheme("Hugging Face", residual.HUGGING_FACE.layer_name, residual.HUGGING_FACE.fields)
TIMM_V2 = Scheme("timm's resnetv2", residual.TIMM_V2.layer_name, residual.TIMM_V2.fields, head_is_convolution=True)
DENSENET = Scheme("torchvision's DenseNets", densenet.layer_name, densenet.fields)
INCEPTION_V4 = Scheme("timm's Inception-v4", inception.v4_name, inception.v4_fields, epsilon=1e-3)
INCEPTION_RESNET_V2 = Scheme(
    "timm's Inception-ResNet-v2", inception.resnet_v2_name, inception.resnet_v2_fields, epsilon=1e-3
)
SCHEMES = (CIFAR, TORCHVISION, HUGGING_FACE, TIMM_V2, DENSENET, INCEPTION_V4, INCEPTION_RESNET_V2)
# Scheme of the exported names of a family.
SCHEME_OF_FAMILY = {
    "cifar": CIFAR,
    "wide": CIFAR,
    "imagenet": TORCHVISION,
    "densenet": DENSENET,
    "imagenet_densenet": DENSENET,
    "inception_v4": INCEPTION_V4,
    "inception_resnet_v2": INCEPTION_RESNET_V2,
}


def scheme_of_family(family: str, order: str = "original") -> Scheme:
    """Return the naming scheme for exports of ``family`` with ``order``, the value of ``config.model.order``.

    Raises:
      UserError: the family has no PyTorch names.
    """
    if family not in SCHEME_OF_FAMILY:
        raise UserError(
            f"experiments.export --format=safetensors: family {family!r} has no PyTorch names; "
            f"families that have them are {', '.join(SCHEME_OF_FAMILY)}."
        )
    if (family, order) == ("imagenet", "preactivation"):
        return TIMM_V2
    return SCHEME_OF_FAMILY[family]


class Recognised(NamedTuple):
    """Naming scheme of a net, and the fields of ``config.model`` that names and shapes determine."""

    scheme: Scheme
    model: dict[str, Any]


def recognise(tensors: Mapping[str, np.ndarray], where: str) -> Recognised:
    """Return the naming scheme of ``tensors`` and the net they belong to.

    Args:
      tensors: by name.
      where: the file they come from, for error messages.

    Raises:
      UserError: the names follow no known scheme, or a tensor is empty.
    """
    for name, tensor in tensors.items():
        if not tensor.size:
            raise UserError(f"{where}: tensor {name} has no values, being of shape {tensor.shape}; export it again.")
    known = [Recognised(scheme, model) for scheme in SCHEMES if (model := scheme.fields(tensors)) is not None]
    if not known:
        titles = ", ".join(scheme.title for scheme in SCHEMES)
        example = ", ".join(list(tensors)[:3])
        raise UserError(f"{where} follows no known naming scheme ({titles}); its tensors include {example or 'none'}.")
    # The first two differ only in the head and the shortcuts.
    return next((each for each in known if f"{each.scheme.layer_name(('head',))}.weight" in tensors), known[0])


def to_torch(variables: Mapping[str, Any], scheme: Scheme) -> dict[str, np.ndarray]:
    """Return ``{"params": ..., "batch_stats": ...}`` of a net as tensors by their names in ``scheme``.

    Raises:
      UserError: a layer of the net has no name in ``scheme``.
    """
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    leaves = unstack(variables)
    head = ("params", "head", "kernel")
    if scheme.head_is_convolution:
        leaves[head] = np.asarray(leaves[head])[None, None]
    return {
        scheme.tensor_name(path): np.ascontiguousarray(np.transpose(leaf, axes[np.ndim(leaf)]))
        for path, leaf in leaves.items()
    }


def from_torch(
    tensors: Mapping[str, np.ndarray],
    like: Mapping[str, Any],
    scheme: Scheme,
    where: str,
    epsilon: float | None = None,
) -> dict[str, Any]:
    """Return the variables of a net from ``tensors``, all of them or none.

    Args:
      tensors: tensors by their names in ``scheme``.
      like: tree with the net's structure and shapes, from ``models.template``.
      scheme: naming scheme.
      where: name of the file, for error messages.
      epsilon: epsilon of the batch norms in training; None for the epsilon of ``scheme``.

    Raises:
      UserError: a tensor is missing, unexpected, of another shape or non-finite, or a variance is negative; each fault
        is logged.
    """
    wanted = to_torch(like, scheme)
    faults = []
    for name in sorted(wanted.keys() | tensors.keys()):
        shapes = [tuple(each[name].shape) if name in each else None for each in (tensors, wanted)]
        if shapes[0] != shapes[1]:
            faults.append(f"{name}: {shapes[0] or 'missing'} in the file, {shapes[1] or 'missing'} in the net")
        elif not np.isfinite(tensors[name]).all():
            faults.append(f"{name}: non-finite (inf or NaN)")
        elif name.endswith(TENSORS["var"]) and (tensors[name] < 0).any():
            faults.append(f"{name}: a negative variance")
    for fault in faults:
        logging.error("%s", fault)
    if faults:
        raise UserError(
            f"{where} does not fit the net in {len(faults)} of {len(wanted.keys() | tensors.keys())} tensors, e.g. "
            f"{faults[0]}; nothing was loaded."
        )

    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    leaves = {}
    # Only the sum of variance and epsilon is used.
    more_variance = np.float32(0 if epsilon is None else epsilon - scheme.epsilon)
    for path, own in unstack(like).items():
        tensor = np.asarray(tensors[scheme.tensor_name(path)], np.float32)
        leaf = np.ascontiguousarray(np.transpose(tensor, axes[tensor.ndim])).reshape(own.shape)
        leaves[path] = leaf + more_variance if path[-1] == "var" else leaf
    return stack(leaves, like)
