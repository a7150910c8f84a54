"""Two runs that serve the tests of all commands."""

import pytest

# Settings of both runs.
SMALL = ("--config.model.depth=8", "--config.batch_size=16", "--config.steps=4", "--config.log_every=2")


@pytest.fixture(scope="session")
def trained(commands, tmp_path_factory):
    """Return the folder of the runs plain20 and resnet20, which kept nets; a test that changes one makes a copy."""
    folder = tmp_path_factory.mktemp("trained")
    for kind in ("plain20", "resnet20"):
        words = (f"--config=configs/digits_{kind}.py", *SMALL, "--config.keep_checkpoints=(0,1)")
        done = commands("main", *words, f"--workdir={folder / kind}")
        assert done.returncode == 0, done.stderr
    return folder
