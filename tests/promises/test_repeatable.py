"""One config gives one set of numbers, and a run directory suffices to get them again."""

import hashlib
import shutil

import jax
import numpy as np
import pytest

from resnet_jax import data
from resnet_jax.backend import DETERMINISTIC_FLAG
from resnet_jax.errors import UserError
from resnet_jax.rundir import read_config
from resnet_jax.safe_files import read_json
from resnet_jax.training import parallel, train
from resnet_jax.training.program import make_program
from tests.promises.runs import DEVICES, command, figures, finish, last_state, start, words_of
from tests.training.tiny import with_tiny_net

RESIDUAL = [pytest.param(mapper, "residual", marks=pytest.mark.slow) for mapper in parallel.MAPPERS]


@pytest.mark.parametrize(("mapper", "net"), [("shard_map", "tiny"), *RESIDUAL])
def test_bits_depend_on_no_interruption_dispatch_evaluation_or_checkpoint(config, registrations, tmp_path, mapper, net):
    """Crops, stochastic depth and dropout are drawn by seed, step and block, so the draws are not consumed."""
    if net == "tiny":
        with_tiny_net(config)
    else:
        config.model.survival = 0.5
    config.parallel.mapper = mapper
    config.data.padding = 1
    config.data.flip = True
    config.model.dropout = 0.5
    config.log_every = 6  # So that all dispatches of many steps are of six.
    config.steps_per_dispatch, config.eval_every, config.checkpoint_every = 1, 1, 3
    train(config, tmp_path / "base")
    base = [line for line in figures(tmp_path / "base") if line["split"] == "train" or line["step"] == 12]
    shutil.copytree(tmp_path / "base", tmp_path / "resumed")
    shutil.rmtree(tmp_path / "resumed" / "checkpoints" / "12")
    (tmp_path / "resumed" / "summary.json").unlink()
    changes = {
        "resumed": {},
        "dispatch": {"steps_per_dispatch": 100, "eval_every": 12, "checkpoint_every": 6},
    }
    for name, change in changes.items():
        config.update_from_flattened_dict(change)
        train(config, tmp_path / name)
        found = [line for line in figures(tmp_path / name) if line["split"] == "train" or line["step"] == 12]
        assert found == base, name
    base, *others = (last_state(config, tmp_path / name) for name in ("base", "resumed", "dispatch"))
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, base, other)


@pytest.mark.slow
def test_another_process_repeats_the_bits(whole, tmp_path):
    status, _, stderr = finish(start(command(tmp_path / "run")))
    assert status == 0, stderr
    assert figures(tmp_path / "run") == figures(whole)


def test_a_run_directory_has_what_repeats_its_run(whole, tmp_path):
    recorded = read_config(whole)
    assert recorded.command[:3] == ["python", "-m", "experiments.main"]
    [environment] = read_json(whole / "environment.json")
    assert environment["device_count"] == DEVICES
    assert {"git_revision", "git_dirty", "xla_flags", "device_kind", "host_count", "python"} <= environment.keys()
    assert {"jax", "jaxlib", "flax", "optax", "numpy"} <= environment["packages"].keys()
    digits = data.load(recorded.config.data)
    sha = hashlib.sha256()
    for name in ("test", "train"):
        images, labels = digits.splits[name]
        sha.update(f"{name} {images.shape}".encode() + images.tobytes() + labels.tobytes())
    assert read_json(whole / "identity.json")["data"]["contents"] == sha.hexdigest()
    train(recorded.config, tmp_path / "again")
    assert figures(tmp_path / "again") == figures(whole)


@pytest.mark.slow
def test_the_switch_for_deterministic_kernels_reaches_xla(commands, tmp_path):
    done = commands("main", *words_of(tmp_path / "run", deterministic=True))
    assert done.returncode == 0, done.stderr
    [environment] = read_json(tmp_path / "run" / "environment.json")
    assert DETERMINISTIC_FLAG in environment["xla_flags"].split()


def test_on_a_gpu_the_switch_is_refused_where_it_comes_too_late(config, monkeypatch):
    config.deterministic = True
    monkeypatch.setattr(parallel, "platform", lambda mesh: "gpu")
    with pytest.raises(UserError, match=rf"config\.deterministic=True needs {DETERMINISTIC_FLAG} in XLA_FLAGS before"):
        make_program(config, 10)
    monkeypatch.setenv("XLA_FLAGS", DETERMINISTIC_FLAG)
    make_program(config, 10)
