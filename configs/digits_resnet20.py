from configs import recipes


def get_config():
    return recipes.digits(depth=20, residual=True)
