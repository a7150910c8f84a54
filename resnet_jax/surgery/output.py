"""The run directory of a net that surgery made, from which training can continue."""

import pathlib
import shutil
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.identity import FILE, Identity, of_config
from resnet_jax.rundir import FORMAT_VERSION, MADE_BY_SURGERY, write_config, write_normalisation
from resnet_jax.safe_files import write_json
from resnet_jax.surgery.editable import EditableNet
from resnet_jax.training import parallel
from resnet_jax.training.checkpoints import Checkpoints
from resnet_jax.training.environment import environment, versions
from resnet_jax.training.program import build_net, initial_state


def require_new_folder(out: pathlib.Path) -> None:
    """Raise a UserError if ``out`` exists: nothing is overwritten."""
    if out.exists():
        raise UserError(f"--out={out} exists already; give a new folder.")


def config_of(config: ConfigDict, net: EditableNet) -> ConfigDict:
    """Return the config of a run of ``net``, given the ``config`` of the original net's run."""
    new = config.copy_and_resolve_references()
    new.model.update(net.config)
    new.from_run = None  # The net is in the new run directory.
    return new


def write_run(
    out: pathlib.Path,
    config: ConfigDict,
    net: EditableNet,
    data: dict[str, Any],
    normalisation: tuple[np.ndarray, np.ndarray],
    surgery: dict[str, Any],
    command: list[str],
) -> None:
    """Write run directory ``out``: the net as a checkpoint of 0 steps, and a record of the operation.

    Args:
      out: new folder, removed again if writing fails.
      config: config of the new run.
      net: net of the new run.
      data: identity of the data set, from ``data.identify``.
      normalisation: mean and standard deviation of the original net.
      surgery: content of ``surgery.json``, without the version.
      command: words of the command line.

    Raises:
      UserError: ``out`` exists or cannot be written.
    """
    require_new_folder(out)
    image_shape = tuple(data["image_shape"])
    model = build_net(config, net.model.num_classes)
    state = initial_state(config, model, parallel.device_mesh(), image_shape, net.variables)
    parameters, multiply_adds = models.totals(models.describe(model, image_shape))
    identity = Identity(of_config(config), data, versions())
    summary = {
        "version": FORMAT_VERSION,
        "status": MADE_BY_SURGERY,
        "steps": 0,
        "seconds": 0.0,
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "skipped_images": None,
        "final": {},
        "best": {},
    }
    try:
        out.mkdir(parents=True)
        with Checkpoints(out / "checkpoints", run=identity.of_checkpoint) as checkpoints:
            checkpoints.save(0, state, {"seconds": 0.0, "recent": [], "due": [], "bad": None})
        write_json(out / "surgery.json", {"version": FORMAT_VERSION} | surgery)
        write_json(out / "environment.json", [environment()])
        write_json(out / FILE, identity._asdict())
        write_normalisation(out, *normalisation, identity.of_checkpoint)
        write_json(out / "summary.json", summary)
        # Last, because it makes the folder a run directory.
        write_config(out, config, command)
    except BaseException as error:
        shutil.rmtree(out, ignore_errors=True)
        if isinstance(error, OSError):
            raise UserError(f"--out={out} cannot be written ({error.strerror}); choose another folder.") from error
        raise
