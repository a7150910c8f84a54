"""Run directories with made-up figures."""

import json

import numpy as np

from configs import recipes
from resnet_jax.analysis.censored import ABOVE, EXACT
from resnet_jax.analysis.rates import Reach
from resnet_jax.analysis.runs import group_seeds, read_runs
from resnet_jax.rundir import FORMAT_VERSION

# Depths of nets whose steps to a threshold grow by a factor of exp(10 KAPPA) for every ten layers.
DEPTHS, KAPPA = (8, 14, 20, 26, 32, 38, 44, 56), 0.05


def nets_in(folder):
    """Return the nets of the runs in and below ``folder``."""
    return group_seeds(read_runs([folder])[0])


def write_run(
    folder, depth=20, residual=False, error=0.5, seed=0, status="finished", records=3, validation=None, **fields
):
    """Write a run whose errors fall from 0.9 to ``error`` (train, train_clean) and ``error`` + 0.01 (test).

    ``validation`` is the error on a validation split, if there is one. ``fields`` override the config, with __ for
    dots; of status None no summary is written.
    """
    folder.mkdir(parents=True)
    config = recipes.digits(depth, residual)
    config.seed = seed
    config.steps, config.optimizer.learning_rate = 300, 0.05  # Whatever the recipe's are.
    if validation is not None:
        config.data.validation_examples = 100
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    steps = [config.steps * (index + 1) // records for index in range(records)]
    if status != "finished":
        steps = steps[: records // 2 + 1]
    ends = {"train": error, "train_clean": error, "test": error + 0.01}
    ends |= {} if validation is None else {"validation": validation}
    lines = []
    for index, step in enumerate(steps):
        share = (index + 1) / records
        for split, end in ends.items():
            value = 0.9 + (end - 0.9) * share
            lines.append(
                {
                    "step": step,
                    "split": split,
                    "epoch": step / 12,
                    "loss": 2 * value,
                    "error": value,
                    "lr": config.optimizer.learning_rate,
                    "seconds": 2.0 * step,
                }
            )
    (folder / "config.json").write_text(
        json.dumps(
            {
                "version": FORMAT_VERSION,
                "command": ["python", "-m", "experiments.main"],
                "config": config.to_dict(),
            }
        )
    )
    environment = {
        "time": "2026-01-01T00:00:00Z",
        "device_kind": "cpu",
        "device_count": 1,
        "packages": {"jax": "0.10.2"},
    }
    (folder / "environment.json").write_text(json.dumps([environment]))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if status is not None:
        final = {
            line["split"]: {name: line[name] for name in ("step", "loss", "error")} for line in lines[-len(ends) :]
        }
        summary = {
            "version": FORMAT_VERSION,
            "status": status,
            "steps": steps[-1],
            "seconds": 12.0,
            "parameters": 1000 * depth,
            "multiply_adds": 10**6 * depth,
            "final": final,
            "best": final,
        }
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def write_seeds(folder, depth, residual, errors, **fields):
    """Write a run for each of ``errors``, training errors of the seeds of one net."""
    for seed, error in enumerate(errors):
        write_run(folder / f"{residual}-{depth}-{seed}", depth, residual, error, seed, **fields)


def set_losses(run, losses, every=10, rates=None, epoch=10):
    """Replace the records of the run directory ``run`` by running training losses, one every ``every`` steps.

    ``rates`` are the learning rates of the records, 0.05 if not given; an epoch has ``epoch`` steps.
    """
    rates = rates or [0.05] * len(losses)
    lines = [
        {"step": step, "split": "train", "epoch": step / epoch, "loss": loss, "error": 0.5, "lr": rate, "seconds": step}
        for step, loss, rate in zip(range(every, every * len(losses) + 1, every), losses, rates, strict=True)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def write_exponentials(folder, depths=DEPTHS, kappa=KAPPA, scatter=0.0, seeds=1, steps=3000, **fields):
    """Write plain nets whose loss falls exponentially, tau 20 steps at depth 0 and growing exponentially with it."""
    random = np.random.default_rng(0)
    for depth in depths:
        for seed in range(seeds):
            tau = 20 * np.exp(kappa * depth + random.normal(0, scatter))
            ends = np.arange(10, steps + 1, 10)
            losses = (2.3 * np.exp(-(ends - 5) / tau)).tolist()
            set_losses(write_run(folder / f"{depth}-{seed}", depth, seed=seed, steps=steps, **fields), losses)
    return nets_in(folder)


def reaches_of(logarithms, seeds=3, scatter=0.02, rates=None, limit=np.inf):
    """Return runs whose steps have ``logarithms``, one for each of ``DEPTHS``, with some scatter over seeds."""
    random = np.random.default_rng(0)
    found = []
    for depth, middle, rate in zip(DEPTHS, logarithms, rates or [0.05] * len(DEPTHS), strict=True):
        for steps in np.exp(middle + random.normal(0, scatter, seeds)).tolist():
            side = ABOVE if steps > limit else EXACT
            found.append(Reach("run", depth, rate, min(steps, limit), side, diverged=False, unfinished=False))
    return found
