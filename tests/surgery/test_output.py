"""The run directory of a net that surgery made."""

import jax
import numpy as np
import pytest

from resnet_jax import data, evaluation
from resnet_jax.errors import UserError
from resnet_jax.rundir import MADE_BY_SURGERY, read_config
from resnet_jax.safe_files import read_json
from resnet_jax.surgery import EditableNet, output
from resnet_jax.training import parallel
from tests.conftest import small_config
from tests.surgery.nets import random_net

MEAN, STD = np.full((8, 8, 1), 0.5, np.float32), np.full((1, 1, 1), 0.25, np.float32)
COMMAND = ["python", "-m", "experiments.surgery", "x"]


@pytest.fixture(scope="module")
def made():
    """Return a config, a net that has another order, and the identity of its data."""
    config = small_config()
    net = random_net(residual=False, block="single", norm="none")
    net = EditableNet(net.config, jax.tree.map(np.float32, net.variables))
    config.from_run = "runs/old"
    return config, net, data.identify(data.load(config.data))


def write(made, out):
    config, net, identity = made
    output.write_run(out, output.config_of(config, net), net, identity, (MEAN, STD), {"operation": "x"}, COMMAND)


def test_the_config_is_the_old_one_with_the_new_net(made):
    config, net, _ = made
    new = output.config_of(config, net)
    assert (new.model.residual, new.model.block, new.model.norm) == (False, "single", "none")
    assert (new.batch_size, new.data, new.from_run) == (config.batch_size, config.data, None)
    assert (config.model.block, config.from_run) == ("basic", "runs/old")


def test_the_written_run_holds_the_net_and_a_record_of_the_operation(made, tmp_path):
    _, net, _ = made
    write(made, tmp_path / "new" / "run")
    out = tmp_path / "new" / "run"
    assert read_json(out / "surgery.json") == {"version": 2, "operation": "x"}
    assert (read_config(out).config.model.block, read_config(out).command) == ("single", COMMAND)
    summary = read_json(out / "summary.json")
    assert (summary["status"], summary["steps"], summary["final"]) == (MADE_BY_SURGERY, 0, {})
    assert summary["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(net.variables["params"]))
    trained = evaluation.of_run(out, parallel.device_mesh())
    assert (trained.kind, trained.step, trained.class_names) == ("single plain-8", 0, tuple("0123456789"))
    jax.tree.map(np.testing.assert_array_equal, trained.variables, net.variables | {"batch_stats": {}})
    np.testing.assert_array_equal(trained.mean, MEAN)
    np.testing.assert_array_equal(trained.std, STD)


def test_an_existing_folder_is_refused_and_left(made, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UserError, match=r"^--out=\S+ exists already; give a new folder\.$"):
        write(made, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError(28, "No space left on device"), UserError, r"cannot be written \(No space left on device\); choose"),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
    ],
    ids=["disk full", "interrupted"],
)
def test_of_a_run_that_cannot_be_written_whole_nothing_is_left(made, tmp_path, monkeypatch, error, raised, message):
    def fail(*_):
        raise error

    monkeypatch.setattr(output, "write_config", fail)  # After all other files.
    with pytest.raises(raised, match=message):
        write(made, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
