"""What all commands share: how flags are parsed, what is logged and how mistakes are told.

Exit status 0: done. 2: a mistake that the user can mend, said in one sentence. 130: Ctrl-C. 1: anything else.
"""

import difflib
import logging as standard_logging
import pathlib
import re
import sys
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags
from ml_collections import ConfigDict, config_flags
from rich.logging import RichHandler

import resnet_jax
from resnet_jax.backend import set_xla_flags
from resnet_jax.errors import UserError
from resnet_jax.training.progress import console
from resnet_jax.training.record import flatten

EXIT_USER = 2
EXIT_INTERRUPTED = 130


def run(main: Callable[[], int]) -> NoReturn:
    """Parse the flags, run ``main`` and exit with the status it returns, with 2 after a ``UserError``."""

    def guarded(argv: list[str]) -> int:
        if argv[1:]:
            fail(f"{argv[1]!r} is no flag; flags are given as --name=value, see --help.")
        set_up_log()
        set_xla_flags()
        try:
            return main()
        except UserError as error:
            fail(str(error))
        except KeyboardInterrupt:
            print("Interrupted; the same command starts again.", file=sys.stderr)
            return EXIT_INTERRUPTED

    app.run(guarded, flags_parser=parse_flags)


def fail(sentence: str) -> NoReturn:
    """Say ``sentence`` and exit with status 2."""
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(EXIT_USER)


def parse_flags(argv: list[str]) -> list[str]:
    """Parse ``argv`` as absl does, but tell mistakes in one sentence and end --help with status 0."""
    try:
        return flags.FLAGS(argv)
    except SystemExit:
        sys.exit(0)
    except flags.IllegalFlagValueError as error:
        fail(explain_bad_value(str(error)))
    except flags.Error as error:
        fail(f"{error}; see --help.")
    except AttributeError as error:
        fail(explain_unknown_field(argv) or f"--config cannot be loaded: {error}.")
    except Exception as error:  # A config is a program: it can raise anything.
        fail(f"--config cannot be loaded: {' '.join(str(error).split())}.")


def explain_bad_value(error: str) -> str:
    """Return a sentence on an override of another type than its field's."""
    match = re.match(r"flag --(config\.([\w.]+)=.*?): ", error)
    if not match:
        return f"{error}; see --help."
    field = flatten(flags.FLAGS["config"].value.to_dict()).get(match[2])
    needed = f"{type(field).__name__}, as {field}" if field is not None else "field; give one field at a time"
    return f"--{match[1]} does not fit: config.{match[2]} is a {needed}."


def explain_unknown_field(argv: list[str]) -> str | None:
    """Return a sentence on the first override in ``argv`` that names no field, None if there is none."""
    file = [word for word in argv if re.match(r"--?config=", word)]
    flags.FLAGS([argv[0], *file])  # Without the overrides, of which one stopped the parser, the fields are known.
    fields = flatten(config_from_flags().to_dict())
    for word in argv:
        name = re.match(r"--?(?:no)?config\.([\w.]+)", word)
        if name and name[1] not in fields:
            near = difflib.get_close_matches(name[1], fields, n=1, cutoff=0.4)
            hint = f"did you mean --config.{near[0]}?" if near else "see configs/recipes.py for the fields."
            return f"--config.{name[1]} names no field: {hint}"
    return None


def config_from_flags() -> ConfigDict:
    """Return the config that --config names, overrides included; fail if there is none."""
    config, file = flags.FLAGS["config"].value, config_flags.get_config_filename(flags.FLAGS["config"])
    if config is None:
        fail("give a config, as --config=configs/digits_plain20.py.")
    if not isinstance(config, ConfigDict):
        reason = "its get_config() returns no ConfigDict" if pathlib.Path(file).exists() else "there is no such file"
        fail(f"--config={file} cannot be loaded: {reason}; the configs are in configs/.")
    return config


def set_up_log() -> None:
    """Log what this project says, and of other libraries only warnings; on a terminal around the progress line."""
    ours = str(pathlib.Path(resnet_jax.__file__).parent)

    def is_wanted(record: standard_logging.LogRecord) -> bool:
        return record.levelno >= standard_logging.WARNING or record.pathname.startswith(ours)

    root = standard_logging.getLogger()
    if console.is_terminal:
        root.handlers = [RichHandler(console=console, show_path=False, show_level=False)]
    for handler in root.handlers:
        handler.addFilter(is_wanted)
