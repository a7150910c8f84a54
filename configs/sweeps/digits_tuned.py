"""Does depth degrade training on the embedded digits if each net has its own best learning rate?"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, product, tuned


def get_config():
    config = recipes.digits(depth=20, residual=False)
    config.steps = 100  # Half of the recipe's: the picture is the same.
    config.data.validation_examples = 300  # Rates are chosen on these.
    return config


def get_sweep():
    nets = product(axis("model.residual", [False, True]), axis("model.depth", [20, 56]))
    return product(nets, tuned("optimizer.learning_rate", [0.01, 0.03, 0.1]), axis("seed", range(3)))
