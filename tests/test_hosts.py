"""The processes of one run, as one of them sees the others; tests/promises/test_many_hosts.py starts real ones."""

import socket
import sys
from types import SimpleNamespace

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


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("coordinator", ["127.0.0.1:7", "[::1]:7", "[0:0:0:0:0:0:0:1]:7"])
def test_process_0_listens_at_the_address_given(coordinator, caplog):
    if "[" in coordinator and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    assert hosts.bind_address(coordinator) == coordinator
    assert caplog.text == ""


def test_process_0_listens_at_the_address_of_a_name(monkeypatch):
    def getaddrinfo(host, port, **settings):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("192.0.2.1", "127.0.0.1")]

    monkeypatch.setattr(hosts.socket, "getaddrinfo", getaddrinfo)
    assert hosts.bind_address("localhost:7") == "127.0.0.1:7"
    assert hosts.bind_address("here:7") is None, "other hosts may know this name by another address"


@pytest.mark.parametrize("coordinator", ["192.0.2.1:7", "0.0.0.0:7", "[::]:7", "[2001:db8::1]:7"])
def test_process_0_warns_where_it_listens_at_every_interface(coordinator, caplog):
    assert hosts.bind_address(coordinator) is None
    assert (
        f"--coordinator={coordinator} is not an address of this host, so process 0 listens at port 7 of" in caplog.text
    )


def test_what_the_user_binds_to_is_left_to_jax(monkeypatch, caplog):
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", "[::]:7")
    assert hosts.bind_address("192.0.2.1:7") is None
    assert caplog.text == ""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 is not an address of this host")
def test_no_other_interface_reaches_the_coordinator(commands):
    program = """
import socket
from resnet_jax import hosts

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
hosts.join_processes(f"127.0.0.1:{port}", 1, 0)
socket.create_connection(("127.0.0.1", port)).close()
try:
    socket.create_connection(("127.0.0.2", port)).close()
except ConnectionRefusedError:
    print("refused")
"""
    assert commands("", program=program).stdout == "refused\n"


def test_a_process_alone_joins_no_other_and_is_the_first():
    hosts.join_processes(None, None, None)
    assert hosts.is_first_process()
    with hosts.together():
        pass


def test_the_shell_of_an_interactive_job_is_alone_whatever_tasks_the_job_has(monkeypatch):
    for name, value in {"STEP_NODELIST": "localhost", "NTASKS": "2", "STEP_NUM_TASKS": "1", "PROCID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *words, **settings: pytest.fail("it waits for another"))
    hosts.join_processes(None, None, None)


@pytest.mark.parametrize(
    ("tasks", "visible", "used"),
    [
        ("1(x2)", None, "all"),
        ("1", "0,1,2,3", "all"),
        ("4(x2)", "2", "all"),
        ("4(x2)", "0,1,2,3", "2"),
        ("4", None, "2"),
    ],
)
def test_a_slurm_task_uses_all_gpus_of_a_host_that_it_has_for_itself(monkeypatch, tasks, visible, used):
    """The third task of its host, for which JAX chooses the third GPU."""
    variables = {"STEP_NUM_TASKS": "8", "STEP_TASKS_PER_NODE": tasks, "STEP_ID": "0", "JOB_ID": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("JAX_COORDINATOR_PORT", "1")
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    chosen = {"cuda": "2", "rocm": "2"}
    monkeypatch.setattr(jax.distributed, "initialize", lambda *words, **settings: None)
    monkeypatch.setattr(hosts.ctypes, "CDLL", lambda library: SimpleNamespace(signal=lambda *words: None))
    monkeypatch.setattr(jax.config, "update", lambda name, value: chosen.update({name.split("_")[1]: value}))
    hosts.join_processes(None, None, None)
    assert (chosen["cuda"], chosen["rocm"]) == (used, used)


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
