"""Is the deep solution that identity layers make of a shallow net a place where training stays?

Protocol: plain-20 is trained (digits_identity_start), and 18 blocks that compute the identity are inserted:

    python -m experiments.sweep --config=configs/sweeps/digits_identity_start.py
    for seed in 0 1 2 3 4; do start=runs/digits_identity_start/plain-20-seed$seed
      python -m experiments.surgery insert_identity --depth=56 --run=$start --out=$start-as-56; done

The plain-56 that results has the training error of plain-20. It is trained on at four constant learning rates, as is
plain-20 itself, the control; a plain-56 from random initial values has as many steps.

It does not show: whether a place with as low a loss exists that is not made of identities.

Literature: He et al. 2015, section 1, construct the deep net to argue that it should be no worse. No measurement of
whether training stays at it is known to us.
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, chain, product

START = "runs/digits_identity_start/plain-20-seed{seed}"


def get_config():
    config = recipes.digits(depth=56, residual=False)
    config.steps = 100
    config.optimizer.milestones = ()
    config.log_every = 2
    config.eval_every = 20
    return config


def get_sweep():
    inserted = product(axis("model.depth", [56]), axis("from_run", [f"{START}-as-56"]))
    control = product(axis("model.depth", [20]), axis("from_run", [START]))
    drawn = axis("model.depth", [56])
    rates = axis("optimizer.learning_rate", [0.01, 0.03, 0.1, 0.3])
    return product(chain(inserted, control, drawn), rates, axis("seed", range(5)))
