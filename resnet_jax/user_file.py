"""Python files of the user: executed on request, with a message that names the line of a mistake."""

import contextlib
import pathlib
import traceback
from collections.abc import Iterator
from types import ModuleType

from resnet_jax.errors import UserError

# Longest text of an error, which can quote anything.
MOST_CHARACTERS = 300


@contextlib.contextmanager
def reporting_mistakes(file: pathlib.Path, flag: str) -> Iterator[None]:
    """Turn whatever the Python file ``file`` raises into a UserError with the line; ``flag`` names the file there.

    ``sys.exit`` is such a mistake too: it would end the command with status 0 although nothing was done.
    """
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # The file is a program and can raise anything.
        line = line_of(file, error)
        text = error.msg if isinstance(error, SyntaxError) and line == error.lineno else str(error)
        reason = " ".join(f"{type(error).__name__}: {text}".split())[:MOST_CHARACTERS].rstrip(" .:")
        raise UserError(f"{flag if line is None else f'{flag}, line {line}'}: {reason}.") from error


def line_of(file: pathlib.Path, error: BaseException) -> int | None:
    """Return the line of ``file`` from which ``error`` came, None if it came from elsewhere."""
    lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == str(file)]
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return error.lineno
    return lines[-1] if lines else None


def load(file: pathlib.Path, name: str, flag: str) -> ModuleType:
    """Execute the Python file ``file`` and return it as a module called ``name``, which is not importable.

    Raises:
      UserError: it fails; ``flag`` names the file there.
    """
    module = ModuleType(name)
    module.__file__ = str(file)
    with reporting_mistakes(file, flag):  # Compiled here, so that no stale __pycache__ is used.
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
    return module


def where(module: ModuleType, function: str, flag: str) -> str:
    """Return ``flag``, which names the file of ``module``, with the line of ``function`` if it is defined there."""
    code = getattr(getattr(module, function, None), "__code__", None)
    return f"{flag}, line {code.co_firstlineno}" if code and code.co_filename == module.__file__ else flag
