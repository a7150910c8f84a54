"""A block of your own: highway nets (Srivastava et al. 2015, arXiv 1505.00387, equation 3).

A gate T(x), which begins nearly closed, divides the output between branch and shortcut:

    python -m experiments.main --import=docs/examples/highway.py --config=configs/digits_resnet20.py \
        --config.model.block=highway
"""

import flax.linen as nn

from resnet_jax import models

BIAS = -2.0  # The paper's are from -1 to -10.


class Highway(models.ConvBlock):
    """relu(T(x) * F(x) + (1 - T(x)) * x); without shortcuts relu(T(x) * F(x))."""

    @nn.compact
    def __call__(self, x):
        settings = {"dtype": x.dtype, "bias_init": nn.initializers.constant(BIAS), "name": "gate"}
        share = nn.sigmoid(nn.Conv(self.layers[-1].features, (1, 1), self.stride, **settings)(x))
        shortcut = self.shortcut(x, 1 - share)
        return self.join(self.branch(x), shortcut, self.gain(), share)

    def shortcut(self, x, share):
        return share * self.identity(x) if self.residual else None

    def join(self, branch, shortcut, gain, share):
        y = share * self.last_norm()(branch, activate=False)
        return self.activate(self.add(y, shortcut, gain))


models.register_block("highway", Highway)
