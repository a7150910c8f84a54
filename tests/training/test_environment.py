"""What is recorded of the machine and the code."""

import jax

from resnet_jax.training.environment import environment


def test_the_environment_says_what_a_run_was_made_with():
    made = environment()
    assert made["device_count"] == jax.device_count()
    assert made["packages"]["jax"]
    assert made.keys() >= {"python", "device_kind", "host_count", "git_revision", "git_dirty", "xla_flags"}
