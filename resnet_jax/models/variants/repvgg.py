"""RepVGG: blocks of a 3x3 convolution, a 1x1 and the input, each with a norm (Ding et al. 2021, arXiv 2101.03697)."""

import jax

from resnet_jax.models.block import ConvBlock
from resnet_jax.models.variants.shortcuts import Projection, changes_shape


def parallel(block: ConvBlock, x: jax.Array) -> jax.Array:
    """Return norm(1x1 convolution of x) + norm(x), the second only where shapes agree (section 3.3).

    All but the ReLU is linear in evaluation, so ``resnet_jax.surgery.merge`` merges these and the 3x3 into one.
    """
    pointwise = Projection()(block, x)
    if changes_shape(block, x):
        return pointwise
    return block.norm(name="identity")(x, pointwise, activate=False)
