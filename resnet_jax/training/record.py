"""Writing the run directory, which ``resnet_jax.rundir`` describes, and asking whether a folder can be one."""

import importlib.metadata
import json
import math
import os
import pathlib
import platform
import subprocess
import time
from types import TracebackType
from typing import Any, Self

import jax
from ml_collections import ConfigDict
from tensorboardX import SummaryWriter

from resnet_jax.errors import UserError
from resnet_jax.rundir import FORMAT_VERSION, flatten, read_json, read_metrics, write_json, write_text

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "ml_collections", "tensorflow-datasets")
# Fields that say where things lie, not what is computed: two runs that differ in them are the same run.
PLACES = ("data.data_dir",)


def check_workdir(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Raise a UserError unless ``workdir`` can take a run of ``config``; nothing is written.

    It can if it is new or empty, or if it holds a run of the same config, which is then resumed.
    """
    try:
        workdir.exists()
    except OSError as error:  # A name can be too long to ask for.
        raise UserError(f"--workdir={workdir} cannot be ({error.strerror}); give another --workdir.") from error
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir={workdir} is a file; give another --workdir.")
    existing = workdir
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--workdir={workdir} cannot be written, because {existing} cannot; give another --workdir.")
    recorded = read_json(workdir / "config.json")
    if recorded is None:
        if workdir.is_dir() and any(file.suffix != ".partial" for file in workdir.iterdir()):
            raise UserError(f"--workdir={workdir} holds files of something else than a run; give another --workdir.")
        return
    old, new = flatten(recorded["config"]), flatten(config.to_dict())
    differing = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    differing = [name for name in differing if name not in PLACES]
    if differing:
        changes = ", ".join(f"config.{name} ({old.get(name)} there, {new.get(name)} here)" for name in differing)
        raise UserError(
            f"--workdir={workdir} holds a run of another config, differing in {changes}; "
            "give another --workdir or the same config."
        )


class RunRecord:
    """Writes the run directory of one run; a context that closes its files."""

    def __init__(self, workdir: pathlib.Path, config: ConfigDict, command: list[str]) -> None:
        """Open ``workdir``, which ``check_workdir`` accepts, and make it if it is missing.

        Args:
          workdir: the run directory.
          config: of the run.
          command: the words of the command line that started the run.

        Raises:
          UserError: the directory cannot be written.
        """
        self.workdir = workdir
        self._open_files: list[Any] = []
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            if not (workdir / "config.json").exists():
                content = {"version": FORMAT_VERSION, "command": command, "config": config.to_dict()}
                write_json(workdir / "config.json", content)
            starts = read_json(workdir / "environment.json") or []
            write_json(workdir / "environment.json", [*starts, environment()])
        except OSError as error:
            raise UserError(
                f"--workdir={workdir} cannot be written ({error.strerror}); give another --workdir."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._open_files:
            file.close()

    def begin(self, step: int, seconds: float) -> None:
        """Begin to record after ``step`` steps that took ``seconds``, and drop what is recorded of later steps.

        Such records are of a run that ended after its last checkpoint; the steps are about to be made again.
        """
        self._start = time.perf_counter() - seconds
        (self.workdir / "summary.json").unlink(missing_ok=True)
        path = self.workdir / "metrics.jsonl"
        kept = [line for line in read_metrics(path) if line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._metrics = path.open("a")
        self._events = SummaryWriter(str(self.workdir / "tensorboard"), purge_step=step + 1)
        self._open_files = [self._metrics, self._events]

    @property
    def seconds(self) -> float:
        """Time the run has taken so far, over all its starts."""
        return time.perf_counter() - self._start

    def write(self, step: int, split: str, **scalars: float) -> None:
        """Record ``scalars`` of ``split`` after ``step`` steps; one that is not finite, which JSON lacks, as null."""
        finite = {name: value for name, value in scalars.items() if math.isfinite(value)}
        line = {"step": step, "split": split, **dict.fromkeys(scalars), **finite, "seconds": round(self.seconds, 3)}
        self._metrics.write(json.dumps(line) + "\n")
        self._metrics.flush()
        for name, value in finite.items():
            self._events.add_scalar(f"{split}/{name}", value, step)

    def finish(self, status: str, step: int, parameters: int, multiply_adds: int) -> dict[str, Any]:
        """Write and return the summary of a run that ended after ``step`` steps.

        ``status`` is "finished", "diverged" or "preempted"; ``multiply_adds`` are of one forward pass for one image.
        """
        metrics = read_metrics(self.workdir / "metrics.jsonl")
        splits = dict.fromkeys(line["split"] for line in metrics)
        of = {split: [line for line in metrics if line["split"] == split] for split in splits}
        figures = ("step", "loss", "error")
        summary = {
            "version": FORMAT_VERSION,
            "status": status,
            "steps": step,
            "seconds": round(self.seconds, 1),
            "parameters": parameters,
            "multiply_adds": multiply_adds,
            "final": {split: {name: of[split][-1][name] for name in figures} for split in splits},
            "best": {
                split: {name: min(of[split], key=lambda line: line["error"])[name] for name in figures}
                for split in splits
            },
        }
        write_json(self.workdir / "summary.json", summary)
        return summary


def environment() -> dict[str, Any]:
    """Return what a run was made with: versions, devices, code and flags."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "packages": {package: importlib.metadata.version(package) for package in PACKAGES},
        "platform": platform.platform(),
        "device_kind": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "host_count": jax.process_count(),
        "git_revision": git("rev-parse", "HEAD"),
        "git_dirty": bool(git("status", "--porcelain")),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def git(*words: str) -> str | None:
    """Return what git says of this code, None where it is not in a git checkout."""
    command = ["git", "-C", str(pathlib.Path(__file__).parent), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
