"""A net as surgery changes it: the fields of its config, and its variables as numpy arrays."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.models import Path, resnet
from resnet_jax.models.layers.norm import BatchNorm
from resnet_jax.models.resnet import ResNet

EPSILON = BatchNorm.epsilon
# Values of fields that every operation on kernels and norms needs.
USUAL = {
    "block": ("basic", "bottleneck", "single"),
    "branch_scaling": ("none",),
    "parametrization": ("free",),
    "activation": ("relu",),
}
# Variables do not depend on the size of the images.
SIDE = 32


class EditableNet(NamedTuple):
    """A plain or residual net.

    Attributes:
      config: fields of ``config.model``.
      variables: collections "params" and "batch_stats", on the host.
    """

    config: ConfigDict
    variables: dict[str, Any]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(height, width, channels)`` of images that the net takes."""
        return SIDE, SIDE, self.variables["params"]["stem"]["conv"]["kernel"].shape[2]

    @property
    def model(self) -> ResNet:
        """The module."""
        model = models.build(self.config, self.variables["params"]["head"]["bias"].size)
        assert isinstance(model, ResNet)  # ``open_net`` accepts no other nets.
        return model

    @property
    def leaves(self) -> dict[Path, np.ndarray]:
        """The variables by their paths, unstacked, such as ("params", "stage2", "block3", "bn1", "bias")."""
        return models.unstack(self.variables)

    @property
    def title(self) -> str:
        """The title of the net, such as "plain-56"."""
        return models.title(self.config)

    @property
    def blocks(self) -> list[str]:
        """The names of the blocks in forward order, such as "stage2/block3"."""
        sizes = enumerate(self.model.stage_sizes, 1)
        return [f"stage{stage}/block{block}" for stage, blocks in sizes for block in range(blocks)]

    @property
    def convolutions(self) -> int:
        """The number of convolutions in a block's branch."""
        first = self.blocks[0].split("/")
        layers = {path[3] for path in self.leaves if path[1:3] == tuple(first) and path[0] == "params"}
        return sum(name.startswith("conv") for name in layers)

    @property
    def effective(self) -> ConfigDict:
        """The config with fields that family and choices determine, such as the order of a wide net."""
        return resnet.effective(self.config)

    def rebuilt(self, leaves: Mapping[Path, np.ndarray], **fields: Any) -> Self:
        """Return the net with other ``leaves`` and other ``fields`` of its config; leaves without a place go."""
        config = self.config.copy_and_resolve_references()
        config.update(fields)
        like = (
            models.template(models.build(config, self.model.num_classes), self.image_shape)
            if fields
            else self.variables
        )
        return type(self)(config, models.stack(leaves, like))


def open_net(name: str, config: ConfigDict, variables: dict[str, Any]) -> EditableNet:
    """Return the net of ``config`` with ``variables``, from a run or weights file called ``name``.

    Raises:
      UserError: the net is neither plain nor residual, or has constant gates.
    """
    if not isinstance(models.build(config, num_classes=1), ResNet):
        raise UserError(
            f"{name} is {models.title(config)}, but surgery is for plain and residual nets; use one of family cifar, "
            "imagenet or wide."
        )
    if "gates" in variables:
        raise UserError(f"{name} has config.gates, which surgery would lose; use a net without gates.")
    return EditableNet(config, variables)


def require(net: EditableNet, operation: str, **allowed: tuple[Any, ...]) -> None:
    """Raise a UserError unless ``net`` has the ``USUAL`` parts and ``allowed`` values, for ``operation``."""
    for name, values in (USUAL | allowed).items():
        value = net.effective[name]
        if value not in values:
            raise UserError(
                f"{operation} is not exact for {net.title} with config.model.{name}={value!r}; it needs "
                f"{' or '.join(map(repr, values))}."
            )
