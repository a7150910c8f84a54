"""What is recorded of the machine and the code."""

import jax

from resnet_jax.training.environment import environment, versions


def test_the_environment_says_what_a_run_was_made_with():
    made = environment()
    assert made["device_count"] == jax.device_count()
    assert made["packages"]["jax"]
    assert made.keys() >= {"python", "device_kind", "host_count", "git_revision", "git_dirty", "xla_flags"}


def test_settings_that_change_numbers_are_among_the_versions():
    before = versions()
    with jax.enable_x64(True), jax.default_matmul_precision("float32"), jax.threefry_partitionable(False):
        changed = {name for name, value in versions().items() if value != before[name]}
    assert changed == {"enable_x64", "default_matmul_precision", "threefry_partitionable"}
