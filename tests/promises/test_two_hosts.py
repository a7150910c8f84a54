"""Two hosts, as network namespaces that a cable joins; in the midst of a run it is cut, or one host slows down."""

import os
import signal
import subprocess
import time

import pytest

from resnet_jax.hosts import HEARTBEAT_SECONDS
from tests.promises.runs import LOST, assert_same, command, finish, start, start_all, wait_for_line

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("many_hosts")]

STEPS = 40


def run_tool(*words):
    subprocess.run(words, check=True, capture_output=True, text=True)


@pytest.fixture
def hosts():
    """Return the names of two network namespaces, 10.77.0.1 and 10.77.0.2, each with one end of a cable."""
    names = [f"host{number}-{os.getpid()}" for number in range(2)]
    ends = [("cable", "netns", name) for name in names]
    try:
        for name in names:
            run_tool("ip", "netns", "add", name)
        run_tool("ip", "link", "add", *ends[0], "type", "veth", "peer", "name", *ends[1])
        for number, name in enumerate(names):
            run_tool("ip", "-n", name, "address", "add", f"10.77.0.{number + 1}/30", "dev", "cable")
            for link in ("lo", "cable"):
                run_tool("ip", "-n", name, "link", "set", link, "up")
    except (OSError, subprocess.CalledProcessError) as error:
        remove(names)
        pytest.skip(f"network namespaces cannot be made here: {getattr(error, 'stderr', None) or error}")
    yield names
    remove(names)


def remove(names):
    """Remove these network namespaces, with what still runs there."""
    for name in names:
        left = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
        for number in left.stdout.split():
            os.kill(int(number), signal.SIGKILL)
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def set_cable(hosts, state):
    run_tool("ip", "-n", hosts[1], "link", "set", "cable", state)


def start_on(hosts, workdir):
    """Start a process of one device on each of ``hosts``, all on the run in ``workdir``."""
    words = ("--coordinator=10.77.0.1:4321", f"--num_processes={len(hosts)}")
    return [
        start(command(workdir, *words, f"--process_id={number}", steps=STEPS), devices=1, host=host)
        for number, host in enumerate(hosts)
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return the directory of the same run by two processes on one host."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    results = [finish(process) for process in start_all(workdir, devices=1, steps=STEPS)]
    assert [status for status, _, _ in results] == [0, 0], results
    return workdir


def assert_same_bits(config, workdir, other):
    config.steps = STEPS
    assert_same(config, workdir, other)


def slow_down(host):
    """Delay all that ``host`` sends, with jitter; where the kernel cannot, let it send 20 Mbit/s."""
    add = ("tc", "-n", host, "qdisc", "add", "dev", "cable", "root")
    delayed = subprocess.run([*add, "netem", "delay", "20ms", "10ms"], capture_output=True)
    if delayed.returncode:
        run_tool(*add, "tbf", "rate", "20mbit", "burst", "64kb", "latency", "200ms")


def test_a_slow_host_at_a_slow_cable_that_is_out_for_seconds_changes_no_bit(hosts, undisturbed, config, tmp_path):
    slow_down(hosts[1])
    two = start_on(hosts, tmp_path / "run")
    wait_for_line(two[0], f"step 8/{STEPS}")
    for _ in range(3):
        two[1].send_signal(signal.SIGSTOP)
        time.sleep(1)
        two[1].send_signal(signal.SIGCONT)
        time.sleep(0.1)
    set_cable(hosts, "down")
    time.sleep(3)
    assert two[0].poll() is two[1].poll() is None
    set_cable(hosts, "up")
    results = [finish(process) for process in two]
    assert [status for status, _, _ in results] == [0, 0], results
    assert_same_bits(config, tmp_path / "run", undisturbed)


def test_a_cut_cable_and_the_death_of_the_first_end_both_and_the_same_commands_resume_to_the_same_bits(
    hosts, undisturbed, config, tmp_path
):
    two = start_on(hosts, tmp_path / "run")
    wait_for_line(two[0], f"step 8/{STEPS}")
    set_cable(hosts, "down")
    cut = time.monotonic()
    results = [finish(process) for process in two]
    assert time.monotonic() - cut < HEARTBEAT_SECONDS + 15
    assert [(status, stderr.splitlines()[-1]) for status, _, stderr in results] == [(1, LOST)] * 2
    set_cable(hosts, "up")

    two = start_on(hosts, tmp_path / "run")
    wait_for_line(two[0], "resuming after step")
    wait_for_line(two[0], f"/{STEPS} (")
    two[0].kill()
    killed = time.monotonic()
    status, _, stderr = finish(two[1])
    finish(two[0])
    assert time.monotonic() - killed < HEARTBEAT_SECONDS
    assert (status, stderr.splitlines()[-1]) == (1, LOST)

    results = [finish(process) for process in start_on(hosts, tmp_path / "run")]
    assert [status for status, _, _ in results] == [0, 0], results
    assert "resuming after step" in results[0][2]
    assert_same_bits(config, tmp_path / "run", undisturbed)
