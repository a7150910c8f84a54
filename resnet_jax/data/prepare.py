"""Downloading and preparing a TFDS set, in a process of its own because only this needs TensorFlow.

TensorFlow in a training process would take memory and, where it can, the accelerator.
"""

import os
import pathlib
import socket
import subprocess
import sys
import urllib.request

from absl import logging

from resnet_jax.errors import UserError

# TFDS tries an unreachable host for 204 silent seconds, so whether there is a network is asked first.
DOWNLOAD_HOSTS = {"cifar10": "www.cs.toronto.edu", "cifar100": "www.cs.toronto.edu"}
ANY_HOST = "storage.googleapis.com"
TWO_WAYS = (
    "give the folder of a set that TFDS has prepared as config.data.data_dir (or TFDS_DATA_DIR), "
    "or train on the embedded digits with --config=configs/digits_resnet20.py"
)


def prepare(name: str, root: pathlib.Path) -> None:
    """Download TFDS set ``name`` and prepare it under ``root`` as array_record files.

    Raises:
      UserError: there is no network, or the preparation failed.
    """
    if not reachable(DOWNLOAD_HOSTS.get(name.partition(":")[0], ANY_HOST)):
        raise UserError(
            f"data set {name!r} is not prepared under {root} and without a network it cannot be downloaded: {TWO_WAYS}."
        )
    logging.info("downloading and preparing %s under %s with TFDS, once", name, root)
    command = [sys.executable, "-m", "resnet_jax.data.prepare", name, str(root)]
    if subprocess.run(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, check=False).returncode:
        raise UserError(
            f"data set {name!r} could not be prepared under {root}, for the reason TFDS gives above: {TWO_WAYS}."
        )


def reachable(host: str) -> bool:
    """Return whether ``host`` answers within three seconds; behind a proxy it is taken to."""
    if urllib.request.getproxies().get("https"):
        return True
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError:
        return False
    return True


def download_and_prepare(name: str, root: str) -> None:
    """Let TFDS download and prepare set ``name`` under ``root``, with its own progress bars."""
    import tensorflow_datasets as tfds

    tfds.builder(name, data_dir=root, file_format="array_record").download_and_prepare()


if __name__ == "__main__":
    download_and_prepare(*sys.argv[1:])
