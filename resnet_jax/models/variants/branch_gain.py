"""Branches times a learned scalar that begins at 0, so that a net begins as its shortcuts.

SkipInit: De and Smith 2020, arXiv 2002.10444. ReZero: Bachlechner et al. 2020, arXiv 2003.04887. Normalizer-free nets:
Brock et al. 2021, arXiv 2101.08692, with the scalar of SkipInit as in the authors' code.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from resnet_jax.models.block import ConvBlock
from resnet_jax.models.layers import init
from resnet_jax.models.variants.orders import ReluBeforeAddition, ReluPreactivation

# Factor of the scalar in normalizer-free nets, alpha of the paper.
ALPHA = 0.2


def scalar(block: ConvBlock) -> jax.Array:
    """Return the learned scalar of ``block``."""
    return block.param("gain", init.zeros, ())


class ReZero(ReluBeforeAddition):
    """S + gain * F(x), with the norms."""

    def gain(self) -> jax.Array:
        """The learned scalar."""
        return scalar(self)


class SkipInit(ReluPreactivation):
    """S + gain * F(x), without norms; each convolution has a bias."""

    projection_has_norm: ClassVar[bool] = True

    def gain(self) -> jax.Array:
        """The learned scalar."""
        return scalar(self)


class NormalizerFree(ReluPreactivation):
    """S + alpha * gain * F(x / beta), with beta the deviation of x at the start (section 3); without norms."""

    projection_has_norm: ClassVar[bool] = True

    def before(self, index: int, x: jax.Array, *numbers: jax.Array) -> jax.Array:
        """The activated input of convolution ``index``, of the first one over beta."""
        activated = super().before(index, x)
        return activated if index > 1 else jnp.asarray(numbers[0], x.dtype) * activated

    def gain(self) -> jax.Array:
        """Alpha times the learned scalar."""
        return ALPHA * scalar(self)


def net(model: ConfigDict, stage_sizes: Sequence[int]) -> dict[str, Any]:
    """Return further attributes of a normalizer-free net: 1 / beta of each block.

    beta is the standard deviation of the block's input at the start, were all learned scalars 1: the stem and the first
    block of a stage, whose shortcut divides by beta too, begin at 1, and each branch adds the square of alpha.
    """
    scales: list[float] = []
    variance = 1.0
    for blocks in stage_sizes:
        for block in range(blocks):
            scales.append(variance**-0.5)
            variance = (1.0 if block == 0 else variance) + ALPHA**2
    return {"numbers": tuple(scales)}
