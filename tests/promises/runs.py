"""A small run as a process of its own, and its records, for tests of the promises in docs/reliability.md."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np

from benchmarks.soak import figures as figures
from resnet_jax.data import sampling
from resnet_jax.training.checkpoints import Checkpoints
from resnet_jax.training.program import make_program

ROOT = pathlib.Path(__file__).parents[2]
DEVICES = 2  # As in these tests' own process, so that both compute the same and share what is compiled.
SETTINGS = {
    "model.depth": 8,
    "batch_size": 32,
    "steps": 12,
    "log_every": 4,
    "eval_every": 6,
    "checkpoint_every": 5,
}

# What a process says last when another one of its run is gone.
LOST = (
    "error: another process of this run has died, cannot be reached or was started twice; start the same command once "
    "on every host."
)


def words_of(workdir, **settings):
    """Return the words of ``experiments.main`` that train the run of ``SETTINGS``, changed by ``settings``."""
    overrides = [f"--config.{name}={value}" for name, value in (SETTINGS | settings).items()]
    return ["--config=configs/digits_resnet20.py", *overrides, f"--workdir={workdir}"]


def command(workdir, *words, **settings):
    """Return the words by which Python trains the run of ``SETTINGS``, changed by ``settings``, in ``workdir``."""
    return ["-m", "experiments.main", *words_of(workdir, **settings), *words]


def start(words, devices=DEVICES, host=None, **variables):
    """Start Python on ``words`` with ``devices`` virtual devices, in the network namespace ``host`` if given."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONUNBUFFERED": "1"} | variables
    return subprocess.Popen(
        [*(("ip", "netns", "exec", host) if host else ()), sys.executable, *map(str, words)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_all(workdir, processes=2, devices=DEVICES, **settings):
    """Start so many processes of so many devices each on the run in ``workdir``; they talk over the loopback."""
    address = f"127.0.0.1:{free_port()}"
    return [
        start(
            command(
                workdir,
                f"--coordinator={address}",
                f"--num_processes={processes}",
                f"--process_id={number}",
                **settings,
            ),
            devices=devices,
            JAX_COORDINATOR_BIND_ADDRESS=address,
        )
        for number in range(processes)
    ]


def finish(process, timeout=300):
    """Return exit status, output and errors of ``process`` when it has ended."""
    stdout, stderr = process.communicate(timeout=timeout)
    return process.returncode, stdout, stderr


def wait_for_line(process, text):
    """Read what ``process`` says until ``text`` is said, and return that line."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return line
    raise AssertionError(f"{text!r} was not said, but\n{''.join(lines)}")


def at_step(monkeypatch, step, action):
    """Call ``action`` when the examples of ``step`` are chosen."""
    original = sampling.batch_indices

    def batch_indices(seed, steps, *sizes):
        if step in steps:
            action()
        return original(seed, steps, *sizes)

    monkeypatch.setattr(sampling, "batch_indices", batch_indices)


def last_state(config, workdir, mesh=None, classes=10, image_shape=(8, 8, 1)):
    """Return the newest state in the checkpoints of ``workdir``, on the host."""
    program = make_program(config, classes, mesh)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state, _ = checkpoints.restore(program.init(image_shape))
    return jax.device_get(state)


def assert_same(config, workdir, other):
    """The runs in ``workdir`` and ``other`` have recorded the same figures and ended with the same bits."""
    assert figures(workdir) == figures(other)
    jax.tree.map(np.testing.assert_array_equal, last_state(config, workdir), last_state(config, other))
