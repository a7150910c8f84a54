"""The processes of one run, as one of them sees the others; tests/promises/test_many_hosts.py starts real ones."""

import jax
import numpy as np
import pytest

from resnet_jax import hosts
from resnet_jax.errors import UserError
from resnet_jax.training.parallel import device_mesh


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("127.0.0.1:1", None, None), "--coordinator, --num_processes and --process_id go together; give all three or"),
        ((None, 2, 0), "--coordinator, --num_processes and --process_id go together"),
        (
            ("127.0.0.1:1", 2, 2),
            "--coordinator=127.0.0.1:1 --num_processes=2 --process_id=2 is not valid; give an address with a port",
        ),
        (("here", 2, 0), "--coordinator=here --num_processes=2 --process_id=0 is not valid"),
    ],
)
def test_incomplete_and_wrong_flags_are_refused(given, message):
    with pytest.raises(UserError, match=f"^{message}"):
        hosts.join_processes(*given)


def test_a_process_alone_joins_no_other_and_is_the_first():
    hosts.join_processes(None, None, None)
    assert hosts.is_first()
    with hosts.together():
        pass


@pytest.mark.parametrize("flag", [False, True])
def test_the_vote_of_one_process_is_its_own_and_that_of_several_is_computed_by_the_devices(flag, monkeypatch):
    mesh = device_mesh()
    assert hosts.any_process(flag, mesh) is flag
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    vote = hosts.any_process(flag, mesh)
    assert isinstance(vote, jax.Array)
    assert bool(vote) is flag


@pytest.fixture
def two(monkeypatch):
    """Return a list of what the two processes of a run say of their failures; this is the first of them."""
    failures = [False, False]

    def process_allgather(own):
        return np.array([bool(own), failures[1]])

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(hosts.multihost_utils, "process_allgather", process_allgather)
    return failures


def test_an_error_in_another_process_is_raised_in_this_one(two):
    two[1] = True
    message = r"^process 1 of this run has failed; correct what it reports and start all of them again\.$"
    with pytest.raises(UserError, match=message), hosts.together():
        pass


def test_an_error_in_this_process_is_raised_as_it_is(two):
    with pytest.raises(UserError, match=r"^mine$"), hosts.together():
        raise UserError("mine")
