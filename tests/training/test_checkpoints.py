"""What is saved is what was given, whatever happens to it while it is being written."""

import jax.numpy as jnp

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
