"""One process at a time writes to a run directory."""

import subprocess
import sys

import pytest

from resnet_jax.errors import UserError
from resnet_jax.training.lock import lock

HOLDER = """
import pathlib, sys
from resnet_jax.training.lock import lock
with lock(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_lock_names_its_holder_and_ends_with_it_even_when_it_is_killed(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"locked\n"
        message = (
            rf"--workdir=.* is in use by process {process.pid} on .*; wait until it ends or give another --workdir\."
        )
        with pytest.raises(UserError, match=message), lock(tmp_path):
            pass
        process.kill()
    with lock(tmp_path):
        pass


def test_a_lock_holds_although_its_file_was_removed(tmp_path):
    with lock(tmp_path):
        (tmp_path / "lock").unlink()
        with pytest.raises(UserError, match=r"--workdir=.* is in use by another process"), lock(tmp_path):
            pass
    with lock(tmp_path):
        pass
