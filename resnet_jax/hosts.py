"""The processes of one run, one on each host: how they start together, fail together and vote.

``join_processes``, ``together``, ``gather`` and ``any_process`` are collective: every process must call them, in the
same order.
"""

import contextlib
import ctypes
import functools
import importlib.util
import ipaddress
import multiprocessing.util
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import NoReturn

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxlib import _jax

from resnet_jax.errors import UserError

# How long the start of this run waits for the other processes.
JOIN_SECONDS = 300
# A process that gives no sign of life for this long counts as dead, and the others exit.
HEARTBEAT_SECONDS = 60
# Ports on which process 0 of a Slurm step may listen: the highest, above those that systems give away.
SLURM_PORTS = range(61440, 65536)


def join_processes(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Join the other processes of this run, if there are any: the same program, started on every host.

    Tasks of a Slurm step and hosts of a TPU pod find each other; elsewhere all three arguments are needed.

    Args:
      coordinator: ``address:port`` on which process 0 listens.
      num_processes: number of processes.
      process_id: number of this process, from 0.

    Raises:
      UserError: an argument is missing or wrong, or the other processes do not come.
    """
    given = (coordinator, num_processes, process_id)
    if all(value is None for value in given):
        # Tasks of the step, not of the job: the shell of an interactive job is a step of one task in a job of any.
        slurm = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
        tpu = importlib.util.find_spec("libtpu") is not None and os.environ.get("JAX_PLATFORMS", "tpu") == "tpu"
        if not (slurm or tpu):
            return
        if slurm:
            os.environ.setdefault("JAX_COORDINATOR_PORT", str(slurm_port()))
    elif coordinator is None or num_processes is None or process_id is None:
        raise UserError("--coordinator, --num_processes and --process_id go together; give all three or none.")
    elif not (0 <= process_id < num_processes and coordinator.rpartition(":")[2].isdecimal()):
        raise UserError(
            f"--coordinator={coordinator} --num_processes={num_processes} --process_id={process_id} is not valid; "
            "give an address with a port, for example 10.0.0.1:1234, and a process_id from 0 to num_processes - 1."
        )
    # The training loop passes a signal on to the other processes, because it knows where it can stop.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            coordinator_bind_address=bind_address(coordinator) if coordinator and process_id == 0 else None,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except ValueError:
        if coordinator is not None:
            raise
        logging.info("no other processes found")
        return
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the processes of this run could not connect ({reason}); "
            "check --coordinator, if it is given, and start the same command once on every host."
        ) from error
    if has_all_gpus():
        jax.config.update("jax_cuda_visible_devices", "all")
        jax.config.update("jax_rocm_visible_devices", "all")
    if coordinator is not None:
        # By itself JAX sends the other processes to the address of this host's name, on Debian 127.0.1.1.
        address = _address_towards(coordinator)
        _jax.make_gloo_tcp_collectives = functools.partial(_jax.make_gloo_tcp_collectives, hostname=address)
    # A collective over a broken connection fails at once. Where nothing breaks, as when a cable is pulled, JAX aborts
    # after the heartbeats, from a thread of its own while Python waits for the devices; only a C handler sees that.
    sys.excepthook = _exit_after_exception
    ctypes.CDLL(None).signal(signal.SIGABRT, _exit_after_abort)


def bind_address(coordinator: str) -> str | None:
    """Return the address at which process 0 listens, so that only the network of ``coordinator`` reaches it.

    None leaves it to JAX: ``JAX_COORDINATOR_BIND_ADDRESS`` or, with a warning, every interface. That is needed where
    ``coordinator`` is the address of a gateway, and where it is a name that other hosts know by another address: on
    Debian a host's own name is 127.0.1.1.
    """
    if "JAX_COORDINATOR_BIND_ADDRESS" in os.environ:
        return None
    host, _, port = coordinator.rpartition(":")
    host = host.strip("[]")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, OverflowError, ValueError):  # JAX reports it.
        return None
    is_name = host != "localhost" and not _is_address(host)
    for family, kind, protocol, _, (address, *rest) in found:
        place = ipaddress.ip_address(address)
        if place.is_unspecified or (place.is_loopback and is_name):
            continue
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind((address, 0, *rest[1:]))  # It fails unless the address is one of this host.
            scoped = host if ":" in host else address  # Only as given it has the zone of a link-local address.
            return f"[{scoped}]:{port}" if family == socket.AF_INET6 else f"{address}:{port}"
    logging.warning(
        "--coordinator=%s is not an address of this host, so process 0 listens at port %s of every interface; "
        "let nobody else reach that port",
        coordinator,
        port,
    )
    return None


def _is_address(host: str) -> bool:
    """Return whether ``host`` is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _address_towards(coordinator: str) -> str:
    """Return the address of this host on the network where it reaches ``coordinator``, an ``address:port``."""
    host, _, port = coordinator.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port))) as probe:
        return str(probe.getsockname()[0])


def is_lost_process(error: BaseException) -> bool:
    """Return whether ``error`` says that another process is gone, as a collective over a broken connection does."""
    kinds = (jax.errors.JaxRuntimeError, ValueError)  # Which of them depends on where JAX waits for the collective.
    return isinstance(error, kinds) and "Gloo" in str(error)


def _exit_after_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Exit with a sentence if ``error`` is of a collective that has lost a process, else with the traceback."""
    with _leaving:
        if is_lost_process(error):
            sys.stderr.write(_LOST)
        else:
            sys.__excepthook__(kind, error, trace)
        exit_at_once(1)


def slurm_port() -> int:
    """Return the port of this Slurm step; JAX's own choice is one for all steps of a job, which then join one another.

    A factor keeps the later steps of a job away from the first ones of the jobs after it.
    """
    number = int(os.environ["SLURM_JOB_ID"]) + 997 * int(os.environ["SLURM_STEP_ID"])
    return SLURM_PORTS[number % len(SLURM_PORTS)]


def has_all_gpus() -> bool:
    """Return whether no other task uses the GPUs that this Slurm task sees, which may be all of its host or one.

    JAX lets the first task of a host use its first GPU, the second task the second one, and so on. On a host with one
    task it would leave all other GPUs idle, and a task that Slurm shows only one GPU would look for another.
    """
    if "JAX_LOCAL_DEVICE_IDS" in os.environ:
        return False
    single_task = re.fullmatch(r"1(\(x\d+\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return single_task is not None or "," not in os.environ.get("CUDA_VISIBLE_DEVICES", ",")


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _exit_after_abort(_: int) -> None:
    _leaving.acquire(timeout=10)
    os.write(2, _LOST.encode())
    os._exit(1)


def exit_at_once(status: int) -> NoReturn:
    """Exit with ``status`` after a failure of only this process; the others, which JAX would wait for, then end too.

    Where there are no others this is ``sys.exit``.
    """
    if not jax.distributed.is_initialized():
        sys.exit(status)
    with _leaving:
        multiprocessing.util._exit_function()  # type: ignore[attr-defined]  # Else its semaphores stay.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


_LOST = (
    "error: another process of this run has died, cannot be reached or was started twice; start the same command once "
    "on every host.\n"
)
# Only one of the threads that notice a failure prints it.
_leaving = threading.RLock()


def is_first_process() -> bool:
    """Return whether this is process 0, the only one that writes the run directory and prints."""
    return jax.process_index() == 0


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Run the body in every process; a UserError in one is raised in all, so that none waits for the others for ever.

    Raises:
      UserError: the one of the body, or, where the body succeeded, that another process has failed.
    """
    error = None
    try:
        yield
    except UserError as raised:
        error = raised
    if jax.process_count() > 1:
        failed = np.flatnonzero(multihost_utils.process_allgather(np.array(error is not None)))
        if len(failed):
            jax.distributed.shutdown()  # While all are here; one that ends later would seem to have died.
        if error is None and len(failed):
            raise UserError(
                f"process {failed[0]} of this run has failed; correct what it reports and start all of them again."
            )
    if error is not None:
        raise error


def gather(text: str) -> list[str]:
    """Return the ``text`` of each process, in their order; every process must call this."""
    if jax.process_count() == 1:
        return [text]
    content = np.frombuffer(text.encode(), np.uint8)
    # Of 32 bits, which are so in every process, also where one computes with 64.
    lengths = multihost_utils.process_allgather(np.array(len(content), np.int32)).tolist()
    padded = np.zeros(max(lengths), np.uint8)
    padded[: len(content)] = content
    rows = multihost_utils.process_allgather(padded)
    return [row[:length].tobytes().decode() for row, length in zip(rows, lengths, strict=True)]


def any_process(flag: bool, mesh: Mesh) -> jax.Array | bool:
    """Return whether ``flag`` is true in any process; with several processes it is an array that devices compute.

    Read it late: reading waits until the devices of ``mesh`` have done all work they were given before.
    """
    if jax.process_count() == 1:
        return flag
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    flags = jax.make_array_from_callback((mesh.size,), sharding, lambda _: np.array([flag]))
    return _any(flags)


_any = jax.jit(jax.numpy.any)
