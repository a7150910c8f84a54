"""The one place where TFDS opens a prepared data set, after a check that it executes nothing of the folder's choice.

TFDS imports the module of every class that ``features.json``, or ``dataset_info.json`` under "features", names. A
folder that others made could thus have any module executed that Python finds, also one in the working directory.
"""

import json
import pathlib
from typing import TYPE_CHECKING, Any

from resnet_jax.errors import UserError

if TYPE_CHECKING:  # At run time it is imported late: it takes a second that a cached data set does not need.
    import tensorflow_datasets as tfds


def open_builder(folder: pathlib.Path) -> "tfds.core.DatasetBuilder":
    """Return TFDS's builder of the prepared data set in ``folder``.

    Raises:
      UserError: the folder names classes that are not TFDS's own, or files elsewhere.
    """
    import tensorflow_datasets as tfds

    allowed = feature_classes()
    features, info = (folder / "features.json", folder / "dataset_info.json")
    check_features(json.loads(features.read_text(encoding="utf-8")), allowed, features)
    check_features(json.loads(info.read_text(encoding="utf-8")).get("features"), allowed, info)
    builder = tfds.builder_from_directory(str(folder))
    for split in builder.info.splits.values():
        outside = [path for path in split.filepaths if pathlib.Path(path).parent != folder]
        if outside:
            raise UserError(f"{folder} names {outside[0]}, a file elsewhere; prepare the data set again.")
    return builder


def feature_classes() -> set[str]:
    """Return the names under which TFDS finds its own classes of features without importing anything."""
    import tensorflow_datasets as tfds

    connector = tfds.features.FeatureConnector
    own: list[Any] = [
        each for each in vars(tfds.features).values() if isinstance(each, type) and issubclass(each, connector)
    ]
    return {name for each in own for name in (f"{each.__module__}.{each.__name__}", *each.ALIASES)}


def check_features(value: Any, allowed: set[str], file: pathlib.Path) -> None:
    """Raise a UserError unless every class that ``value``, a part of the JSON in ``file``, names is in ``allowed``.

    Classes that TFDS described by a "type", and all but empty JSON within the JSON, are refused: they could name
    further classes and files, and no TFDS that writes array_record files wrote them.
    """
    if isinstance(value, dict):
        for key, each in value.items():
            is_class = key in ("pythonClassName", "python_class_name")
            if isinstance(each, str) and ((is_class and each not in allowed) or (key == "type")):
                raise UserError(
                    f"{file} names the class {each!r}, which is not one of TFDS's own features and would be executed; "
                    "use a data set that TFDS has prepared."
                )
            if key == "json" and isinstance(each, str) and each.strip() != "{}":
                raise UserError(
                    f"{file} describes a feature by JSON within the JSON; use a data set that TFDS has prepared."
                )
            check_features(each, allowed, file)
    elif isinstance(value, list):
        for each in value:
            check_features(each, allowed, file)
