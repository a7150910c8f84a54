"""What all commands share: parsing flags, logging and reporting errors.

Exit status 0: done. 2: an error that the user can fix, reported in one sentence. 75: stopped by a signal; the same
command continues. 128 plus the number of a signal, e.g. 130 for Ctrl-C: stopped at once. 1: anything else. Output that
nobody reads does not change the status.
"""

import contextlib
import logging as standard_logging
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags
from rich import box
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text

import resnet_jax
from resnet_jax import registry, user_file
from resnet_jax.backend import set_up
from resnet_jax.config import check_names, default, flatten, nearest_field, shown, unknown_field
from resnet_jax.errors import UserError
from resnet_jax.escape import printable, printable_lines
from resnet_jax.fields import FIELDS, PATH_FIELDS
from resnet_jax.hosts import exit_at_once
from resnet_jax.paths import local_path
from resnet_jax.terminal import console, keep_printing_from_failing, stdout

EXIT_USER = 2
EXIT_INTERRUPTED = 130
CONFIGS = pathlib.Path(__file__).parents[1] / "configs"  # In a checkout or next to the installed packages.

flags.disclaim_key_flags()  # --help lists a command's flags under the command that defines them through this module.


def define_config(meaning: str) -> flags.FlagHolder:
    """Define --config, of ``meaning``, and --fields; return the former. Each command that takes a config does."""
    flags.DEFINE_bool("fields", False, "List the fields of the config with value and meaning, and do nothing else.")
    sys.argv = with_flagfiles(sys.argv)  # Here already, because the flag looks for overrides when it is defined.
    return config_flags.DEFINE_config_file("config", None, meaning, lock_config=True)


def define_weights_key() -> flags.FlagHolder:
    """Define --weights_key, after --weights. Each command that takes weights does."""
    meaning = "Which net of a weights file that holds several: its key in the file, e.g. state_dict_ema."
    key = flags.DEFINE_string("weights_key", None, meaning)
    flags.register_multi_flags_validator(
        ["weights", "weights_key"],
        lambda given: given["weights"] or given["weights_key"] is None,
        "--weights_key is for --weights; give both or neither",
    )
    return key


class _PathParser(flags.ArgumentParser):
    """Parses the path given by flag ``name``; ``~`` stands for the home folder."""

    def __init__(self, name: str) -> None:
        self.name = name

    def parse(self, argument: str) -> str:
        """Raise a UserError for a URL."""
        return local_path(argument, f"--{self.name}")

    def flag_type(self) -> str:
        return "path"


def define_path(name: str, meaning: str) -> flags.FlagHolder[str | None]:
    """Define flag ``name``, a path on this machine; by default it is None."""
    return flags.DEFINE(_PathParser(name), name, None, meaning)


def define_paths(name: str, meaning: str) -> flags.FlagHolder[list[str]]:
    """Define flag ``name``, a path on this machine that can be given several times."""
    return flags.DEFINE_multi(_PathParser(name), flags.ArgumentSerializer(), name, [], meaning)


def fields_table(config: ConfigDict) -> Table:
    """Return the fields with their values in ``config`` as a table."""
    values = flatten(config.to_dict())
    meaning_column = "meaning [unit]; what it may be; source of the default"
    table = Table("field", "value", meaning_column, box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[0].no_wrap = True
    table.columns[1].max_width, table.columns[1].overflow = 12, "fold"
    for name, field in FIELDS.items():
        value = values.get(name)
        if isinstance(value, list):
            value = tuple(round(part, 4) if isinstance(part, float) else part for part in value)
        meaning = field.meaning + f" [{field.unit}]" * bool(field.unit)
        may_be = ", ".join(field.choices) or ", ".join(filter(None, (field.expected, str(field.limits))))
        details = f"{may_be}; {field.source}" if field.source else may_be
        table.add_row(name, str(value), Text.assemble(meaning, "\n", (details, "dim")))
    return table


def run(
    main: Callable[[list[str]], int],
    interrupted: str = "Interrupted; the same command continues from the last checkpoint.",
) -> NoReturn:
    """Parse the flags, import the files of --import, run ``main`` on the other arguments and exit with its status.

    After a ``UserError`` the status is 2. ``interrupted`` is printed after Ctrl-C.
    """
    logging.use_absl_handler()  # It removes what else writes to standard error, which is replaced now.
    keep_printing_from_failing()
    logging.get_absl_handler().python_handler.stream = sys.stderr
    sys.unraisablehook = print_unraisable
    # Here, so that --help lists it among the flags of each command.
    define_paths("import", "Python file that registers nets or blocks of your own; docs/library.md.")

    def guarded(argv: list[str]) -> int:
        set_up_log()
        set_up()
        try:
            for file in imported_files():
                registry.import_file(file)
            if "fields" in flags.FLAGS and flags.FLAGS.fields:
                stdout.print(fields_table(default() if config_file(sys.argv) is None else config_from_flags()))
                return 0
            return main([local_path(argument) for argument in argv[1:]])
        except UserError as error:
            fail(str(error))
        except KeyboardInterrupt:
            print(interrupted, file=sys.stderr)
            exit_at_once(EXIT_INTERRUPTED)

    app.run(guarded, flags_parser=parse_flags)


def print_unraisable(unraisable: Any) -> None:
    """Print an exception that nobody can catch, but not what TensorStore's threads raise after a failure to write.

    Orbax raises the failure itself, and closes its event loop, which the threads then miss.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def imported_files() -> list[pathlib.Path]:
    """Return the files of --import, which only the user gives."""
    return [pathlib.Path(file) for file in flags.FLAGS["import"].value]


def refuse_arguments(arguments: list[str]) -> None:
    """Fail if there are positional ``arguments``."""
    if arguments:
        fail(f"unexpected argument {arguments[0]!r}; flags take the form --name=value, see --help.")


def fail(sentence: str) -> NoReturn:
    """Print ``sentence`` on one line, even if it quotes line breaks, and exit with status 2."""
    line = printable(" ".join(sentence.split()))
    sys.stderr.write(f"error: {line}\n")  # In one call, because threads may be printing too.
    exit_at_once(EXIT_USER)


def parse_flags(argv: list[str]) -> list[str]:
    """Parse ``argv`` as absl does, but report errors in one message and end --help with status 0.

    Files of flags are put in place first, also in ``sys.argv``, where overrides of the config are looked for.
    """
    sys.argv = argv = with_flagfiles(argv)
    file = config_file(argv)
    if file is not None and not pathlib.Path(file).is_file():
        fail(f"--config={file}: no such file; the configs are in {CONFIGS}.")
    standard_logging.disable(standard_logging.WARNING)  # ml_collections warns of errors that are reported below.
    try:
        return flags.FLAGS(argv)
    except SystemExit as error:
        if file is not None and user_file.line_of(pathlib.Path(file), error) is not None:
            fail(mistake_of_config(argv, "SystemExit"))
        sys.exit(0)  # Of --help.
    except UserError as error:
        fail(str(error))
    except flags.IllegalFlagValueError as error:
        is_of_file = str(error).startswith("flag --config=")
        reason = str(error).strip().splitlines()[-1]
        fail(mistake_of_config(argv, reason) if is_of_file else explain_bad_value(str(error)))
    except flags.UnrecognizedFlagError as error:
        field = nearest_field(error.flagname, cutoff=0.85) if "config" in flags.FLAGS else None
        fail(f"unknown flag --{error.flagname}; did you mean --config.{field}?" if field else f"{error}; see --help.")
    except flags.Error as error:
        fail(f"{error}; see --help.")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # A config is a program and can raise anything.
        fail(explain_unknown_field(argv) or mistake_of_config(argv, str(error) or type(error).__name__))
    finally:
        standard_logging.disable(standard_logging.NOTSET)


def with_flagfiles(argv: list[str]) -> list[str]:
    """Return ``argv`` with the flags in the file in place of each --flagfile=FILE, and ~ in --config=FILE expanded."""
    try:
        words = argv[:1] + flags.FLAGS.read_flags_from_files(argv[1:], force_gnu=False)
    except (flags.Error, ValueError) as error:  # ValueError: the file is not text.
        reason = str(error).removeprefix("ERROR:: Unable to open flagfile: ").strip().removesuffix(".")
        fail(f"--flagfile cannot be read: {reason}.")
    named = [re.fullmatch("(--?config)=(~.*)", word, re.DOTALL) for word in words]
    pairs = zip(words, named, strict=True)
    return [f"{match[1]}={local_path(match[2], '--config')}" if match else word for word, match in pairs]


def explain_bad_value(error: str) -> str:
    """Return a sentence on an override whose value does not fit its field."""
    match = re.match(r"flag --(config\.([\w.]+)=.*?): ", error, re.DOTALL)
    if not match:
        return f"{error.strip().splitlines()[-1]}; see --help."
    field = FIELDS.get(match[2])
    return f"--{match[1]}: {f'expected {field.expected}' if field else 'set one field at a time'}."


def explain_unknown_field(argv: list[str]) -> str | None:
    """Return a sentence on the first override of an unknown field in ``argv``, None if there is none."""
    fields = fields_of_file(argv)
    for word in argv if fields else []:
        name = re.match(r"--?(?:no)?config\.([^=]*)", word)
        if name and name[1] not in fields:
            return unknown_field(name[1])
    return None


def mistake_of_config(argv: list[str], reason: str) -> str:
    """Return a sentence on the config of ``argv``, which cannot be loaded.

    The file is executed again to find the line of the mistake; ``reason`` is given if it makes none this time.
    """
    path, _, option = (config_argument(argv) or "").partition(":")
    file, flag = pathlib.Path(path), f"--config={path}"
    try:
        module = user_file.load(file, "config", flag)
        if not hasattr(module, "get_config"):
            return f"{flag} has no get_config(), which returns the config; {CONFIGS} has examples."
        with user_file.reporting_mistakes(file, flag):
            config = module.get_config(*[option] if option else [])
    except UserError as error:
        return str(error)
    if not isinstance(config, ConfigDict):
        where = user_file.where(module, "get_config", flag)
        return f"{where}: get_config() returns {shown(config)}; it must return a ConfigDict."
    return f"--config cannot be loaded: {reason}."


def config_argument(argv: list[str]) -> str | None:
    """Return the value of --config in ``argv``, None if there is none."""
    values = re.findall(r"^--?config[=\n](.*)$", "\n".join(argv), re.MULTILINE)
    return values[-1] if values else None


def config_file(argv: list[str]) -> str | None:
    """Return the file given as --config in ``argv``, without the option that may follow after a colon."""
    value = config_argument(argv)
    return None if value is None else value.partition(":")[0]


def fields_of_file(argv: list[str]) -> dict[str, Any]:
    """Return the fields of the config file in ``argv`` by dotted name, without overrides; empty if it is invalid."""
    try:
        return flatten(flags.FLAGS["config"].parser.parse(config_file(argv)).to_dict())
    except BaseException:  # The error that the caller is about to report.
        return {}


def config_from_flags() -> ConfigDict:
    """Return the config of --config with its overrides; fail if there is none."""
    config = flags.FLAGS["config"].value
    if config is None and config_file(sys.argv) is None:
        fail("--config is missing; give one, e.g. --config=configs/digits_plain20.py.")
    if not isinstance(config, ConfigDict):
        fail(mistake_of_config(sys.argv, f"it is {shown(config)}"))
    values = check_names(config)
    for name in PATH_FIELDS:
        if isinstance(values[name], str):
            config.update_from_flattened_dict({name: local_path(values[name], f"config.{name}")})
    return config


def new_file(flag: str, value: str | pathlib.Path) -> pathlib.Path:
    """Return the path given by ``flag``; raise a UserError if it exists, because nothing is overwritten."""
    path = pathlib.Path(value)
    if path.exists() or not path.parent.is_dir():
        reason = "already exists" if path.exists() else "is in a folder that does not exist"
        raise UserError(f"--{flag}={path} {reason}; choose a new file in an existing folder.")
    return path


@contextlib.contextmanager
def saving(path: pathlib.Path) -> Iterator[None]:
    """Turn a failure to write ``path`` into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); choose another file.") from error


def set_up_log() -> None:
    """Log all messages of this project, but only warnings of libraries; on a terminal, above the progress line."""
    ours = str(pathlib.Path(resnet_jax.__file__).parent)

    def is_wanted(record: standard_logging.LogRecord) -> bool:
        # Orbax and its asyncio tasks log tracebacks of errors that Orbax then raises.
        if "/orbax/" in record.pathname or record.name == "asyncio":
            return False
        return record.levelno >= standard_logging.WARNING or record.pathname.startswith(ours)

    def escaped(record: standard_logging.LogRecord) -> bool:
        record.msg, record.args = printable_lines(record.getMessage()), None
        return True

    root = standard_logging.getLogger()
    if console.is_terminal:
        root.handlers = [RichHandler(console=console, show_path=False, show_level=False)]
    for handler in root.handlers:
        handler.addFilter(is_wanted)
        handler.addFilter(escaped)
