"""What computes the convolutions of a run on CPUs, which is part of its identity: another form rounds differently."""

import pathlib

import jax.numpy as jnp
from ml_collections import ConfigDict

from resnet_jax import identity
from resnet_jax.models.layers import onednn

# Pixels of an image from which oneDNN saves more time than compiling at every start costs, in runs of all lengths
# that the recipes have (docs/performance.md).
PIXELS = 16 * 16


def form_of_run(config: ConfigDict, workdir: pathlib.Path, image_shape: tuple[int, ...], platform: str) -> str:
    """Return "onednn" or "lax": the form with which the run in ``workdir`` began, or a new run begins."""
    if config.compile.convolutions is not None or not (workdir / "config.json").exists():
        return form_of_new_run(config, image_shape, platform)
    recorded = identity.read(workdir)
    return usable(recorded.versions.get("convolutions", "lax") if recorded else "lax", config, platform)


def form_of_new_run(config: ConfigDict, image_shape: tuple[int, ...], platform: str) -> str:
    """Return the form that the config names, by default the faster one; "lax" where oneDNN cannot be used."""
    height, width, _ = image_shape
    faster = "onednn" if height * width >= PIXELS else "lax"
    return usable(config.compile.convolutions or faster, config, platform)


def usable(form: str, config: ConfigDict, platform: str) -> str:
    """Return ``form``, or "lax" if it is oneDNN and that cannot compute the run of ``config``."""
    is_usable = platform == "cpu" and onednn.computes(jnp.dtype(config.dtype))
    return "onednn" if form == "onednn" and is_usable and onednn.is_available() else "lax"
