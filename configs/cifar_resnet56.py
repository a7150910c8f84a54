from configs import recipes


def get_config():
    return recipes.cifar(depth=56, residual=True)
