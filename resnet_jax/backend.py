"""Settings of JAX for this project, made before its backend starts."""

import ctypes
import os
import pathlib
import sys

import jax
import jaxlib.version
from absl import logging

# jaxlib 0.10.2's YNNPACK fusions return a silently wrong sum in one reproduced case (jax issue 39103) and make
# convolutional nets up to 1.35 times slower; an empty list of fusion types turns them off.
_YNN_FLAG = "--xla_cpu_experimental_ynn_fusion_type="
# An XLA flag that a version does not know aborts the process, so the flag goes only to versions known to take it.
_YNN_VERSIONS = ("0.10.1", "0.10.2", "0.11.0", "0.11.1", "0.11.2", "0.12.0", "0.12.0.1")


def set_xla_flags() -> None:
    """Append the flags this project needs to ``XLA_FLAGS``, behind those the user has set."""
    flags = os.environ.get("XLA_FLAGS", "")
    if jaxlib.version.__version__ in _YNN_VERSIONS and _YNN_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_YNN_FLAG}".strip()


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
