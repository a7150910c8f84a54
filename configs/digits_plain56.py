"""Plain-56 on the embedded digits. With seed 0 on a CPU: 77.47 % training and 79.46 % test error."""

from configs import recipes


def get_config():
    return recipes.digits(depth=56, residual=False)
