"""Settings of JAX for this project, made before its backend starts."""

import ctypes
import importlib.util
import os
import pathlib
import signal
import sys

import jax
import jaxlib.version
from absl import logging

from resnet_jax.errors import UserError

DETERMINISTIC_FLAG = "--xla_gpu_deterministic_ops=true"

# A process that shows no sign of life for so long is taken to be dead, and those left end.
HEARTBEAT_SECONDS = 60
# So long processes wait for the others to be started.
JOIN_SECONDS = 300

# jaxlib 0.10.2's YNNPACK fusions return a silently wrong sum in one reproduced case (jax issue 39103) and make
# convolutional nets up to 1.35 times slower; an empty list of fusion types turns them off.
_YNN_FLAG = "--xla_cpu_experimental_ynn_fusion_type="
# An XLA flag that a version does not know aborts the process, so the flag goes only to versions known to take it.
_YNN_VERSIONS = ("0.10.1", "0.10.2", "0.11.0", "0.11.1", "0.11.2", "0.12.0", "0.12.0.1")


def set_xla_flags(deterministic: bool = False) -> None:
    """Append the flags this project needs to ``XLA_FLAGS``, behind those the user has set.

    With ``deterministic`` GPUs use only kernels that give equal bits each time.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if jaxlib.version.__version__ in _YNN_VERSIONS and _YNN_FLAG not in flags:
        flags = f"{flags} {_YNN_FLAG}".strip()
    if deterministic and DETERMINISTIC_FLAG not in flags:
        flags = f"{flags} {DETERMINISTIC_FLAG}".strip()
    os.environ["XLA_FLAGS"] = flags


def join_processes(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Join the other processes of this run, if there are any: the same program, started on every host.

    Tasks of a Slurm step and hosts of a TPU pod find each other; elsewhere all three arguments say who they are.

    Args:
      coordinator: ``address:port`` on which process 0 listens.
      num_processes: how many there are.
      process_id: of this one, from 0.

    Raises:
      UserError: an argument is missing or wrong, or the others do not come.
    """
    given = (coordinator, num_processes, process_id)
    if all(value is None for value in given):
        slurm = "SLURM_STEP_NODELIST" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1
        tpu = importlib.util.find_spec("libtpu") is not None and os.environ.get("JAX_PLATFORMS", "tpu") == "tpu"
        if not (slurm or tpu):
            return
    elif coordinator is None or num_processes is None or process_id is None:
        raise UserError("--coordinator, --num_processes and --process_id go together; give all three or none.")
    elif not (0 <= process_id < num_processes and coordinator.rpartition(":")[2].isdecimal()):
        raise UserError(
            f"--coordinator={coordinator} --num_processes={num_processes} --process_id={process_id} names no process; "
            "give an address and port, as 10.0.0.1:1234, and an id from 0 to the number less one."
        )
    # A signal is told to the other processes by the training loop, which knows where it can stop.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
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
        raise UserError(f"the {num_processes} processes of this run did not come together: {reason}.") from error
    # In C, because JAX aborts from a thread of its own while Python waits for the devices.
    ctypes.CDLL(None).signal(signal.SIGABRT, _tell_of_lost_process)


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _tell_of_lost_process(_: int) -> None:
    """Say why, and exit with status 1, when JAX aborts this process because another one is gone."""
    message = "error: another process of this run is gone or failed; start the same command again on every host."
    os.write(2, f"{message}\n".encode())
    os._exit(1)


def keep_compiled_programs() -> None:
    """Let JAX keep compiled programs in this project's cache folder, unless ``JAX_COMPILATION_CACHE_DIR`` is set.

    The second start of a config then takes seconds, and the runs of a sweep that differ in the seed compile once. Who
    can write there can run code as the user, so nobody else can.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = cache_folder() / "compiled"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        logging.warning("Compiled programs cannot be kept in %s: %s", folder, error)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))


def keep_freed_memory() -> None:
    """Let the C library keep freed memory up to 2 GiB, unless a variable ``MALLOC_...`` says how it is to be managed.

    XLA:CPU asks for the arrays of a step anew at every step. Given back to the system in between, each of their pages
    costs an interruption: a sixth of a step of residual-56 on 8x8 images.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # GNU's; other C libraries lack it.
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # Of malloc.h.
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**31 - 1)


def cache_folder() -> pathlib.Path:
    """Return the folder of this project's caches, ``$XDG_CACHE_HOME/resnet_jax``, by default under ~/.cache."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "resnet_jax"
