"""Nets and blocks that users register: further choices of fields, and the files that define them.

``models.register_family`` registers a net. A run records the registrations that its config uses, by file name and
digest; no record ever makes this project import a file. Only the user does, by ``--import=FILE`` or in a program.

A digest covers one file, so a net belongs into one file: ``import_file`` does not add the file's folder to
``sys.path``.
"""

import hashlib
import importlib.util
import inspect
import pathlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from resnet_jax.errors import UserError
from resnet_jax.fields import FIELDS
from resnet_jax.user_file import reporting_mistakes

# Fields whose choices users may extend.
EXTENSIBLE = ("model.family", "model.block")


class Registration(NamedTuple):
    """A choice that a user has registered.

    Attributes:
      field: dotted name, as "model.family".
      name: the choice.
      file: name of the file that defines it, without its folder; None for a notebook or an interpreter.
      sha256: digest of this file, or of the notebook's cell; None if Python does not keep the source.
    """

    field: str
    name: str
    file: str | None
    sha256: str | None

    def __str__(self) -> str:
        """Return the registration in words, as in "config.model.family='mine' of net.py (sha256 1a2b3c4d5e6f)"."""
        digest = f" (sha256 {self.sha256[:12]})" if self.sha256 else ""
        return f"config.{self.field}={self.name!r} of {self.file or 'a notebook or interpreter'}{digest}"


_REGISTERED: dict[tuple[str, str], Registration] = {}
# The name of each definition in its file, which may define several.
_QUALIFIED: dict[tuple[str, str], str] = {}


def register(field: str, name: str, definition: Any) -> None:
    """Add ``name`` to the choices of ``field``; the same definition may be registered again.

    Args:
      field: one of ``EXTENSIBLE``.
      name: the new choice; letters, digits and underscores.
      definition: the class or function that defines it.

    Raises:
      UserError: the field has no further choices, the name is not valid, or it has another definition already.
      TypeError: ``definition`` is neither a class nor a function.
    """
    if field not in EXTENSIBLE:
        raise UserError(f"config.{field} has no choices to register; only {' and '.join(EXTENSIBLE)} have.")
    if not isinstance(name, str) or not name.isidentifier():
        raise UserError(f"config.{field}={name!r} cannot be registered; name it by letters, digits and underscores.")
    new = Registration(field, name, *source_of(definition))
    known = _REGISTERED.get((field, name))
    if known == new and new.sha256 is not None and _QUALIFIED[field, name] == definition.__qualname__:
        return
    if known is not None:
        raise UserError(
            f"config.{field}={name!r} has another definition already, registered as {known}; choose another name, or "
            "start Python again."
        )
    choices = FIELDS[field].choices
    if name in choices:
        raise UserError(f"config.{field}={name!r} is a choice of this project; choose another name.")
    FIELDS[field] = FIELDS[field]._replace(choices=(*choices, name))
    _REGISTERED[field, name], _QUALIFIED[field, name] = new, definition.__qualname__


def source_of(definition: Any) -> tuple[str | None, str | None]:
    """Return the name and the SHA-256 of the file that defines a class or function; see ``Registration``."""
    if not (inspect.isclass(definition) or inspect.isfunction(definition)):
        raise TypeError(f"{definition!r} is neither a class nor a function; register one that a file defines")
    try:
        file = pathlib.Path(inspect.getsourcefile(definition) or "")
        if file.is_file():
            return file.name, hashlib.sha256(file.read_bytes()).hexdigest()
        lines, _ = inspect.findsource(definition)  # All of the notebook's cell.
    except (OSError, TypeError):  # inspect says so where there is no source.
        return None, None
    return None, hashlib.sha256("".join(lines).encode()).hexdigest()


def from_record(recorded: Iterable[Mapping[str, Any]]) -> list[Registration]:
    """Return the registrations that a run has recorded, given as from JSON.

    Raises:
      TypeError, ValueError: they are not registrations, or hold more than printable text.
    """
    found = [Registration(**each) for each in recorded]
    for text in (text for field, name, *source in found for text in (field, name, *filter(None, source))):
        if not (isinstance(text, str) and text.isprintable()):
            raise ValueError(f"{text!r} is not printable text")
    return found


def used_by(values: Mapping[str, Any]) -> list[Registration]:
    """Return the registrations that a config uses, given its values by dotted name."""
    return [each for each in _REGISTERED.values() if values.get(each.field) == each.name]


def check_registered(recorded: Iterable[Registration], where: pathlib.Path) -> None:
    """Raise a UserError unless the names that the run in ``where`` has recorded are registered here too."""
    missing = [each for each in recorded if (each.field, each.name) not in _REGISTERED]
    if missing:
        raise UserError(
            f"{where} uses {' and '.join(map(str, missing))}, which is not registered here; give "
            f"{imports(missing)}, or in a program import the file."
        )


def check_definitions(recorded: Iterable[Registration], where: pathlib.Path) -> None:
    """Raise a UserError unless what the run in ``where`` has recorded is defined here by files of the same digests."""
    for each in recorded:
        here = _REGISTERED[each.field, each.name]
        if here.sha256 != each.sha256:
            raise UserError(
                f"{where} uses {each}, but here it is {here}, which may compute something else; "
                f"give {imports([each])} as it was then, or another run directory."
            )


def imports(registrations: Iterable[Registration]) -> str:
    """Return the flags that import ``registrations``, as in "--import=net.py"."""
    return " ".join(dict.fromkeys(f"--import={each.file or 'FILE'}" for each in registrations))


def import_file(path: pathlib.Path) -> None:
    """Execute a user's Python file, which registers nets or blocks, as a module; once in a process.

    Args:
      path: as given with --import.

    Raises:
      UserError: there is no such file, it fails, another module has its name, or it registers nothing.
    """
    flag, file = f"--import={path}", path.resolve()
    if path.suffix != ".py" or not file.is_file():
        raise UserError(f"{flag} is not a Python file that exists; give one like my_net.py.")
    if not file.stem.isidentifier() or file.stem == "__main__":
        raise UserError(f"{flag} cannot be a module; rename it to letters, digits and underscores.")
    namesake = importlib.util.find_spec(file.stem)
    if namesake is not None and (namesake.origin is None or pathlib.Path(namesake.origin).resolve() != file):
        raise UserError(f"{flag} has the name of another module, {file.stem}; rename the file.")
    if file.stem in sys.modules:
        return
    before = len(_REGISTERED)
    execute(file, flag)
    if len(_REGISTERED) == before:
        del sys.modules[file.stem]
        raise UserError(
            f"{flag} registers nothing; call models.register_block or models.register_family in it, as the files in "
            "docs/examples do."
        )


def execute(file: pathlib.Path, flag: str) -> None:
    """Execute ``file`` as the module of its name; raise a UserError, about ``flag``, if it fails."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # Dataclasses and pickle look a class up there.
    try:
        with reporting_mistakes(file, flag):
            spec.loader.exec_module(module)
    except UserError:
        del sys.modules[file.stem]
        raise
