"""Does a residual net train on as well when it has become the plain net that computes the same?

Protocol: residual-56 is trained for 30 steps (digits_conversion_start). Its batch norms are folded into convolutions,
and of the folded net a plain one is made, which computes the same with hidden layers wider by their inputs:

    python -m experiments.sweep --config=configs/sweeps/digits_conversion_start.py
    for seed in 1 2 3; do start=runs/digits_conversion_start/residual-56-seed$seed
      python -m experiments.surgery fold_norms --run=$start --out=$start-folded
      python -m experiments.surgery to_plain --run=$start --out=$start-as-plain; done

All three are trained on at four constant learning rates. Folded and plain nets compute the same function at the start
and have no batch norm; what differs is where the shortcut is: in the net, or in the values of the kernels. Seeds begin
at 1 because of seed 0 the conversion is refused: logits would differ by 1.4e-4, more than the 1e-4 that surgery allows.

It does not show: nets with batch norm, which the conversion folds away; nor long training.

Literature: reserve and merge (Meng et al. 2021, arXiv 2111.00687) removes shortcuts for deployment; training on from
there was not measured.
"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, chain, product

START = "runs/digits_conversion_start/residual-56-seed{seed}"


def get_config():
    config = recipes.digits(depth=56, residual=True)
    config.steps = 100
    config.optimizer.milestones = ()
    config.log_every = 2
    config.eval_every = 20
    return config


def get_sweep():
    folded = {"model.norm": "none", "from_run": f"{START}-folded"}
    plain = {"model.residual": False, "model.norm": "none", "model.reserve": True, "from_run": f"{START}-as-plain"}
    nets = chain([{"from_run": START}], [folded], [plain])
    return product(nets, axis("optimizer.learning_rate", [0.001, 0.003, 0.01, 0.03]), axis("seed", [1, 2, 3]))
