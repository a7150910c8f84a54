"""What else than a shortcut lets deep nets train, and what else than batch norm lets shortcuts do so?

Protocol: plain nets with Dirac parametrisation, delta-orthogonal values (tanh), looks-linear values (CReLU, twice the
parameters) and LSUV, beside the plain net, the plain net without norm and with group norm. Residual nets with Fixup,
SkipInit, ReZero (which keeps batch norm) and scaled weight standardisation, beside the residual net, without norm and
with group norm; RepVGG, which has a shortcut in training and none when deployed. Each at the best of five learning
rates, by validation error, at 20 and 56 layers; three seeds, and five of the nets that three left undecided.

It does not show: recipes beyond the learning rate that some remedies come with (mixup, clipping, other decay).

Literature, in test errors but for Xiao et al.: Dirac nets of 34 layers have 27.79 % on ImageNet, residual ones 27.17 %
(arXiv 1706.00388, 2101.03697); plain tanh nets of 10,000 layers train (Xiao et al. 2018, arXiv 1806.05393, figure 1);
ReZero-56 has 6.38 % on CIFAR-10, with batch norm 7.74 % (2003.04887); RepVGG is worse with 133 layers than with 69
(2111.00687).
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, chain, product, tuned

LITERATURE = {
    "plain, norm batch": ("degrades", "He et al. 2015, figure 6"),
    "residual, shortcut A, norm batch": ("does not degrade", "He et al. 2015, figure 6"),
    "delta-orthogonal tanh plain, norm none": ("does not degrade", "Xiao et al. 2018, figure 1"),
}
PLAIN = ({}, {"norm": "group"}, {"parametrization": "dirac"})
PLAIN_UNDECIDED = (
    {"norm": "none"},
    {"init": "delta_orthogonal", "activation": "tanh", "norm": "none"},
    {"init": "looks_linear", "activation": "crelu", "norm": "none"},
    {"init": "lsuv", "norm": "none"},
)
RESIDUAL = ({}, {"norm": "none"}, {"block": "repvgg"}, {"branch_scaling": "rezero"})
RESIDUAL_UNDECIDED = (
    {"norm": "group"},
    {"branch_scaling": "fixup"},
    {"branch_scaling": "skipinit"},
    {"branch_scaling": "normalizer_free", "shortcut": "B"},
)


def get_config():
    config = recipes.digits(depth=56, residual=True)
    config.steps = 100
    config.data.validation_examples = 250
    return config


def get_sweep():
    def nets(residual, remedies):
        fields = [{f"model.{name}": value for name, value in remedy.items()} for remedy in remedies]
        return product(axis("model.residual", [residual]), fields)

    def runs(arms, seeds):
        rates = tuned("optimizer.learning_rate", [0.003, 0.01, 0.03, 0.1, 0.3])
        return product(arms, axis("model.depth", [20, 56]), rates, axis("seed", range(seeds)))

    decided = chain(nets(False, PLAIN), nets(True, RESIDUAL))
    undecided = chain(nets(False, PLAIN_UNDECIDED), nets(True, RESIDUAL_UNDECIDED))
    return chain(runs(decided, 3), runs(undecided, 5))
