from configs import recipes


def get_config():
    return recipes.cifar(depth=1202, residual=True)
