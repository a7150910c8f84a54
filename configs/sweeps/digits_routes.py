"""Do shortcuts help because gradients take a shorter path, or because residues are easier to learn?

Protocol: the routes of signal and gradient are opened and closed one by one, with everything else equal: residual and
plain nets; forward residual without gradient through shortcuts (stop_gradient); shortcuts in the backward pass only
(mirror); gradients to lower blocks through shortcuts only (shortcut_gradient_only). Frozen controls have all layers
below a block at their initial values: below stage 3, and below the last block. Training error on an easy set cannot
distinguish learning by residues from passing random features on, so read the stop-gradient net next to the frozen ones,
and by test error. 56 layers: routes at three learning rates, those that are best at the lowest of these at five; 20
layers and controls at the recipe's rate.

It does not show: what happens on images that random features do not separate, or in longer training. The mirror's
update is the gradient of no function, so its failure proves little. The shortcuts that change shape are stopped too.

Literature: no run of a residual net with stop-gradient shortcuts is known to us. Where gradients can flow in a residual
net: Veit, Wilber and Belongie 2016, arXiv 1605.06431.
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, chain, product, tuned

LITERATURE = {
    "plain": ("degrades", "He et al. 2015, figure 6"),
    "residual": ("does not degrade", "He et al. 2015, figure 6"),
}


def get_config():
    config = recipes.digits(depth=56, residual=True)
    config.steps = 100
    config.data.validation_examples = 250
    return config


def get_sweep():
    residual, plain = axis("model.residual", [True]), axis("model.residual", [False])
    routes = product(residual, axis("gates.route", ["both", "stop_gradient", "shortcut_gradient_only"]))
    # Best at 0.01 of three seeds when 0.01 was the lowest.
    slow = chain(product(residual, axis("gates.route", ["mirror"])), plain)

    def controls(last):
        return product(chain(residual, plain), axis("optimizer.frozen_below", ["stage3/block0", last]))

    deep, shallow = axis("model.depth", [56]), axis("model.depth", [20])
    rates = [0.01, 0.03, 0.1]
    runs = chain(
        product(routes, deep, tuned("optimizer.learning_rate", rates)),
        product(slow, deep, tuned("optimizer.learning_rate", [0.001, 0.003, *rates])),
        product(controls("stage3/block8"), deep),
        product(chain(routes, slow), shallow),
        product(controls("stage3/block2"), shallow),
    )
    return product(runs, axis("seed", range(5)))
