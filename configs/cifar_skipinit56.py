"""SkipInit residual-56 on CIFAR-10: shortcuts without norms (De and Smith 2020, arXiv 2002.10444). No error is
published for this net; the paper's are wide.
"""

from configs import recipes


def get_config():
    return recipes.cifar(depth=56, residual=True, branch_scaling="skipinit")
