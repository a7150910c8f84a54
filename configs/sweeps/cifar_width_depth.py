"""At an equal number of parameters, is a wide net better than a deep one?

Zagoruyko and Komodakis 2016, table 4. The pairs, with parameters: WRN-40-2 and -16-4 (2.2 and 2.7 million), -40-4 and
-16-8 (8.9 and 11.0), -22-8 and -16-10 (17.2 and 17.1), -40-8 and -28-10 (35.7 and 36.5).
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, chain, product


def get_config():
    return recipes.wide(depth=40, widening=2)


def get_sweep():
    pairs = {40: (2, 4, 8), 16: (4, 8, 10), 22: (8,), 28: (10,)}
    return chain(
        *(product(axis("model.depth", [depth]), axis("model.widening", widths)) for depth, widths in pairs.items())
    )
