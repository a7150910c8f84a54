"""A run directory outlives the code: those in tests/rundirs, each of the version in its path, are used as any other.

Each was written by the code of its time: residual-8 on the digits, 12 steps, batch statistics over all devices so that
the figures do not depend on how many there are. A folder is added for each format version, and none is changed.
"""

import pathlib
import shutil

import numpy as np
import pytest

from configs import recipes
from resnet_jax import data
from resnet_jax.analysis.runs import group_seeds, read_run, read_runs
from resnet_jax.errors import UserError
from resnet_jax.evaluation import of_run, predict, score
from resnet_jax.report.tables import records
from resnet_jax.rundir import FORMAT_VERSION, read_config, read_metrics
from resnet_jax.safe_files import read_json
from resnet_jax.training import parallel, train

FOLDER = pathlib.Path(__file__).with_name("rundirs")
RUNS = sorted(path.parent for path in FOLDER.glob("*/*/config.json"))
older_run = pytest.mark.parametrize("run", RUNS, ids=lambda run: run.parent.name)


@pytest.fixture
def config():
    """Return today's config of the runs."""
    config = recipes.digits(depth=8, residual=True)
    config.batch_size, config.steps = 32, 12
    config.log_every, config.eval_every, config.checkpoint_every = 4, 6, 6
    config.batch_norm.sync = True
    return config


def figures(workdir):
    """Return (step, split) of all records, and their losses and errors ``[records, 2]``."""
    lines = read_metrics(workdir / "metrics.jsonl")
    places = [(line["step"], line["split"]) for line in lines]
    return places, np.array([(line["loss"], line["error"]) for line in lines])


def test_there_is_a_run_of_every_older_format():
    assert {run.parent.name for run in RUNS} == {f"v{version}" for version in range(1, FORMAT_VERSION)}


@older_run
def test_a_finished_run_is_found_by_the_same_config(run, config, tmp_path):
    workdir = shutil.copytree(run, tmp_path / "run")
    assert train(config, workdir) == read_json(run / "summary.json")
    config.optimizer.milestones = (0.5, 0.8)
    with pytest.raises(UserError, match=r"milestones \(\[0\.5, 0\.75\] there, \[0\.5, 0\.8\] here\); give another"):
        train(config, workdir)


@older_run
def test_a_stopped_run_is_resumed_and_ends_as_one_of_today(run, config, tmp_path):
    workdir = shutil.copytree(run, tmp_path / "older")
    shutil.rmtree(workdir / "checkpoints" / "12")
    (workdir / "summary.json").unlink()
    assert train(config, workdir)["status"] == "finished"
    train(config, tmp_path / "today")
    places, expected = figures(run)
    for made in (workdir, tmp_path / "today"):
        assert figures(made)[0] == places
        # Other numbers of devices and other versions of JAX sum in other orders.
        np.testing.assert_allclose(figures(made)[1], expected, atol=5e-3)
    assert len(read_json(workdir / "environment.json")) == 2


@older_run
def test_a_run_is_compared_with_one_of_today(run, config, tmp_path):
    config.seed = 1
    train(config, tmp_path / "today")
    shutil.copytree(run, tmp_path / "older")
    runs, problems = read_runs([tmp_path])
    assert problems == []
    [net] = group_seeds(runs)
    assert (net.label, len(net.runs)) == ("residual-8", 2)
    [record] = records([net])
    assert (record["seeds"], record["parameters"]) == (2, 75_002)


@older_run
def test_a_run_is_evaluated(run):
    mesh = parallel.device_mesh()
    net = of_run(run, mesh)
    dataset = data.load(read_config(run).config.data)
    images, labels = dataset.splits["test"]
    logits, _ = predict(net, images, mesh)
    recorded = read_run(run).final("test")
    assert score(logits, labels).top1_error == pytest.approx(recorded, abs=2 / len(labels))
