"""Configs: their defaults, how they are recorded and read, and whether they are valid.

What a config consists of is the table in ``fields.py``.
"""

import difflib
import itertools
import math
import pathlib
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict, config_dict

from resnet_jax.errors import UserError
from resnet_jax.fields import FIELDS, MOST_MILESTONES, WITHOUT, Field
from resnet_jax.registry import EXTENSIBLE

# Numbers of a gate that names of runs spell out; more, one a block, are abridged to about so many characters.
MOST_SPELLED, LONGEST_ABRIDGED = 4, 60


def default() -> ConfigDict:
    """Return a config of all defaults: the paper's recipe for residual-20 on CIFAR-10."""
    config = ConfigDict()
    for name, field in FIELDS.items():
        *groups, last = name.split(".")
        part = config
        for group in groups:
            if group not in part:
                part[group] = ConfigDict()
            part = part[group]
        part[last] = config_dict.placeholder(field.type) if field.default is None else field.default
    return config


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested ``config`` with dotted names, as overrides spell them, and lists for tuples, as in JSON."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def from_record(recorded: Mapping[str, Any], version: int) -> ConfigDict:
    """Return a config that a run directory has recorded, in the fields of today.

    A field that did not exist then has its default. Version 1 gave the milestones in steps.

    Args:
      recorded: nested, as from JSON.
      version: of the run directory's format.

    Raises:
      UserError: ``recorded`` has a field that does not exist here, or a value that the field cannot have. Whether the
        user's own nets and blocks are known is not checked.
      TypeError: a field is of another type.
    """
    values = flatten(recorded)
    for name, value in values.items():
        if name not in FIELDS:
            raise UserError(f"unknown field config.{name}, of a newer version of this project; update this one.")
        field = FIELDS[name]
        if field.type is tuple and has_type(value, float):  # It was a single number before.
            value = values[name] = [value]
        if not has_type(value, field.type) and not (value is None and field.default is None):
            raise TypeError(f"config.{name}={shown(value)}: expected {field.expected}")
    if version == 1 and {"steps", "optimizer.milestones"} <= values.keys():
        # Only schedule "plateau", which does not read them, let them lie beyond the last step.
        steps = values["steps"]
        values["optimizer.milestones"] = [step / steps for step in values["optimizer.milestones"] if 0 < step < steps]
    config = default()
    with config.ignore_type():
        for name, value in values.items():
            is_tuple = FIELDS[name].type is tuple and isinstance(value, list)
            config.update_from_flattened_dict({name: tuple(value) if is_tuple else value})
    for name, value in flatten(config.to_dict()).items():
        if name not in EXTENSIBLE:
            check_value(name, value, FIELDS[name])
    return config


def check(config: ConfigDict, devices: int) -> None:
    """Raise a UserError unless ``config`` has all fields, no others, and can be trained on ``devices`` devices.

    Whether the family has a net of this depth is checked by ``models.build``, and what depends on the data by
    ``check_against_data``.
    """
    for name, value in check_names(config).items():
        check_value(name, value, FIELDS[name])

    if config.per_device_batch_size is None and config.batch_size % devices:
        raise UserError(
            f"config.batch_size={config.batch_size} cannot be divided among {devices} devices; "
            f"give a multiple of {devices}."
        )
    if config.data.image_size is not None and config.data.padding:
        raise UserError(
            f"config.data.padding={config.data.padding} is for sets whose images have one size; with "
            "config.data.image_size crops are drawn from the whole image, so give padding 0."
        )
    if config.data.image_size is not None and config.data.downsample != 1:
        raise UserError(
            f"config.data.downsample={config.data.downsample} is for sets whose images have one size; with "
            "config.data.image_size crops have the size that it says, so give downsample 1."
        )
    if config.model.init == "lsuv" and config.data.image_size is not None:
        raise UserError(
            "config.model.init='lsuv' scales by a batch that lies on the devices, but config.data.image_size makes a "
            "stream; give another initialisation."
        )
    check_milestones(tuple(config.optimizer.milestones))
    check_kept(tuple(config.keep_checkpoints))
    check_gates(config.gates)
    schedule, factor = config.optimizer.schedule, config.optimizer.factor
    if schedule in ("plateau", "exponential") and factor >= 1:
        raise UserError(
            f"config.optimizer.factor={factor} must be below 1 with config.optimizer.schedule={schedule!r}."
        )


def check_names(config: ConfigDict) -> dict[str, Any]:
    """Return the fields of ``config`` by dotted name; raise a UserError unless it has all fields and no others."""
    try:
        values = flatten(config.to_dict())
    except (TypeError, ValueError) as error:  # A name that is not text, or a value that is still to be given.
        raise UserError(f"the config cannot be read ({error}); build it on a recipe of configs/recipes.py.") from error
    for name in values:
        if name not in FIELDS:
            raise UserError(unknown_field(name))
    for name in FIELDS:
        if name not in values:
            raise UserError(f"config.{name} is missing; build the config on a recipe of configs/recipes.py.")
    return {name: values[name] for name in FIELDS}


def unknown_field(name: str) -> str:
    """Return a sentence on ``name``, which is not a field."""
    near = nearest_field(name)
    hint = f"did you mean config.{near}?" if near else "--fields lists all fields."
    return f"unknown field config.{name if name.isprintable() else shown(name)}; {hint}"


def nearest_field(name: str, cutoff: float = 0.65) -> str | None:
    """Return the field that ``name`` may stand for, None if none is near.

    Last words are compared, because a group such as "optimizer." makes all of its fields alike, then earlier words.

    Args:
      name: dotted, with or without its group.
      cutoff: least similarity of two words, from 0 to 1.
    """
    words = re.findall(r"\w+", name)
    in_group = [field for field in FIELDS if field.startswith(f"{words[0]}.")] if len(words) > 1 else []
    for word in reversed(words):
        alike = {field: difflib.SequenceMatcher(None, word, field.split(".")[-1]).ratio() for field in FIELDS}
        near = [field for field in in_group or FIELDS if alike[field] >= cutoff]
        near = near or [field for field in FIELDS if alike[field] == 1]
        if near:
            return max(near, key=alike.__getitem__)
    return None


def unknown_choice(name: str, value: Any) -> str:
    """Return a sentence on ``value``, which is none of the choices of field ``name``."""
    hint = " Give a file that registers your own by --import=FILE." if name in EXTENSIBLE else ""
    return f"config.{name}={shown(value)} is unknown; choose one of {', '.join(FIELDS[name].choices)}.{hint}"


def check_value(name: str, value: Any, field: Field) -> None:
    """Raise a UserError unless ``field``, of name ``name``, may have ``value``."""
    if value is None and field.default is None:
        return
    if not has_type(value, field.type):
        raise UserError(f"config.{name}={shown(value)}: expected {field.expected}.")
    if field.choices and value not in field.choices:
        raise UserError(unknown_choice(name, value))
    if field.type not in (int, float):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"config.{name}={value} must be finite.")
    broken = field.limits.broken_by(value)
    if broken:
        raise UserError(f"config.{name}={shown(value)} must be {broken}.")


def has_type(value: Any, wanted: type) -> bool:
    """Return whether ``value`` is of type ``wanted``, a ``Field.type``; to Python True is an int, here it is not."""
    if wanted is float:
        return type(value) is int or isinstance(value, float)
    if wanted is tuple:
        return isinstance(value, list | tuple) and all(has_type(part, float) for part in value)
    if wanted is str:
        return isinstance(value, str) and value.isprintable()
    return type(value) is wanted


def check_milestones(milestones: tuple[float, ...]) -> None:
    """Raise a UserError unless ``milestones`` are rising fractions of the steps."""
    if len(milestones) > MOST_MILESTONES:
        raise UserError(
            f"config.optimizer.milestones has {len(milestones)} milestones; give at most {MOST_MILESTONES}."
        )
    within = not any(map(FIELDS["optimizer.milestones"].limits.broken_by, milestones))
    if not within or not all(earlier < later for earlier, later in itertools.pairwise((0, *milestones, 1))):
        # The quotes are for the shell, to which parentheses mean something else.
        raise UserError(
            f"config.optimizer.milestones={shown(milestones)} must be rising fractions of config.steps, above 0 and "
            "below 1, for example --config.optimizer.milestones='(0.5,0.75)'."
        )


def check_kept(steps: tuple[float, ...]) -> None:
    """Raise a UserError unless ``steps``, after which nets are kept, are numbers of steps."""
    limits = FIELDS["keep_checkpoints"].limits
    broken = next((limit for step in steps if (limit := limits.broken_by(step))), None)
    if broken is None and not all(type(step) is int for step in steps):
        broken = "whole numbers"
    if broken:
        raise UserError(f"config.keep_checkpoints={shown(steps)} must be {broken}, as in '(0,1,10,100)'.")


def check_gates(gates: ConfigDict) -> None:
    """Raise a UserError unless each factor of ``gates``, that part of a config, is a number in its limits."""
    for name in ("shortcut_factor", "shortcut_gradient", "branch_factor", "branch_gradient", "final", "phase"):
        numbers = tuple(gates[name])
        limits = FIELDS[f"gates.{name}"].limits
        broken = next((limit for number in numbers if (limit := limits.broken_by(number))), None)
        if not all(map(math.isfinite, numbers)):
            broken = "finite"
        if broken:
            raise UserError(f"config.gates.{name}={shown(numbers)} must be {broken}.")
    if len(gates.final) != 4:
        raise UserError(f"config.gates.final={shown(gates.final)} has {len(gates.final)} numbers; give four.")
    if len(gates.phase) != 2 or not gates.phase[0] < gates.phase[1]:
        raise UserError(
            f"config.gates.phase={shown(gates.phase)} must be two rising fractions of config.steps, for example "
            "--config.gates.phase='(0.25,0.75)'."
        )


def changed_fields(config: ConfigDict, group: str) -> dict[str, Any]:
    """Return the fields of ``group``, as "gates", that do not have their defaults in ``config``, by dotted name."""
    values = flatten(config[group].to_dict(), f"{group}.")
    defaults = flatten(default()[group].to_dict(), f"{group}.")
    return {name: value for name, value in values.items() if value != defaults[name]}


def check_against_data(config: ConfigDict, examples: int, image_shape: tuple[int, ...]) -> None:
    """Raise a UserError if the data are too few or of another kind than ``config`` says.

    Args:
      config: of the run.
      examples: in the training set.
      image_shape: ``(height, width, channels)`` of what the net sees.
    """
    height, width, channels = image_shape
    if config.data.color_noise and channels != 3:
        raise UserError(
            f"config.data.color_noise={config.data.color_noise} needs images of 3 channels, but these have {channels}; "
            "give 0."
        )
    for name in ("mean", "std"):
        if config.data[name] == "imagenet" and channels != 3:
            raise UserError(
                f"config.data.{name}='imagenet' is for images of 3 channels, but these have {channels}; give another."
            )
    if config.data.padding > min(height, width):
        raise UserError(
            f"config.data.padding={config.data.padding} is more than the images of {height}x{width} pixels have; "
            f"give at most {min(height, width)}."
        )
    if config.data.pad == "reflect" and config.data.padding >= min(height, width):
        raise UserError(
            f"config.data.padding={config.data.padding} must be below {min(height, width)} with "
            f"config.data.pad='reflect' and images of {height}x{width} pixels."
        )
    if config.batch_size > examples:  # A batch would have an example twice.
        raise UserError(
            f"config.batch_size={config.batch_size} is more than the {examples} training examples; "
            f"give at most {examples}."
        )


def brief(name: str, value: Any, separator: str) -> str:
    """Return field ``name`` with its ``value`` as names of runs and series have it, as "learning_rate 0.1".

    Of ``from_run`` it is the last folder, without the seed that a sweep fills in, as "from residual-56-folded"; of
    ``gates.without`` the removed shortcuts, as "without every second shortcut".
    """
    if name == "from_run":
        folder = pathlib.PurePath(value).name.replace("-seed{seed}", "") if value else "none"
        return f"from{separator or '_'}{folder}"
    if name == "gates.without":
        return WITHOUT[value]
    text = str(value[0]) if isinstance(value, list | tuple) and len(value) == 1 else spelled(name, value)
    return f"{name.split('.')[-1]}{separator}{text}"


def spelled(name: str, value: Any) -> str:
    """Return ``value`` of field ``name`` as Python writes it; a gate's number for each block abridged."""
    is_long = name.startswith("gates.") and isinstance(value, list | tuple) and len(value) > MOST_SPELLED
    return abridged(value) if is_long else str(value)


def abridged(numbers: Sequence[float]) -> str:
    """Return ``numbers`` with repeats counted, as "14x1 13x0": fourteen times 1, then thirteen times 0.

    Other numbers give another text: if it is long, it is cut and ends with its checksum.
    """
    runs = ((str(number).removesuffix(".0"), len([*same])) for number, same in itertools.groupby(map(float, numbers)))
    text = " ".join(number if count == 1 else f"{count}x{number}" for number, count in runs)
    if len(text) <= LONGEST_ABRIDGED:
        return text
    return f"{text[:LONGEST_ABRIDGED].rpartition(' ')[0]} ... {zlib.crc32(text.encode()):08x}"


def shown(value: Any) -> str:
    """Return ``value`` as Python writes it, on one line and cut if it is long."""
    try:
        text = " ".join(repr(tuple(value) if isinstance(value, list) else value).split())
    except ValueError:  # An int of thousands of digits.
        text = "..."
    return text if len(text) <= 80 else f"{text[:77]}..."
