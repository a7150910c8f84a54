"""Nets that instruments have measured, from their run directories or the folders of weights."""

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from resnet_jax import schema
from resnet_jax.analysis.runs import Replicates, Run
from resnet_jax.errors import UserError
from resnet_jax.instruments import END, diagnosis
from resnet_jax.instruments.diagnosis import Measurement
from resnet_jax.safe_files import files_below
from resnet_jax.schema import COUNT, FRACTION, Array, Each, Maybe, Number

VALUES, FRACTIONS = [Maybe(Number())], [FRACTION]
# What is drawn of the results of instruments, and which of it has a value for each block.
RESULTS: dict[str, Any] = {
    "gradients": {"relative": VALUES, "a_layer": Maybe(Number()), "cosine_of_net": VALUES},
    "batch_mates": {"sensitivity": VALUES},
    "probes": {"test_error": FRACTIONS},
    "feature_rank": {"rank": VALUES},
    "branches": {"share": VALUES},
    "responses": {"deviation": [Number()]},
    "deletions": {
        "error": {"test": FRACTION},
        "deleted": {"test": FRACTIONS},
        "deleted_by_batch": Maybe({"test": FRACTIONS}),
        "several": Maybe([{"blocks": COUNT, "errors": {"test": FRACTIONS}}]),
    },
    "channels": {"stem_filters": Array(4), "channel_filters": Each(Array(4))},
}
OVER_BLOCKS: dict[str, list[tuple[str, ...]]] = {
    "gradients": [("relative",), ("cosine_of_net",)],
    "batch_mates": [("sensitivity",)],
    "probes": [("test_error",)],
    "feature_rank": [("rank",)],
    "branches": [("share",)],
    "deletions": [("deleted", "test"), ("deleted_by_batch", "test")],
}
# Step of measurements before training; the last ones, and those on weights from elsewhere, have step END.
START = "start"


class Diagnosed(NamedTuple):
    """Measurements of one net with one seed.

    Attributes:
      label: shared by nets that differ only in the seed, as "plain-56".
      residual: whether it has shortcuts.
      depth: weighted layers.
      name: of the run or the weights file.
      run: None for weights.
      measurements: all of them.
    """

    label: str
    residual: bool
    depth: int
    name: str
    run: Run | None
    measurements: list[Measurement]

    def found(self, instrument: str, when: int | str) -> Measurement | None:
        """Return the newest measurement of ``instrument`` at step ``when``, None if there is none."""
        wanted = 0 if when == START else when
        there = [each for each in self.measurements if each.instrument == instrument]
        last = max((each.step for each in self.measurements if each.step is not None), default=None)
        if when == END:
            there = [each for each in there if each.step == last and last != 0]
        else:
            there = [each for each in there if each.step == wanted]
        return there[-1] if there else None

    def result(self, instrument: str, when: int | str, key: str) -> Any:
        """Return ``key`` of the result of that measurement, None if there is none."""
        there = self.found(instrument, when)
        return None if there is None else there.result.get(key)


# Each net by its label, with its seeds.
Groups = dict[str, list[Diagnosed]]


def read_diagnosed(folders: Sequence[pathlib.Path], nets: Sequence[Replicates]) -> tuple[list[Diagnosed], list[str]]:
    """Return the measurements in and below ``folders``, and a message on each net whose measurements are damaged.

    Args:
      folders: with run directories, or folders of measured weights.
      nets: the runs that were read there, which give measured ones their names.
    """
    runs = {run.folder.resolve(): (net, run) for net in nets for run in net.runs}
    measured: list[Diagnosed] = []
    problems = []
    for folder in folders:
        for path in sorted({file.parents[1] for file in files_below(folder) if file.parent.name == diagnosis.FOLDER}):
            net, run = runs.get(path.resolve(), (None, None))
            try:
                measurements = diagnosis.read(path)
                check(measurements)
                if not measurements:
                    continue
                first = measurements[0]
                label = net.label if net else first.net
                new = Diagnosed(label, first.model["residual"], first.model["depth"], first.run, run, measurements)
                check_replicates(new, [each for each in measured if each.label == label])
            except (UserError, ValueError) as error:
                problems.append(f"the measurements of {path} are skipped: {error}")
                continue
            measured.append(new)
    return measured, problems


def check(measurements: Sequence[Measurement]) -> None:
    """Raise a ValueError unless the results of ``measurements``, of one net, have the numbers that panels draw."""
    for each in measurements:
        schema.check(each.result, RESULTS.get(each.instrument, {}), f"result of {each.instrument}")
        for keys in OVER_BLOCKS.get(each.instrument, ()):
            values: Any = each.result
            for key in keys:
                values = values and values.get(key)
            if values is not None and len(values) != len(each.blocks):
                raise ValueError(f"result of {each.instrument} does not have one {keys[0]} for each block.")


def check_replicates(net: Diagnosed, others: Sequence[Diagnosed]) -> None:
    """Raise a ValueError unless ``net`` has the blocks, layers and deletions of ``others``, drawn in the same lines."""
    for each, other in itertools.product(net.measurements, others[0].measurements if others else ()):
        if each.blocks != other.blocks:
            raise ValueError("it has other blocks than another net of its name.")
        if each.instrument == other.instrument and sizes(each) != sizes(other):
            raise ValueError(f"result of {each.instrument} differs in size from the result of another net of its name.")


def sizes(measurement: Measurement) -> Any:
    """Return by what results of one instrument can be put together, apart from blocks."""
    result = measurement.result
    if measurement.instrument == "responses":
        return len(result["deviation"])
    if measurement.instrument == "deletions":
        return [row["blocks"] for row in result.get("several") or []]
    return None


def check_any(measured: Sequence[Diagnosed], folders: Sequence[pathlib.Path]) -> None:
    """Raise a UserError if nothing was ``measured`` in ``folders``."""
    if not measured:
        raise UserError(
            f"nothing has been measured in {', '.join(map(str, folders))}; run experiments.diagnose on it first."
        )


def by_label(measured: Sequence[Diagnosed]) -> Groups:
    """Return the seeds of each net, plain nets first, then by depth."""
    ordered = sorted(measured, key=lambda each: (each.residual, each.depth, each.label))
    groups: Groups = {}
    for each in ordered:
        groups.setdefault(each.label, []).append(each)
    return groups
