"""Is anything on the shortcut better than the identity? (He et al. 2016, table 1, 110 layers)

Test errors in the paper, "fail" above 20 %: identity 6.61; shortcut times 0 or 0.5 fail, 0.5 on both 12.35; exclusive
gating with biases of 0 fail, -6 8.70, -7 9.81; gating of the shortcut alone 0 12.86, -6 6.91; 1x1 convolution 12.22;
dropout of 1/2 fail.
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, chain, product, together


def get_config():
    return recipes.preact(depth=110, order="original")


def get_sweep():
    constant = together(
        axis("gates.shortcut_factor", [1.0, 0.0, 0.5, 0.5]), axis("gates.branch_factor", [1.0, 1.0, 1.0, 0.5])
    )
    exclusive = product(axis("model.shortcut", ["exclusive_gating"]), axis("model.gating_bias", [0.0, -6.0, -7.0]))
    shortcut_only = product(axis("model.shortcut", ["shortcut_gating"]), axis("model.gating_bias", [0.0, -6.0]))
    return chain(constant, exclusive, shortcut_only, axis("model.shortcut", ["conv", "dropout"]))
