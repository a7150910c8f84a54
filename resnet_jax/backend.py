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


def set_up() -> None:
    """Make all settings of this module; to be called before JAX computes anything."""
    set_xla_flags()
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
    """Let JAX keep compiled programs in ``JAX_COMPILATION_CACHE_DIR``, by default this project's cache folder.

    The second start of a config then takes seconds, and the runs of a sweep that differ only in the seed compile once.
    Whoever can write there can run code as the user, so a folder that is not private is not used.
    """
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if given is not None and (not given or "://" in given):
        return
    try:
        folder = make_private(pathlib.Path(given)) if given else cache_folder("compiled")
    except OSError as error:
        logging.warning("compiled programs are not cached: %s", error)
        jax.config.update("jax_compilation_cache_dir", None)
    else:
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


def cache_folder(name: str) -> pathlib.Path:
    """Return the folder ``name`` of this project's caches in ``$XDG_CACHE_HOME/resnet_jax`` or ``~/.cache/resnet_jax``.

    Raises:
      OSError: it cannot be created, or is not private to this user.
    """
    try:
        caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "resnet_jax"
    except RuntimeError as error:  # As in a container without an entry for the user.
        raise FileNotFoundError("this user has no home folder; set XDG_CACHE_HOME to a folder for caches") from error
    return make_private(make_private(caches) / name)


def make_private(folder: pathlib.Path) -> pathlib.Path:
    """Return ``folder``, created with its missing parents for this user only, whatever the umask.

    Raises:
      PermissionError: it is there, but belongs to another user, or others may write to it.
      OSError: it cannot be created.
    """
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)  # By itself pathlib gives parents the mode that the umask leaves.
    status = folder.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{folder} belongs to another user; remove it or choose another folder")
    if status.st_mode & 0o022:
        raise PermissionError(f"other users may write to {folder}; remove it or choose another folder")
    return folder
