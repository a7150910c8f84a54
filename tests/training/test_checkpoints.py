"""What is saved is what was given, whatever happens to it while it is being written."""

import collections
import dataclasses
import errno
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from resnet_jax.errors import UserError
from resnet_jax.training.checkpoints import Checkpoints
from resnet_jax.training.step import TrainState


def test_progress_that_changes_while_it_is_saved_is_saved_as_it_was(tmp_path):
    state = TrainState(jnp.zeros((), jnp.int32), {"w": jnp.ones(3)}, {}, {})
    recent = [{"loss": 0.5}]
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, state, {"seconds": 2.0, "recent": recent})
        recent.append({"loss": jnp.ones(())})  # As the loop does, with what JSON cannot hold.
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        _, progress = checkpoints.restore(state)
    assert progress == {"seconds": 2.0, "recent": [{"loss": 0.5}]}


def state_at(step):
    """Return a state of parts large enough to be files of their own, different at every step."""
    numbers = np.random.default_rng(step).standard_normal((3, 40, 500)).astype(np.float32)
    params = {"stage1": {"conv": jnp.asarray(numbers[0])}, "head": jnp.asarray(numbers[1])}
    return TrainState(jnp.asarray(step, jnp.int32), params, {"bn": jnp.asarray(numbers[2, 0])}, {})


def saved(folder, steps=(10, 20)):
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_at(step), {"seconds": step / 3, "recent": []})


def restored(folder):
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(state_at(0))


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def assert_is_step(found, step):
    state, progress = found
    jax.tree.map(np.testing.assert_array_equal, state, state_at(step))
    assert progress == {"seconds": step / 3, "recent": []}


def truncate(content, random):
    return content[: random.integers(len(content))]


def flip_a_bit(content, random):
    damaged = bytearray(content)
    damaged[random.integers(len(content))] ^= 1 << random.integers(8)
    return bytes(damaged)


def remove(content, random):
    return None


@pytest.mark.parametrize(
    ("damage", "times"),
    [
        (truncate, 1),
        pytest.param(truncate, 3, marks=pytest.mark.slow),
        (flip_a_bit, 1),
        pytest.param(flip_a_bit, 3, marks=pytest.mark.slow),
        (remove, 1),
    ],
)
def test_whatever_happens_to_a_file_of_the_newest_checkpoint_nothing_wrong_is_restored(tmp_path, damage, times, caplog):
    """Each file in turn; a few bits, as in a time stamp, mean nothing, then the newest may be used."""
    saved(tmp_path / "whole")
    random = np.random.default_rng(0)
    fell_back = collections.Counter()
    names = [path.relative_to(tmp_path / "whole") for path in files(tmp_path / "whole" / "20")]
    assert len(names) > 5
    for name in names:
        for _ in range(times):
            folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
            shutil.copytree(tmp_path / "whole", folder)
            content = damage((folder / name).read_bytes(), random)
            (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
            caplog.clear()
            found = restored(folder)
            if int(found[0].step) == 20:
                assert_is_step(found, 20)
                continue
            fell_back[str(name)] += 1
            assert_is_step(found, 10)
            assert "checkpoint 20 in" in caplog.text
            assert "checkpoint 20 is removed; the older checkpoint 10 is used" in caplog.text
            saved(folder, steps=[20])  # The damaged one stands in nobody's way.
            assert_is_step(restored(folder), 20)
    # How many files there are differs from save to save; these are always there and always matter.
    matter = {str(name) for name in names if (tmp_path / "whole" / name).stat().st_size > 10_000}
    assert matter
    if damage != flip_a_bit:  # Which may meet a space.
        matter |= {"20/progress/metadata", "20/state/_METADATA", "20/state/manifest.ocdbt"}
    assert {name: fell_back[name] for name in matter} == dict.fromkeys(matter, times)


def test_what_orbax_says_of_a_full_disk_only_in_the_end_is_reported_too(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "run")

    def close(manager):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "close", close)
        with pytest.raises(UserError, match=r"run cannot be written \(No space left on device\)"), checkpoints:
            pass
    with checkpoints:
        pass


@pytest.mark.parametrize(
    "error",
    [
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"),
        ValueError("UNKNOWN: Gloo AllGather failed: Connection reset by peer"),
    ],
)
def test_a_failure_of_devices_or_other_processes_is_not_taken_for_damage(tmp_path, monkeypatch, error):
    saved(tmp_path / "c")
    with Checkpoints(tmp_path / "c") as checkpoints:

        def fail(*_):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "_read", fail)
            for restore in (checkpoints.restore, lambda template: checkpoints.restore_step(20, template)):
                with pytest.raises(type(error)) as raised:
                    restore(state_at(0))
                assert raised.value is error
        assert_is_step(checkpoints.restore(state_at(0)), 20)


def test_if_every_checkpoint_is_damaged_none_is_used_and_none_removed(tmp_path):
    saved(tmp_path / "c")
    for path in files(tmp_path / "c"):
        path.write_bytes(path.read_bytes()[:-1])
    before = {path: path.read_bytes() for path in files(tmp_path / "c")}
    with pytest.raises(UserError, match=r"all checkpoints in .*/c are damaged; remove that folder to train from the"):
        restored(tmp_path / "c")
    assert {path: path.read_bytes() for path in files(tmp_path / "c")} == before


def test_a_restart_before_a_step_takes_an_older_checkpoint(tmp_path):
    saved(tmp_path / "c")
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert_is_step(checkpoints.restore(state_at(0), before=20), 10)
        assert checkpoints.restore(state_at(0), before=10) is None


ONE = {"config": {"seed": 0, "model.depth": 20}, "data": "a" * 64}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (ONE | {"config": {"seed": 1, "model.depth": 20}}, r"config\.seed \(0 there, 1 here\)"),
        (ONE | {"data": "b" * 64}, r"data \(sha256 aaaaaaaaaaaa there, sha256 bbbbbbbbbbbb here\)"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_kept(tmp_path, other, said):
    with Checkpoints(tmp_path / "c", run=ONE) as checkpoints:
        checkpoints.save(10, state_at(10), {"seconds": 10 / 3, "recent": []})
    before = {path: path.read_bytes() for path in files(tmp_path / "c")}
    with Checkpoints(tmp_path / "c", run=other) as checkpoints:
        for restore in (checkpoints.restore, lambda template: checkpoints.restore_step(10, template)):
            with pytest.raises(UserError, match=rf"^checkpoint 10 in .* is of another run, differing in {said}; put"):
                restore(state_at(0))
    assert {path: path.read_bytes() for path in files(tmp_path / "c")} == before
    with Checkpoints(tmp_path / "c", run=ONE) as checkpoints:
        assert_is_step(checkpoints.restore(state_at(0)), 10)


def test_a_checkpoint_of_another_runs_net_is_neither_called_damaged_nor_removed(tmp_path):
    for run, step in ((ONE, 10), (ONE | {"data": "e"}, 20)):
        state = state_at(step)
        if step == 20:
            state = dataclasses.replace(state, params={"other": jnp.zeros(3)})
        with Checkpoints(tmp_path / "c", run=run) as checkpoints:
            checkpoints.save(step, state, {"seconds": 1.0, "recent": []})
    with Checkpoints(tmp_path / "c", run=ONE) as checkpoints:
        with pytest.raises(UserError, match=r"^checkpoint 20 in .* is of another run, differing in data"):
            checkpoints.restore(state_at(0))
        assert checkpoints.steps == [10, 20]


def test_a_checkpoint_of_before_that_names_no_run_is_read(tmp_path):
    saved(tmp_path / "c")
    with Checkpoints(tmp_path / "c", run=ONE) as checkpoints:
        assert_is_step(checkpoints.restore(state_at(0)), 20)


def test_a_net_of_other_shapes_is_not_called_damaged(tmp_path, caplog):
    saved(tmp_path / "c")
    other = state_at(0)
    other = dataclasses.replace(other, params=other.params | {"head": jnp.zeros((40, 501))})
    with Checkpoints(tmp_path / "c") as checkpoints:
        for restore in (checkpoints.restore, lambda template: checkpoints.restore_step(20, template)):
            with pytest.raises(
                UserError, match=r"is of another net: params/head has shape \(40, 500\) there, \(40, 501\) here; u"
            ):
                restore(other)
        assert_is_step(checkpoints.restore(state_at(0)), 20)
    assert "damaged" not in caplog.text
