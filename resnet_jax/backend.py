"""Settings of JAX and of the C library that must be made before JAX starts its backend."""

import ctypes
import os
import pathlib
import sys

import jax
import jaxlib.version
from absl import logging

DETERMINISTIC_FLAG = "--xla_gpu_deterministic_ops=true"

# jaxlib 0.10.2's YNNPACK fusions return a silently wrong sum in one reproduced case (jax issue 39103) and make
# convolutional nets up to 1.35 times slower; an empty list of fusion types turns them off.
_YNN_FLAG = "--xla_cpu_experimental_ynn_fusion_type="
# An XLA flag that a version does not know aborts the process, so the flag goes only to versions known to take it.
_YNN_VERSIONS = ("0.10.1", "0.10.2", "0.11.0", "0.11.1", "0.11.2", "0.12.0", "0.12.0.1")


def set_up(deterministic: bool = False) -> None:
    """Make all settings of this module; to be called before JAX computes anything.

    Args:
      deterministic: as of ``set_xla_flags``.
    """
    set_xla_flags(deterministic)
    keep_compiled_programs()
    keep_freed_memory()


def set_xla_flags(deterministic: bool = False) -> None:
    """Append the flags this project needs to those the user has set in ``XLA_FLAGS``.

    Args:
      deterministic: whether GPUs use only kernels whose results are the same bits each time.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if jaxlib.version.__version__ in _YNN_VERSIONS and _YNN_FLAG not in flags:
        flags = f"{flags} {_YNN_FLAG}".strip()
    if deterministic and DETERMINISTIC_FLAG not in flags:
        flags = f"{flags} {DETERMINISTIC_FLAG}".strip()
    os.environ["XLA_FLAGS"] = flags


def keep_compiled_programs() -> None:
    """Let JAX keep compiled programs in this project's cache folder, unless ``JAX_COMPILATION_CACHE_DIR`` is set.

    The second start of a config then takes seconds, and the runs of a sweep that differ only in the seed compile once.
    The folder is private to the user, because whoever can write there can run code as the user.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        folder = cache_folder() / "compiled"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        logging.warning("compiled programs are not cached: %s", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))


def keep_freed_memory() -> None:
    """Let the C library keep up to 2 GiB of freed memory, unless the user has set a ``MALLOC_...`` variable.

    XLA:CPU allocates the arrays of a step again at every step. If their memory went back to the system in between, each
    page would cost a page fault: a sixth of a step of residual-56 on 8x8 images.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # Only the GNU C library has it.
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # As defined in malloc.h.
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**31 - 1)


def cache_folder() -> pathlib.Path:
    """Return the folder of this project's caches, ``$XDG_CACHE_HOME/resnet_jax`` or ``~/.cache/resnet_jax``.

    Raises:
      OSError: the user has no home folder, as in a container without an entry for the user.
    """
    try:
        return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "resnet_jax"
    except RuntimeError as error:
        raise FileNotFoundError("this user has no home folder; set XDG_CACHE_HOME to a folder for caches") from error
