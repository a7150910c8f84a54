"""Look inside nets: measure over depth, at the steps after which a run kept its net.

    python -m experiments.diagnose runs/digits_depth
    python -m experiments.diagnose runs/digits_depth --only=gradients,probes --at=0,end
    python -m experiments.diagnose --config=configs/cifar_resnet20.py --weights=FILE --out=results/of_weights
    python -m experiments.diagnose --list

Reads the runs in and below the given folders, or a file of weights with the config of its net, and adds what it
measures to diagnosis/NAME.jsonl of each run directory or of --out; measurements that exist with the same settings
are not repeated. experiments.compare puts them on its page. A run keeps nets after the steps of
config.keep_checkpoints; step 0 is drawn again from the seed, and the newest checkpoint is there in any case.

Exit status: 0 done, 2 the command, a run or the data needs fixing, or nothing could be measured.
"""

import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
from absl import flags
from ml_collections import ConfigDict
from rich import box
from rich.progress import BarColumn, Progress, TaskProgressColumn
from rich.table import Table

from experiments import command
from resnet_jax import data, evaluation, instruments
from resnet_jax.analysis.runs import run_directories
from resnet_jax.errors import UserError
from resnet_jax.instruments import END, INSTRUMENTS, diagnosis
from resnet_jax.rundir import KEPT, read_config, saved_steps
from resnet_jax.terminal import PlainColumn, console, say, stdout
from resnet_jax.training import scaling
from resnet_jax.training.start import available_steps

DEFAULTS = instruments.Settings()

_CONFIG = command.define_config("Config file of the net of --weights, one of configs/*.py.")
_WEIGHTS = command.define_path("weights", "Weights file of a net, which must fit the net of --config.")
_WEIGHTS_KEY = command.define_weights_key()
_OUT = command.define_path("out", "Folder for the measurements of --weights.")
_ONLY = flags.DEFINE_list("only", None, "Instruments, see --list; by default those that cost little.")
_ALL = flags.DEFINE_bool("all", False, "Measure with all instruments.")
_AT = flags.DEFINE_list("at", None, "Steps, e.g. 0,100,end; by default each instrument's own, where the run has nets.")
_EXAMPLES = flags.DEFINE_integer("examples", DEFAULTS.examples, "Images of each split.", 2)
_BATCH = flags.DEFINE_integer("batch", DEFAULTS.batch, "Images of a batch.", 2)
_SEED = flags.DEFINE_integer("seed", DEFAULTS.seed, "Seed of the draw of images, and of all that instruments draw.", 0)
_DATA_DIR = command.define_path("data_dir", "Where the data set of the runs is now, if it has moved.")
_LIST = flags.DEFINE_bool("list", False, "List the instruments, and do nothing else.")


class Source(NamedTuple):
    """Where nets come from: a run, or a file of weights.

    Attributes:
      name: name of the run or the file.
      folder: folder for the measurements.
      config: config of the run.
      steps: steps after which it has a net, rising; [None] for weights.
      weights: file of weights.
    """

    name: str
    folder: pathlib.Path
    config: ConfigDict
    steps: Sequence[int | None]
    weights: pathlib.Path | None = None


def instruments_table() -> Table:
    """Return the instruments with their question, cost and steps as a table."""
    table = Table("instrument", "question", "cost", "steps", box=box.SIMPLE_HEAD)
    for name, each in INSTRUMENTS.items():
        table.add_row(name + " *" * each.is_cheap, each.question, each.cost, ", ".join(map(str, each.steps)))
    table.caption = "* measured by default. F: a forward pass of a batch; G: a gradient, about 3 F; set: all examples."
    return table


def chosen_instruments() -> list[str]:
    """Return the names of the instruments that the flags ask for."""
    if _ONLY.value and _ALL.value:
        raise UserError("give either --only or --all.")
    for name in _ONLY.value or []:
        if name not in INSTRUMENTS:
            raise UserError(f"unknown instrument {name!r}; give one of {', '.join(INSTRUMENTS)}.")
    return _ONLY.value or [name for name, each in INSTRUMENTS.items() if each.is_cheap or _ALL.value]


def chosen_steps(
    at: tuple[int | str, ...], steps: Sequence[int | None], asked: list[str] | None
) -> Sequence[int | None]:
    """Return the steps at which to measure, rising: ``asked`` if given, else the steps of ``at`` that are in ``steps``.

    Raises:
      UserError: a word of ``asked`` is not a step, or the net after it does not exist.
    """
    if list(steps) == [None]:
        return steps
    if asked is None:
        return [step for step in steps if step in at or (END in at and step == steps[-1])]
    found: set[int | None] = set()
    for word in asked:
        if word != END and not word.isdecimal():
            raise UserError(f"--at={','.join(asked)}: {word!r} is not a step; use numbers or 'end', e.g. 0,100,end.")
        step = steps[-1] if word == END else int(word)
        if step not in steps:
            raise UserError(f"there is no net of step {step}, only of {', '.join(map(str, steps))}; change --at.")
        found.add(step)
    return [step for step in steps if step in found]


def sources_from_flags(arguments: list[str]) -> list[Source]:
    """Return the runs in the folders ``arguments``, or the net of --weights."""
    if bool(arguments) == (_WEIGHTS.value is not None):
        raise UserError("give folders of runs, e.g. runs/digits_depth, or --config=... and --weights=FILE --out=DIR.")
    if _WEIGHTS.value is not None:
        if _OUT.value is None:
            raise UserError("--out is missing; give a folder for the measurements of --weights.")
        file, out = pathlib.Path(_WEIGHTS.value), pathlib.Path(_OUT.value)
        name = evaluation.weights_name(file, _WEIGHTS_KEY.value)
        others = {each.run for each in diagnosis.read(out)} - {name}
        if others:
            raise UserError(f"--out={out} has measurements of {', '.join(sorted(others))}, not {name}; give another.")
        config = scaling.resolved(command.config_from_flags(), devices=1)
        return [Source(name, out, config, [None], weights=file)]
    if _OUT.value is not None or _CONFIG.value is not None:
        raise UserError("--out and --config are for --weights; measurements of a run are in its own directory.")
    sources = []
    for folder in run_directories([pathlib.Path(argument) for argument in arguments]):
        recorded = read_config(folder)
        assert recorded is not None  # As ``run_directories`` has it.
        config = recorded.config
        config.data.data_dir = _DATA_DIR.value or config.data.data_dir
        sources.append(Source(folder.name, folder, config, available_steps(folder, config)))
    return sources


def subject_after(source: Source, step: int | None, settings: instruments.Settings) -> instruments.Subject:
    """Return the net of ``source`` after ``step`` as a subject."""
    if source.weights is None:
        return instruments.of_run(source.folder, step, settings, source.config.data.data_dir)
    dataset = data.load(source.config.data)
    model = source.config.model
    defaults = evaluation.ForeignDefaults(model.residual, model.bottleneck_stride)
    shape = data.image_shape(dataset)
    trained = evaluation.of_weights(source.weights, shape, dataset.num_classes, model, defaults, key=_WEIGHTS_KEY.value)
    return instruments.subject_of(trained, dataset, source.config, settings)


def planned_measurements(
    source: Source, names: list[str], settings: dict[str, Any]
) -> Iterator[tuple[int | None, list[str]]]:
    """Yield each step at which to measure ``source``, and the instruments for it."""
    there = diagnosis.read(source.folder)
    wanted = {name: chosen_steps(INSTRUMENTS[name].steps, source.steps, _AT.value) for name in names}
    for step in source.steps:
        known = {each.instrument for each in there if each.matches(step, settings)}
        new = [name for name in names if step in wanted[name] and name not in known]
        if new:
            yield step, new


def measure(
    source: Source, step: int | None, names: list[str], settings: instruments.Settings, progress: Progress
) -> tuple[int, list[str]]:
    """Measure ``source`` after ``step`` with the instruments ``names``; return how many did, and what others say."""
    subject = subject_after(source, step, settings)
    refusals, measured = [], 0
    task = progress.add_task(source.name, total=len(names))
    for name in names:
        progress.update(task, description=f"{source.name}, {f'step {step}' if step is not None else 'weights'}: {name}")
        try:
            measurement = diagnosis.measure(name, subject, ["python", "-m", "experiments.diagnose", *sys.argv[1:]])
        except UserError as error:
            refusals.append(f"{name}: {error}.")
        else:
            diagnosis.add(source.folder, measurement)
            measured += 1
        progress.advance(task)
    progress.remove_task(task)
    return measured, refusals


def main(arguments: list[str]) -> int:
    """Measure; return the exit status."""
    if _LIST.value:
        stdout.print(instruments_table())
        return 0
    names = chosen_instruments()
    settings = instruments.Settings(_EXAMPLES.value, _BATCH.value, _SEED.value)
    sources = sources_from_flags(arguments)
    measured, refusals = 0, dict[str, None]()
    plans = [(source, list(planned_measurements(source, names, settings._asdict()))) for source in sources]
    columns = (PlainColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        for source, steps in plans:
            for step, new in steps:
                count, said = measure(source, step, new, settings, progress)
                measured += count
                refusals |= dict.fromkeys(said)
                if not console.is_terminal:
                    console.print(f"{source.name}, step {step}: {', '.join(new)}")
    for sentence in refusals:
        say(sentence)
    runs = [source.folder for source in sources if source.weights is None]
    missing = [folder for folder in runs if not saved_steps(folder, KEPT)]
    if missing:
        print(
            f"{len(missing)} of {len(sources)} runs kept no nets during training and are measured at what they have; "
            "--config.keep_checkpoints='(0,1,10,100)' keeps them."
        )
    if not measured and refusals:
        return command.EXIT_USER
    counts = f"{measured} measurement{'s' * (measured != 1)}, of {len(sources)} net{'s' * (len(sources) != 1)}"
    print(f"Added to {diagnosis.FOLDER}/: {counts}, on {jax.default_backend()}.")
    return 0


if __name__ == "__main__":
    command.run(main, interrupted="Interrupted; finished measurements are kept, and the same command continues.")
