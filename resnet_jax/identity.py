"""The identity of a run: its config, its data with the names of the classes, and the versions it is computed with.

It is recorded at the first start of a run, in ``identity.json``. Every later start, every checkpoint and every command
that opens the run is compared with it, and so are the processes of one start with one another. Another config, other
classes or other data would be another result, so they are refused; of other versions a warning is recorded.
"""

import hashlib
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from resnet_jax import hosts
from resnet_jax.config import flatten, shown
from resnet_jax.errors import UserError
from resnet_jax.fields import RUN_FIELDS
from resnet_jax.safe_files import read_json
from resnet_jax.schema import COUNT, Each

FILE = "identity.json"
DATA = {
    "class_names": [str],
    "image_shape": (COUNT, COUNT, COUNT),
    "examples": Each([COUNT]),
    "covers": str,
    "contents": str,
}
SHAPE = {"config": dict, "data": DATA, "versions": Each(str)}
# Parts of the identity of data in which a copy may differ.
NOT_SHARED = ("covers", "times")
# Fields of the config in which hosts may differ.
OF_A_HOST = ("data.data_dir", "data.workers")


class Identity(NamedTuple):
    """The identity of a run.

    Attributes:
      config: the fields that a run may not change, by dotted name.
      data: as ``data.identify`` returns it.
      versions: of Python, of the packages and of this project's code, and the settings of JAX that change numbers.
    """

    config: dict[str, Any]
    data: dict[str, Any]
    versions: dict[str, str]

    @property
    def of_checkpoint(self) -> dict[str, Any]:
        """The part that a checkpoint holds, which binds it to its run."""
        text = json.dumps(shared(self.data), sort_keys=True)
        return {"config": self.config, "data": hashlib.sha256(text.encode()).hexdigest()}


def of_config(config: ConfigDict) -> dict[str, Any]:
    """Return the part of ``config`` that identifies its run."""
    values = flatten(config.to_dict())
    return {name: values[name] for name in RUN_FIELDS}


def of_all_processes(config: ConfigDict) -> dict[str, Any]:
    """Return the fields of ``config`` that must be the same in all processes of a start, by dotted name."""
    return {name: value for name, value in flatten(config.to_dict()).items() if name not in OF_A_HOST}


def shared(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of ``data.identify`` that copies of a data set share."""
    return {name: value for name, value in found.items() if name not in NOT_SHARED}


def read(workdir: pathlib.Path) -> Identity | None:
    """Return the identity that the run in ``workdir`` has recorded; None if an earlier version started the run.

    Raises:
      UserError: the file is damaged.
    """
    content = read_json(workdir / FILE, SHAPE)
    return None if content is None else Identity(**{name: content[name] for name in Identity._fields})


def of_run(workdir: pathlib.Path) -> dict[str, Any] | None:
    """Return the identity that the checkpoints of the run in ``workdir`` must hold; None if it is not recorded."""
    recorded = read(workdir)
    return recorded and recorded.of_checkpoint


def differences(
    there: Mapping[str, Any], here: Mapping[str, Any], places: tuple[str, str] = ("there", "here")
) -> list[str]:
    """Return the differences of two nested mappings, with both values, as in "seed (0 there, 1 here)"."""
    old, new = flatten(there), flatten(here)
    return [
        difference(name, old.get(name), new.get(name), places)
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def difference(name: str, old: Any, new: Any, places: tuple[str, str]) -> str:
    """Return the difference of ``name``: of lists, the two lengths if they differ, and the first unequal element."""
    said = []
    if isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            said = [f"length {len(old)} {places[0]}, {len(new)} {places[1]}"]
        unequal = [index for index, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]]
        for index in unequal[:1]:
            said.append(f"[{index}] {brief(old[index])} {places[0]}, {brief(new[index])} {places[1]}")
    else:
        said = [f"{brief(old)} {places[0]}, {brief(new)} {places[1]}"]
    return f"{name} ({'; '.join(said)})"


def brief(value: Any) -> str:
    """Return ``value`` in few characters; a digest is cut to its first 12."""
    is_digest = isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)
    return f"sha256 {value[:12]}" if is_digest else shown(value)


def agree(values: Mapping[str, Any]) -> None:
    """Raise a UserError, in every process of a run, unless all have the same ``values``, which JSON can hold."""
    first, *others = map(json.loads, hosts.gather(json.dumps(values)))
    for number, other in enumerate(others, 1):
        differing = differences(first, other, ("in process 0", f"in process {number}"))
        if differing:
            raise UserError(
                f"the processes of this run do not run the same: {', '.join(differing)}; start the same command with "
                "the same code and the same data on every host."
            )


def check_config(recorded: Identity, config: ConfigDict, workdir: pathlib.Path) -> None:
    """Raise a UserError unless ``config``, from ``config.json`` in ``workdir``, is the one the run was started with."""
    values = of_config(config)  # A field that did not exist then has a default that means "as before".
    differing = differences(recorded.config, {name: values[name] for name in recorded.config if name in values})
    if differing:
        raise UserError(
            f"{workdir / 'config.json'} is not the one the run was started with: {', '.join(differing)}; restore it, "
            "or use another run."
        )


def check_data(recorded: Identity, found: Mapping[str, Any], workdir: pathlib.Path) -> None:
    """Raise a UserError unless ``found``, of ``data.identify``, are the data of the run in ``workdir``."""
    differing = differences(shared(recorded.data), shared(found))
    if differing:
        raise UserError(
            f"{workdir} was trained on other data, differing in {', '.join(differing)}; set config.data.data_dir to "
            "the data as they were, or give another --workdir."
        )


def check_classes(there: Sequence[str] | None, here: Sequence[str], name: str) -> None:
    """Raise a UserError if the net called ``name`` was trained on classes ``there`` that are not those ``here``.

    None: which they were is not known.
    """
    differing = differences({"classes": [*there]}, {"classes": [*here]}) if there else []
    if differing:
        raise UserError(
            f"{name} was trained on other classes than these data have: {', '.join(differing)}; give data that have "
            "its classes, under the same names."
        )


def changed_data(recorded: Identity, found: Mapping[str, Any], name: str) -> list[str]:
    """Return a sentence if ``found``, of ``data.identify``, are not the data that run ``name`` was trained on."""
    differing = differences(shared(recorded.data), shared(found))
    return [f"{name} was trained on other data than these: {', '.join(differing)}."] if differing else []


def later_start(recorded: Identity, here: Identity) -> list[str]:
    """Return a sentence on each difference that a run may have between its first start and this one."""
    said = []
    if recorded.data.get("times") != here.data.get("times"):
        said.append(f"the files of the data have other modification times; compared were {here.data['covers']}.")
    versions = differences(recorded.versions, here.versions)
    if versions:
        said.append(f"the versions have changed since the first start: {', '.join(versions)}.")
    return said
