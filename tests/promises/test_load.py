"""A long run waits for no checkpoint and only appends to its record; benchmarks/endurance.py measures both."""

import itertools
import threading

import orbax.checkpoint as ocp

from resnet_jax.data import sampling
from resnet_jax.training import train
from resnet_jax.training.record import RunRecord


def test_training_goes_on_while_a_checkpoint_is_written(config, tmp_path, monkeypatch):
    went_on = threading.Event()
    waited = []
    finalize, batch_indices = ocp.CheckpointManager._finalize, sampling.batch_indices

    def finalize_late(*words, **settings):
        waited.append(went_on.wait(timeout=60))
        return finalize(*words, **settings)

    def seen(seed, steps, *sizes):
        if steps.start == 8:  # The checkpoint of step 5 is not whole yet.
            went_on.set()
        return batch_indices(seed, steps, *sizes)

    monkeypatch.setattr(ocp.CheckpointManager, "_finalize", finalize_late)
    monkeypatch.setattr(sampling, "batch_indices", seen)
    assert train(config, tmp_path / "run")["status"] == "finished"
    assert len(waited) == 3
    assert all(waited)


def test_the_record_of_a_run_is_only_appended_to(config, tmp_path, monkeypatch):
    path = tmp_path / "run" / "metrics.jsonl"
    seen = []
    write = RunRecord.write

    def watched(self, *words, **scalars):
        write(self, *words, **scalars)
        seen.append((path.stat().st_ino, path.read_text()))

    monkeypatch.setattr(RunRecord, "write", watched)
    train(config, tmp_path / "run")
    assert len(seen) == 7
    assert len({inode for inode, _ in seen}) == 1
    for (_, before), (_, after) in itertools.pairwise(seen):
        assert after.startswith(before)
        assert after.count("\n") == before.count("\n") + 1
