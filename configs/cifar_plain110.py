from configs import recipes


def get_config():
    return recipes.cifar(depth=110, residual=False)
