from configs import recipes


def get_config():
    return recipes.cifar(depth=44, residual=True)
