"""What else than a shortcut lets deep nets train, and what else than batch norm lets shortcuts do so?

Protocol: plain nets with Dirac parametrisation, delta-orthogonal values (tanh), looks-linear values (CReLU, twice the
parameters) and LSUV, compared with the plain net, the plain net without norm and with group norm. Residual nets with
Fixup, SkipInit, ReZero (which keeps batch norm) and scaled weight standardisation, compared with the residual net,
without norm and with group norm; RepVGG, which has a shortcut in training and none when deployed. Each at the best of
three learning rates, by validation error, and of up to three more where that was the highest or lowest, at 20 and 56
layers; three seeds, and five of the nets that three left undecided.

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
RATES = (0.01, 0.03, 0.1)
LOWER, HIGHER = (0.003, *RATES), (*RATES, 0.3)
LOWEST, HIGHEST = (0.0003, 0.001, *LOWER), (*HIGHER, 1.0)
# Remedy, seeds, and the rates at 20 and at 56 layers.
PLAIN = (
    ({}, 3, HIGHER, LOWEST),
    ({"norm": "none"}, 5, RATES, LOWEST),
    ({"norm": "group"}, 3, RATES, HIGHER),
    ({"parametrization": "dirac"}, 3, HIGHEST, (*HIGHEST, 3.0)),
    ({"init": "delta_orthogonal", "activation": "tanh", "norm": "none"}, 5, HIGHER, LOWER),
    ({"init": "looks_linear", "activation": "crelu", "norm": "none"}, 5, LOWER, LOWEST),
    ({"init": "lsuv", "norm": "none"}, 5, LOWER, LOWEST),
)
RESIDUAL = (
    ({}, 3, HIGHER, RATES),
    ({"norm": "none"}, 3, (0.001, *LOWER), LOWEST),
    ({"norm": "group"}, 5, RATES, LOWER),
    ({"block": "repvgg"}, 3, HIGHER, HIGHEST),
    ({"branch_scaling": "fixup"}, 5, RATES, HIGHER),
    ({"branch_scaling": "skipinit"}, 5, HIGHER, HIGHER),
    ({"branch_scaling": "rezero"}, 3, RATES, RATES),
    ({"branch_scaling": "normalizer_free", "shortcut": "B"}, 5, HIGHER, HIGHER),
)


def get_config():
    config = recipes.digits(depth=56, residual=True)
    config.steps = 100
    config.data.validation_examples = 250
    return config


def get_sweep():
    def runs(residual, remedy, seeds, depth, rates):
        fields = {"model.residual": residual, **{f"model.{name}": value for name, value in remedy.items()}}
        net = product([fields], axis("model.depth", [depth]))
        return product(net, tuned("optimizer.learning_rate", rates), axis("seed", range(seeds)))

    return chain(
        *(
            runs(residual, remedy, seeds, depth, rates)
            for residual, arms in ((False, PLAIN), (True, RESIDUAL))
            for remedy, seeds, *of_depths in arms
            for depth, rates in zip((20, 56), of_depths, strict=True)
        )
    )
