"""Why do plain nets degrade: what do nets of 20 and 56 layers look like inside?

Protocol: plain and residual nets of 20 and 56 layers, five seeds each, keep their nets after 0, 1, 10 and 100 steps, at
each drop of the learning rate and at the end; the instruments measure these:

    python -m experiments.sweep --config=configs/sweeps/why_digits.py
    python -m experiments.diagnose runs/why_digits
    python -m experiments.compare runs/why_digits

It does not show: causes. What differs between nets that train and nets that do not may be a consequence of that;
interventions (digits_routes, digits_identity) tell causes from consequences.

Literature: gradients of plain nets with batch norm grow by 1.211 a layer towards the input at the start (the root of
1.467, by which their squared norm grows in wide, fully connected nets; Yang et al. 2019, arXiv 1902.08129), those of
different images become unrelated (Balduzzi et al. 2017, arXiv 1702.08591); deleting one block of a residual net hardly
matters, deleting a layer of a plain one is fatal (Veit et al. 2016, arXiv 1605.06431).
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, product

LITERATURE = {
    "plain": ("degrades", "He et al. 2015, figure 6"),
    "residual": ("does not degrade", "He et al. 2015, figure 6"),
}


def get_config():
    config = recipes.digits(depth=20, residual=False)
    config.keep_checkpoints = (0, 1, 10, 100)
    return config


def get_sweep():
    return product(axis("model.residual", [False, True]), axis("model.depth", [20, 56]), axis("seed", range(5)))
