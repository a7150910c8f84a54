"""What every field of a config may be, checked before data are loaded and anything is compiled.

``configs/recipes.py`` says what the fields mean.
"""

import difflib
import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.data import Dataset, Stream
from resnet_jax.data.images import AUGMENTATIONS
from resnet_jax.errors import UserError
from resnet_jax.models import blocks
from resnet_jax.rundir import flatten
from resnet_jax.training import optimizer, parallel

# What the devices count steps and compute with.
LARGEST_INT = 2**31 - 1
LARGEST_FLOAT = float(np.finfo(np.float32).max)


class Field(NamedTuple):
    """What one field may be.

    Attributes:
      type: of its value; an int will do for a float, and a tuple is one of ints, each within the limits.
      at_least: smallest value.
      at_most: largest value.
      above: what the value must exceed.
      below: what the value must not reach.
      choices: the possible values, if they can be listed.
      optional: whether None is one too.
    """

    type: type
    at_least: float = -math.inf
    at_most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    choices: tuple[str, ...] = ()
    optional: bool = False


COUNT = Field(int, at_least=1, at_most=LARGEST_INT)
COUNT_OR_ZERO = Field(int, at_least=0, at_most=LARGEST_INT)
RATE = Field(float, at_least=0, at_most=LARGEST_FLOAT)

FIELDS = {
    "seed": Field(int, at_least=0, at_most=2**32 - 1),
    "steps": COUNT,
    "batch_size": COUNT,
    "per_device_batch_size": Field(int, at_least=1, at_most=LARGEST_INT, optional=True),
    "dtype": Field(str, choices=tuple(models.DTYPES)),
    "deterministic": Field(bool),
    "model.family": Field(str, choices=tuple(models.FAMILIES)),
    "model.depth": Field(int, at_most=20_000),  # A digit too many is to be told, not to fill the memory.
    "model.residual": Field(bool),
    "model.shortcut": Field(str, choices=blocks.SHORTCUTS),
    "model.bottleneck_stride": Field(str, choices=blocks.BOTTLENECK_STRIDES),
    "data.name": Field(str),
    "data.data_dir": Field(str, optional=True),
    "data.validation_examples": Field(int, at_most=LARGEST_INT),
    "data.padding": COUNT_OR_ZERO,
    "data.flip": Field(bool),
    "data.image_size": Field(int, at_least=32, at_most=4096, optional=True),
    "data.augmentation": Field(str, choices=tuple(AUGMENTATIONS)),
    "data.color_noise": RATE,
    "data.mean": Field(str, choices=("pixel", "channel")),
    "data.test_fraction": Field(float, above=0, below=1),
    "data.train_clean_examples": Field(int, at_least=1, at_most=LARGEST_INT, optional=True),
    "data.on_bad_image": Field(str, choices=("error", "skip")),
    "data.workers": Field(int, at_least=0, at_most=1024, optional=True),
    "optimizer.learning_rate": RATE,
    "optimizer.schedule": Field(str, choices=optimizer.SCHEDULES),
    "optimizer.milestones": Field(tuple, at_most=LARGEST_INT),
    "optimizer.factor": Field(float, above=0, at_most=LARGEST_FLOAT),
    "optimizer.plateau_window": COUNT,
    "optimizer.plateau_patience": COUNT,
    "optimizer.momentum": Field(float, at_least=0, below=1),
    "optimizer.weight_decay": RATE,
    "optimizer.warmup_learning_rate": RATE,
    "optimizer.warmup_steps": COUNT_OR_ZERO,
    "optimizer.warmup_min_depth": COUNT_OR_ZERO,
    "optimizer.rampup_fraction": Field(float, at_least=0, at_most=1),
    "optimizer.rampup_steps": COUNT,
    "batch_norm.sync": Field(bool),
    "stop_at_divergence": Field(bool),
    "steps_per_dispatch": Field(int, at_least=1, at_most=10_000, optional=True),  # Their batches lie in memory at once.
    "compile.unroll": Field(bool),
    "compile.remat": Field(bool),
    "parallel.mapper": Field(str, choices=parallel.MAPPERS),
    "log_every": COUNT,
    "eval_every": COUNT,
    "eval_batch_size": COUNT,
    "checkpoint_every": COUNT,
}

TYPES = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "printable text",
    tuple: "a tuple of integers, as (32000, 48000)",
}
# Each is an operation of the learning rate's program.
MOST_MILESTONES = 100


def check(config: ConfigDict, devices: int) -> None:
    """Raise a UserError unless ``config`` has all fields, no others, and can be trained on ``devices`` devices.

    What only the data can tell is left to ``check_against_data``.
    """
    try:
        values = flatten(config.to_dict())
    except (TypeError, ValueError) as error:  # Of a name that is no text, or of a value that is still to be given.
        raise UserError(f"the config cannot be read ({error}); make it as configs/recipes.py does.") from error
    for name in values:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.4)
            hint = f"did you mean config.{near[0]}?" if near else "see configs/recipes.py for the fields."
            raise UserError(f"config.{name if name.isprintable() else shown(name)} names no field: {hint}")
    for name, field in FIELDS.items():
        if name not in values:
            raise UserError(f"config.{name} is missing; set it as configs/recipes.py does.")
        check_value(name, values[name], field)

    if config.per_device_batch_size is None and config.batch_size % devices:
        raise UserError(
            f"config.batch_size={config.batch_size} cannot be divided among {devices} devices; "
            f"give a multiple of {devices}."
        )
    if config.data.image_size is not None and config.data.padding:
        raise UserError(
            f"config.data.padding={config.data.padding} is of sets whose images have one size; with "
            "config.data.image_size crops are drawn from the whole image, so give padding 0."
        )
    if config.optimizer.schedule == "step":
        check_milestones(tuple(config.optimizer.milestones), config.steps)
    elif config.optimizer.factor >= 1:
        factor = config.optimizer.factor
        raise UserError(f"config.optimizer.factor={factor} must be below 1 with config.optimizer.schedule='plateau'.")
    models.build(config.model, num_classes=1)  # Refuses a depth that the family does not have.


def check_value(name: str, value: Any, field: Field) -> None:
    """Raise a UserError unless field ``name`` may have ``value``."""
    if value is None and field.optional:
        return
    if not has_type(value, field.type):
        expected = TYPES[field.type] + (" or None" if field.optional else "")
        raise UserError(f"config.{name}={shown(value)} must be {expected}.")
    if field.choices and value not in field.choices:
        raise UserError(f"config.{name}={shown(value)} is unknown; choose one of {', '.join(field.choices)}.")
    if field.type not in (int, float, tuple):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"config.{name}={value} must be a finite number.")
    numbers = value if field.type is tuple else [value]
    limits = (
        (all(number >= field.at_least for number in numbers), f"at least {field.at_least}"),
        (all(number <= field.at_most for number in numbers), f"at most {field.at_most}"),
        (all(number > field.above for number in numbers), f"above {field.above}"),
        (all(number < field.below for number in numbers), f"below {field.below}"),
    )
    for fulfilled, limit in limits:
        if not fulfilled:
            raise UserError(f"config.{name}={shown(value)} must be {limit}.")


def has_type(value: Any, wanted: type) -> bool:
    """Return whether ``value`` is of type ``wanted``, as ``Field`` has it; to Python True is an int, here it is not."""
    if wanted is float:
        return type(value) is int or isinstance(value, float)
    if wanted is tuple:
        return isinstance(value, list | tuple) and all(type(part) is int for part in value)
    if wanted is str:
        return isinstance(value, str) and value.isprintable()
    return type(value) is wanted


def check_milestones(milestones: tuple[int, ...], steps: int) -> None:
    """Raise a UserError unless ``milestones`` are rising steps of a run of ``steps`` steps."""
    if len(milestones) > MOST_MILESTONES:
        raise UserError(f"config.optimizer.milestones has {len(milestones)} steps; give at most {MOST_MILESTONES}.")
    bounded = (0, *milestones, steps)
    if milestones and any(later <= earlier for earlier, later in itertools.pairwise(bounded)):
        # The quotes are for the shell, to which parentheses mean something else.
        proportional = str(tuple(sorted({steps // 2, steps * 3 // 4} - {0}))).replace(" ", "")
        raise UserError(
            f"config.optimizer.milestones={shown(milestones)} must be rising steps above 0 and below "
            f"config.steps={steps}; in the paper's proportions: --config.optimizer.milestones='{proportional}'."
        )


def check_against_data(config: ConfigDict, dataset: Dataset | Stream) -> None:
    """Raise a UserError if ``dataset`` has too few training examples or images of another kind than ``config`` says."""
    if isinstance(dataset, Stream):
        check_batch_size(config.batch_size, len(dataset.splits["train"]))
        return
    images, labels = dataset.splits["train"]
    height, width, channels = images.shape[1:]
    if config.data.color_noise and channels != 3:
        raise UserError(
            f"config.data.color_noise={config.data.color_noise} needs images of 3 channels, but these have {channels}; "
            "give 0."
        )
    if config.data.padding > min(height, width):
        raise UserError(
            f"config.data.padding={config.data.padding} is more than the images of {height}x{width} pixels have; "
            f"give at most {min(height, width)}."
        )
    check_batch_size(config.batch_size, len(labels))


def check_batch_size(batch_size: int, examples: int) -> None:
    """Raise a UserError if a batch would have an example twice."""
    if batch_size > examples:
        raise UserError(
            f"config.batch_size={batch_size} is more than the {examples} training examples; give at most {examples}."
        )


def shown(value: Any) -> str:
    """Return ``value`` as Python writes it, on one line and cut if it is long."""
    try:
        text = " ".join(repr(tuple(value) if isinstance(value, list) else value).split())
    except ValueError:  # Of an int of thousands of digits.
        text = "..."
    return text if len(text) <= 80 else f"{text[:77]}..."
