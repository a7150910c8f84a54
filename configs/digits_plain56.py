"""Plain-56 on the embedded digits. With seed 0 on a CPU: 80.33 % training and 84.51 % test error."""

from configs import recipes


def get_config():
    return recipes.digits(depth=56, residual=False)
