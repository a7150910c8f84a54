"""What a run was made with: versions, devices, code and flags."""

import functools
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import time
from typing import Any

import jax

import resnet_jax
from resnet_jax.models.layers import onednn

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "pillow",
    "ml_collections",
    "tensorflow-datasets",
)
# Settings of JAX, by environment variables too, that change numbers.
SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
    "jax_numpy_dtype_promotion",
)


def environment() -> dict[str, Any]:
    """Return the entry of ``environment.json`` for a run that starts now; ``docs/reference.md`` lists its fields."""
    # Else this is a copy that is installed within the checkout of something else.
    is_checkout = git("ls-files", "--error-unmatch", pathlib.Path(__file__).name) is not None
    changed = changed_files() if is_checkout else []
    return {
        "time": utc_now(),
        "python": platform.python_version(),
        "packages": packages(),
        "code_sha256": code_digest(),
        "platform": platform.platform(),
        "device_kind": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "host_count": jax.process_count(),
        "git_revision": git("rev-parse", "HEAD") if is_checkout else None,
        "git_dirty": bool(changed),
        "git_changed": changed,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "convolutions": onednn.form.value,
    }


def versions() -> dict[str, str]:
    """Return the part of the environment that belongs to the identity of a run."""
    settings = {"xla_flags": os.environ.get("XLA_FLAGS", "")}
    settings |= {name.removeprefix("jax_"): str(getattr(jax.config, name)) for name in SETTINGS}
    settings["convolutions"] = onednn.form.value
    return {"python": platform.python_version(), "code": code_digest(), **packages(), **settings}


def packages() -> dict[str, str]:
    """Return the versions of this project and of the packages that compute its numbers."""
    return {"resnet_jax": resnet_jax.__version__} | {name: importlib.metadata.version(name) for name in PACKAGES}


@functools.cache  # A start calls it three times.
def code_digest() -> str:
    """Return the SHA-256 of this project's code, as it is, committed or not."""
    root = pathlib.Path(resnet_jax.__file__).parent
    sha = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        sha.update(f"{path.relative_to(root)} {path.stat().st_size} ".encode() + path.read_bytes())
    return sha.hexdigest()


def changed_files() -> list[str]:
    """Return the files of the checkout that differ from its revision, and those that it lacks; a new folder as one."""
    entries = (git("status", "--porcelain", "-z", "--no-renames") or "").split("\0")
    return sorted(entry[3:] for entry in entries if entry)  # Each begins with two letters and a space.


def utc_now() -> str:
    """Return the time, for example 2026-11-21T14:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def git(*arguments: str) -> str | None:
    """Return git's output in the folder of this code; None if git fails, as outside a checkout."""
    command = ["git", "-C", str(pathlib.Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.strip("\n")
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None
