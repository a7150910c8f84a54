"""How far the runs of a sweep are, only from their run directories, on any machine that sees these.

Nothing is written and no lock is touched, so whoever watches cannot disturb a run.

A run counts as training if it has not ended and has written within the last ten minutes or, if that is longer, within
three times the longest time between two of its newest records. Hence a run that was lost without a word, as when its
machine lost power, counts as training for that long; one that takes longer than ten minutes to its first record counts
as unfinished until then; and the clock of the file server, which dates the files, must agree with the clock of this
machine to within minutes.
"""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from resnet_jax.errors import UserError
from resnet_jax.rundir import MADE_BY_SURGERY, newest_metrics, read_config, read_summary
from resnet_jax.sweeps.plan import state

TRAINING = "training"
UNREADABLE = "unreadable"
# States of runs with nothing left to do, and the states among them of runs that did not reach their last step.
ENDED = ("finished", "diverged", "failed", MADE_BY_SURGERY)
FAILED = ("diverged", "failed")
PATIENCE_SECONDS = 600
PATIENCE_RECORDS = 3
# Records of the running training error over which the pace is taken: enough that some evaluations are among them.
RECENT = 50


class Row(NamedTuple):
    """How far a run is; None stands for what is not recorded.

    Attributes:
      name: of the run directory.
      state: "training", "unreadable" (a file is damaged or vanishes just now), or the first words of ``plan.state``.
      step: the steps made.
      steps: of the whole run.
      training_error: the newest running one, as a fraction.
      test_error: the newest, as a fraction.
      images_per_second: of the newest record of a run that is training.
      seconds_left: of a run that is training, counted from its newest record.
    """

    name: str
    state: str
    step: int | None = None
    steps: int | None = None
    training_error: float | None = None
    test_error: float | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None


def row(workdir: pathlib.Path, now: float) -> Row:
    """Return how far the run in ``workdir`` is at time ``now``, in seconds since 1970; it need not exist."""
    try:
        state_now, _, _ = state(workdir).partition(" at step ")
        summary, recorded = read_summary(workdir), read_config(workdir, known=False)
        if recorded is None:
            return Row(workdir.name, state_now)
        if summary and state_now == "finished":  # Then the summary says all.
            final = summary["final"]
            errors = (final[split]["error"] if split in final else None for split in ("train", "test"))
            return Row(workdir.name, state_now, summary["steps"], recorded.config.steps, *errors)
        records, is_all = newest_metrics(workdir / "metrics.jsonl", is_enough)
        if state_now == "unfinished" and is_training(workdir, records, is_all, now):
            state_now = TRAINING
    except (UserError, OSError):
        return Row(workdir.name, UNREADABLE)
    newest = {record["split"]: record for record in records}
    train, test = newest.get("train", {}), newest.get("test", {})
    progress = Row(
        workdir.name, state_now, train.get("step", 0), recorded.config.steps, train.get("error"), test.get("error")
    )
    if state_now != TRAINING:
        return progress
    pace = steps_per_second(records)
    left = None if pace is None else (recorded.config.steps - train["step"]) / pace
    return progress._replace(images_per_second=train.get("images_per_second"), seconds_left=left)


def is_enough(records: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether ``records``, the newest, show the pace and a test error."""
    splits = [record["split"] for record in records]
    return splits.count("train") >= RECENT and "test" in splits


def is_training(workdir: pathlib.Path, records: Sequence[Mapping[str, Any]], is_all: bool, now: float) -> bool:
    """Return whether the unfinished run in ``workdir`` is being trained, by the rule above.

    Args:
      workdir: its run directory.
      records: the newest lines of its metrics.
      is_all: whether there are no others.
      now: seconds since 1970.
    """
    times = [*[0.0] * is_all, *(record["seconds"] for record in records)]
    longest = max((after - before for before, after in itertools.pairwise(times)), default=0.0)
    # The lock is written when a process begins, the metrics at each record.
    written = [path.stat().st_mtime for name in ("lock", "metrics.jsonl") if (path := workdir / name).exists()]
    return now - max(written, default=0.0) < max(PATIENCE_SECONDS, PATIENCE_RECORDS * longest)


def steps_per_second(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the pace over the newest ``records``, evaluations included; None if there are fewer than two."""
    recent = [record for record in records if record["split"] == "train"][-RECENT:]
    seconds = recent[-1]["seconds"] - recent[0]["seconds"] if recent else 0.0
    return (recent[-1]["step"] - recent[0]["step"]) / seconds if seconds > 0 else None


def all_ended(rows: Sequence[Row]) -> bool:
    """Return whether no run is left to do."""
    return all(each.state in ENDED for each in rows)


def seconds_left(rows: Sequence[Row], multiply_adds: Mapping[str, int]) -> float | None:
    """Return an estimate of the seconds until all runs are over; None if nothing can be said.

    Where runs wait, it supposes that as many train at a time as now, that a multiply-add takes as long in them as in
    those that train now, and that those which have stopped are resumed.

    Args:
      rows: of all runs.
      multiply_adds: of all training steps of each run, by name; empty if they are not known.
    """
    left = {
        each.name: 1 - (each.step or 0) / each.steps if each.steps else 1.0 for each in rows if not all_ended([each])
    }
    training = [each for each in rows if each.state == TRAINING]
    known = {each.name: each.seconds_left for each in training if each.seconds_left is not None}
    if known and len(known) == len(left):
        return max(known.values())
    pace = sum(
        multiply_adds[name] * left[name] / seconds for name, seconds in known.items() if seconds and multiply_adds
    )
    if not pace:
        return None
    pace *= len(training) / len(known)  # Those that have only begun are as fast as the others.
    return max(*known.values(), sum(multiply_adds[name] * share for name, share in left.items()) / pace)


def file_stamps(workdirs: Sequence[pathlib.Path]) -> dict[pathlib.Path, tuple[int, int]]:
    """Return time and size of all files in ``workdirs`` that change when a run makes progress or ends."""
    found = {}
    for path in (workdir / name for workdir in workdirs for name in ("metrics.jsonl", "summary.json")):
        try:
            status = path.stat()
        except OSError:  # Not yet there, or no longer.
            continue
        found[path] = (status.st_mtime_ns, status.st_size)
    return found
