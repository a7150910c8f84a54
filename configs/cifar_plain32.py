from configs import recipes


def get_config():
    return recipes.cifar(depth=32, residual=False)
