"""The record of a net in a weights file written here: JSON in the metadata of the file, next to the tensors."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from resnet_jax import models, registry
from resnet_jax.config import from_record, unknown_choice
from resnet_jax.errors import UserError
from resnet_jax.fields import FIELDS
from resnet_jax.rundir import FORMAT_VERSION

# Key of the record in the metadata.
METADATA_KEY = "resnet_jax"


def read_metadata(metadata: Mapping[str, str], where: str) -> dict[str, Any]:
    """Return the attributes of ``TrainedNet`` recorded in the file ``where``; an empty dictionary for foreign files.

    "model" has the fields that the net reads. Files of older versions record less.

    Raises:
      UserError: the metadata are damaged, or a newer version of this project wrote them.
    """
    if METADATA_KEY not in metadata:
        return {}
    try:
        recorded = json.loads(metadata[METADATA_KEY])
        found: dict[str, Any] = {"model": fields_of_net(recorded["model"])}
        for name in {"mean", "std"} & recorded.keys():
            found[name] = pixel_values(name, recorded[name])
        if "crop" in recorded:
            found["crop"] = None if recorded["crop"] is None else count_of("crop", recorded["crop"])
        if "size" in recorded:
            found["size"] = (
                None if recorded["size"] is None else tuple(count_of("size", each) for each in recorded["size"])
            )
            if found["size"] is not None and len(found["size"]) != 2:
                raise ValueError("size does not have two numbers")
        if "num_classes" in recorded:
            found["num_classes"] = count_of("num_classes", recorded["num_classes"])
        if recorded.get("class_names") is not None:
            found["class_names"] = class_names(recorded["class_names"], found.get("num_classes"))
    except (UserError, ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise UserError(f"{where}: its metadata {METADATA_KEY!r} are not valid ({reason}); export it again.") from error
    return found


def fields_of_net(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``recorded``, a recorded ``config.model``, that the net reads."""
    config = from_record({"model": recorded}, FORMAT_VERSION).model
    for name in registry.EXTENSIBLE:
        value = config[name.removeprefix("model.")]
        if value not in FIELDS[name].choices:
            raise UserError(unknown_choice(name, value))
    return {name: config[name] for name in models.fields_read(config)}


def pixel_values(name: str, recorded: Any) -> np.ndarray:
    """Return the mean or standard deviation of pixels, ``[height, width, channels]``."""
    values = np.array(recorded, np.float32)
    if values.ndim != 3 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"{name} is not an array of numbers [height, width, channels]")
    if name == "std" and not (values.shape[:2] == (1, 1) and (values > 0).all()):
        raise ValueError(f"{name} is not an array of positive numbers [1, 1, channels]")
    return values


def count_of(name: str, recorded: Any) -> int:
    """Return a number of pixels or classes."""
    if type(recorded) is not int or recorded < 1:
        raise ValueError(f"{name} is not a number above 0")
    return recorded


def class_names(recorded: Any, count: int | None) -> tuple[str, ...]:
    """Return the names of the ``count`` classes."""
    if not (isinstance(recorded, list) and all(isinstance(name, str) for name in recorded) and len(recorded) == count):
        raise ValueError("class_names is not a list of a text for each class")
    if len(set(recorded)) < len(recorded):
        raise ValueError("class_names has a name twice")
    return tuple(recorded)
