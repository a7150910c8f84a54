from configs import recipes


def get_config():
    return recipes.digits(depth=56, residual=False)
