"""What computes the convolutions of a run on CPUs, which is part of its identity: another form rounds differently."""

import pathlib

import jax.numpy as jnp
from ml_collections import ConfigDict

from resnet_jax import identity
from resnet_jax.models.layers import onednn

# Name in the versions of a run.
NAME = "convolutions"
# Pixels of an image from which oneDNN saves more time than compiling at every start costs, in runs of all lengths
# that the recipes have (docs/performance.md).
PIXELS = 16 * 16


def form_of_run(config: ConfigDict, workdir: pathlib.Path, image_shape: tuple[int, ...], platform: str) -> str:
    """Return "onednn" or "lax": the form with which the run in ``workdir`` began, or a new run begins."""
    if config.compile.convolutions is not None or not (workdir / "config.json").exists():
        return form_of_new_run(config, image_shape, platform)
    recorded = identity.read(workdir)
    form = recorded.versions.get(NAME, "lax") if recorded else "lax"
    return form if is_usable(config, platform) else "lax"


def form_of_new_run(config: ConfigDict, image_shape: tuple[int, ...], platform: str) -> str:
    """Return the form that the config names, by default the faster one; "lax" where oneDNN cannot be used."""
    height, width, _ = image_shape
    form = config.compile.convolutions or ("onednn" if height * width >= PIXELS else "lax")
    return form if form == "lax" or is_usable(config, platform) else "lax"


def is_usable(config: ConfigDict, platform: str) -> bool:
    """Return whether oneDNN can compute the convolutions of the run of ``config``."""
    return platform == "cpu" and onednn.computes(jnp.dtype(config.dtype)) and onednn.is_available()
