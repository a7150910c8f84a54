"""A block of your own: Squeeze-and-Excitation (Hu et al. 2018, arXiv 1709.01507, figure 3).

The branch of each image is multiplied by a factor for each channel, computed from the branch's means over all pixels:

    python -m experiments.main --import=docs/examples/squeeze_excite.py --config=configs/digits_resnet20.py \
        --config.model.block=squeeze_excite
"""

import flax.linen as nn
import jax.numpy as jnp

from resnet_jax import models

REDUCTION = 4  # The paper's is 16, for wider nets.


class SqueezeExcite(models.ConvBlock):
    """relu(s(F(x)) * F(x) + x)."""

    def join(self, branch, shortcut, gain):
        y = self.last_norm()(branch, activate=False)
        features = y.shape[-1]
        hidden = nn.relu(nn.Dense(features // REDUCTION, dtype=y.dtype, name="squeeze")(jnp.mean(y, axis=(1, 2))))
        share = nn.sigmoid(nn.Dense(features, dtype=y.dtype, name="excite")(hidden))
        return self.activate(self.add(share[:, None, None] * y, shortcut, gain))


models.register_block("squeeze_excite", SqueezeExcite)
