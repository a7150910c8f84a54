"""Residual-56 on the embedded digits. With seed 0 on a CPU: 0.00 % training and 2.36 % test error."""

from configs import recipes


def get_config():
    return recipes.digits(depth=56, residual=True)
