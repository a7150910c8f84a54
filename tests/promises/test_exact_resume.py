"""A run killed at any moment and resumed ends with the bits of an undisturbed one; `make soak` kills it more often."""

import signal

import pytest

from benchmarks import soak
from resnet_jax.training import train
from tests.promises.runs import SETTINGS, assert_same

# Each kills its own process, by what no program can catch, at one moment of the run that is then begun.
MOMENTS = {
    "half a line of metrics is written": """
write = record.RunRecord.write
def half(self, step, split, **scalars):
    if step == 8:
        self._metrics.write('{"step": 8, "spl')
        self._metrics.flush()
        die()
    write(self, step, split, **scalars)
record.RunRecord.write = half
""",
    "an evaluation has recorded one of two splits": """
write = record.RunRecord.write
def one(self, step, split, **scalars):
    write(self, step, split, **scalars)
    if step == 6 and split == "train_clean":
        die()
record.RunRecord.write = one
""",
    "a checkpoint is being written": """
save = checkpoints.Checkpoints.save
def begun(self, step, state, progress):
    save(self, step, state, progress)
    if step == 10:
        die()
checkpoints.Checkpoints.save = begun
""",
    "a file of a checkpoint is not yet complete": """
import orbax.checkpoint as ocp
ocp.CheckpointManager._finalize = lambda *words, **settings: die()
""",
    "the record of the last step is whole but its checkpoint not begun": """
save = checkpoints.Checkpoints.save
def begun(self, step, state, progress):
    if step == 12:
        die()
    save(self, step, state, progress)
checkpoints.Checkpoints.save = begun
""",
    "the summary is written but not renamed yet": """
replace = pathlib.Path.replace
def named(self, target):
    if self.name == "summary.json.partial":
        die()
    return replace(self, target)
pathlib.Path.replace = named
""",
}
DRIVER = """
import os, pathlib, signal
from resnet_jax.backend import set_xla_flags
set_xla_flags()
from configs import recipes
from resnet_jax.training import checkpoints, record, train

def die(): os.kill(os.getpid(), signal.SIGKILL)
{moment}
config = recipes.digits(depth=8, residual=True)
config.update_from_flattened_dict({settings})
train(config, pathlib.Path({workdir!r}))
"""


# Checked at every commit; the others with the slow tests.
FREQUENT = {"half a line of metrics is written", "a checkpoint is being written"}


@pytest.mark.xdist_group("exact_resume")
@pytest.mark.parametrize(
    "moment", [pytest.param(each, marks=() if each in FREQUENT else pytest.mark.slow) for each in MOMENTS]
)
def test_a_run_killed_when(moment, commands, config, whole, tmp_path):
    driver = DRIVER.format(moment=MOMENTS[moment], settings=SETTINGS, workdir=str(tmp_path / "run"))
    done = commands("", program=driver)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "run" / "summary.json").exists()
    assert train(config, tmp_path / "run")["status"] == "finished"
    assert_same(config, tmp_path / "run", whole)


@pytest.mark.slow
def test_runs_killed_at_random_moments_differ_in_no_bit(tmp_path):
    record = soak.soak(tmp_path, kills=3, seed=3)
    assert sum(record["kills"].values()) == 3
    assert record["differences"] == 0


def test_a_difference_would_be_found(config, whole, tmp_path):
    """The comparisons above rest on this."""
    config.seed = 1
    train(config, tmp_path / "other")
    assert soak.differences(whole, whole) == 0
    assert soak.differences(whole, tmp_path / "other") > 60
