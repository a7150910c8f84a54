"""Linear scaling rule: adapt learning rate and schedule to the global batch size."""

from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.config import check
from resnet_jax.errors import UserError


def resolved(config: ConfigDict, devices: int) -> ConfigDict:
    """Return ``config`` as it is trained on ``devices`` devices, checked.

    With ``config.per_device_batch_size`` the batch is that many examples for each device, k times as large as the
    recipe's, and the rest follows the linear scaling rule (Goyal et al. 2017, arXiv 1706.02677): learning rates are
    multiplied by k, and lengths in steps divided by it, so that the epochs stay the same; the decay of averaged
    parameters is raised to the power of k (Busbridge et al. 2023, arXiv 2307.13813). If k is above 1, the rate rises
    evenly from 1/k of it over ``config.optimizer.rampup_steps``. Records stay ``config.log_every`` steps apart, and
    evaluations and checkpoints come at multiples of it, since each other length of a dispatch is compiled.

    The result resolves to itself on the same number of devices.

    Raises:
      UserError: a field has a value that is not valid, given or resolved.
    """
    check(config, devices)
    models.build(config.model, num_classes=1)  # Refuses a depth that the family does not have.
    if config.per_device_batch_size is None or config.batch_size == config.per_device_batch_size * devices:
        return config
    old, new = config.batch_size, config.per_device_batch_size * devices

    def steps(count: int, multiple: int = 1) -> int:
        """Return the steps, a multiple of ``multiple``, that see as many examples as ``count`` did; 0 only for 0."""
        return max(min(count, 1), round(count * old / new / multiple)) * multiple

    result = config.copy_and_resolve_references()
    optimizer = result.optimizer
    with result.ignore_type():  # An integer will do for a rate.
        result.batch_size = new
        optimizer.learning_rate *= new / old
        optimizer.warmup_learning_rate *= new / old
        optimizer.average_decay **= new / old
        optimizer.rampup_fraction = min(1.0, optimizer.rampup_fraction * old / new)
    result.steps = steps(config.steps)
    for name in ("warmup_steps", "rampup_steps", "plateau_window", "decay_steps"):
        optimizer[name] = steps(optimizer[name])
    for name in ("eval_every", "checkpoint_every"):
        result[name] = steps(result[name], multiple=result.log_every)
    try:
        check(result, devices)
    except UserError as error:
        raise UserError(
            f"config.per_device_batch_size={config.per_device_batch_size} on {devices} devices turns batches of {old} "
            f"into {new}, and then {error}"
        ) from error
    return result
