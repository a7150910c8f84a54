"""Downloading and preparing a TFDS set, in a process of its own because only this needs TensorFlow.

TensorFlow in a training process would take memory and, where it can, the accelerator.
"""

import _thread
import contextlib
import importlib.util
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

from absl import logging
from rich.filesize import decimal

from resnet_jax.errors import UserError

# TFDS tries an unreachable host for 204 silent seconds, so whether there is a network is asked first.
DOWNLOAD_HOSTS = {"cifar10": "www.cs.toronto.edu", "cifar100": "www.cs.toronto.edu"}
ANY_HOST = "storage.googleapis.com"
TWO_WAYS = (
    "give the folder of a set that TFDS has prepared as config.data.data_dir (or TFDS_DATA_DIR), "
    "or train on the embedded digits with --config=configs/digits_resnet20.py"
)
# The archives that imagenet2012 is prepared from, and their bytes at image-net.org.
ARCHIVES = {"ILSVRC2012_img_train.tar": 147_897_477_120, "ILSVRC2012_img_val.tar": 6_744_924_160}
# One that TFDS would make a test split of, without labels.
TEST_ARCHIVE = "ILSVRC2012_img_test.tar"
SECONDS_BETWEEN_LINES = 60


def data_root(data_dir: str | None) -> pathlib.Path:
    """Return the folder of TFDS's sets: ``data_dir``, or else ``TFDS_DATA_DIR``, or else ~/tensorflow_datasets.

    Raises:
      UserError: it is no folder, or cannot be read.
    """
    root = pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    try:
        root = root.expanduser()
        if root.exists() and not root.is_dir():
            raise UserError(f"{root} is a file; give as config.data.data_dir the folder that holds the data sets.")
    except (OSError, RuntimeError) as error:  # A RuntimeError is the home folder of nobody.
        raise UserError(f"{root} cannot be read ({error}); give another folder as config.data.data_dir.") from error
    return root


def prepare(name: str, root: pathlib.Path, manual_dir: pathlib.Path | None = None) -> None:
    """Download TFDS set ``name`` and prepare it under ``root`` as array_record files.

    Args:
      name: a TFDS name, with configuration and version where wanted.
      root: the folder of TFDS's sets.
      manual_dir: where archives lie that were downloaded by hand; None for TFDS's own default, downloads/manual under
        ``root``.

    Raises:
      UserError: there are no archives, no network, no TensorFlow or too little space, or the preparation failed.
    """
    base = name.partition(":")[0]
    if base == "imagenet2012":
        check_archives(manual_dir or root / "downloads" / "manual", root)
    elif manual_dir is None and not reachable(DOWNLOAD_HOSTS.get(base, ANY_HOST)):
        raise UserError(
            f"data set {name!r} is not prepared under {root} and without a network it cannot be downloaded: {TWO_WAYS}."
        )
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"preparing data set {name!r} takes TensorFlow, which {sys.executable} does not have: install it there "
            f"(pip install tensorflow), or {TWO_WAYS}."
        )
    for left in sorted((root / base).glob("incomplete.*")):
        logging.warning("%s is left of a preparation that was killed; remove it unless one is running.", left)
    logging.info("preparing %s under %s with TFDS, once", name, root)
    reason = prepare_apart(name, root, manual_dir)
    if reason:
        raise UserError(f"data set {name!r} could not be prepared under {root} ({reason}): {TWO_WAYS}.")


def check_archives(folder: pathlib.Path, root: pathlib.Path) -> None:
    """Raise a UserError unless ImageNet's archives are in ``folder`` and what they hold has room under ``root``."""
    try:
        folder = folder.expanduser()
        missing = [name for name in ARCHIVES if not (folder / name).is_file()]
        if missing:
            raise UserError(
                f"data set 'imagenet2012' is not prepared under {root}, and {folder} does not hold "
                f"{' and '.join(missing)}: docs/imagenet.md says where to get them; put them there, or give their "
                "folder as --manual_dir of python -m experiments.prepare."
            )
        if (folder / TEST_ARCHIVE).exists():
            raise UserError(
                f"{folder / TEST_ARCHIVE} has no labels, and TFDS would make the test split of it; move it elsewhere."
            )
        sizes = {name: check_end(folder / name) for name in ARCHIVES}
    except (OSError, RuntimeError) as error:  # A RuntimeError is the home folder of nobody.
        raise UserError(f"{folder} cannot be read ({error}); give another folder as --manual_dir.") from error
    for name, size in sizes.items():
        if size != ARCHIVES[name]:
            logging.warning(
                "%s has %s bytes, the one of image-net.org %s.", folder / name, f"{size:,}", f"{ARCHIVES[name]:,}"
            )
    # Images are copied as they are, and TFDS removes its intermediate files as it reads them.
    needed, there = sum(sizes.values()), next(path for path in (root, *root.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise UserError(
            f"preparing 'imagenet2012' takes {decimal(needed)} under {root}, where {decimal(free)} are free; "
            "free some or give another folder as config.data.data_dir."
        )


def check_end(archive: pathlib.Path) -> int:
    """Return the bytes of ``archive``; raise a UserError if it was cut off, which TFDS notices when it gets there."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1024))
        if file.read() != bytes(1024):
            raise UserError(
                f"{archive} has {size:,} bytes and not the end of a tar archive; it was cut off: download the rest."
            )
    return size


def reachable(host: str) -> bool:
    """Return whether ``host`` answers within three seconds; behind a proxy it is taken to."""
    if urllib.request.getproxies().get("https"):
        return True
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError:
        return False
    return True


def prepare_apart(name: str, root: pathlib.Path, manual_dir: pathlib.Path | None) -> str:
    """Let a process of its own download and prepare set ``name``; return why it failed, "" if it did not.

    When this process is interrupted or ends, so does the other, and removes what it has begun.
    """
    program = [sys.executable, "-c", "from resnet_jax.data import prepare; prepare.main()"]
    words = [name, str(root), *([str(manual_dir)] if manual_dir else [])]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    # In a group of its own it does not get the terminal's Ctrl-C, but sees its standard input end.
    with subprocess.Popen(
        program + words,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        start = time.monotonic()
        try:
            while wait(process) is None:
                if not sys.stderr.isatty():
                    minutes = (time.monotonic() - start) / 60
                    free = decimal(shutil.disk_usage(root).free) if root.exists() else "unknown space"
                    logging.info("preparing %s: %.0f minutes so far, %s free on the disk", name, minutes, free)
        except BaseException:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait()
            raise
        reason = process.stdout.read().strip()  # type: ignore[union-attr]
    if process.returncode < 0:
        return f"its process was ended by signal {-process.returncode}, as the system does when memory is short"
    return reason or ("no reason was given" if process.returncode else "")


def wait(process: subprocess.Popen[str]) -> int | None:
    """Return the exit status of ``process``, None if it still runs after a minute."""
    try:
        return process.wait(SECONDS_BETWEEN_LINES)
    except subprocess.TimeoutExpired:
        return None


def main() -> None:
    """Be the process that ``prepare_apart`` starts: write the reason of a failure to standard output."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # In the background a shell lets programs ignore it.
    threading.Thread(target=interrupt_at_end_of_input, daemon=True).start()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            download_and_prepare(*sys.argv[1:])
    except KeyboardInterrupt:
        os._exit(130)  # At once: threads may still be downloading.
    except Exception as error:  # TFDS, TensorFlow and each builder raise what they like.
        print(" ".join(f"{type(error).__name__}: {error}".split())[:500])
        sys.exit(1)


def interrupt_at_end_of_input() -> None:
    """Interrupt the main thread when the process at the other end of standard input closes it or is gone."""
    while os.read(0, 1):
        pass
    _thread.interrupt_main()


def download_and_prepare(name: str, root: str, manual_dir: str | None = None) -> None:
    """Let TFDS download and prepare set ``name`` under ``root``, with its own progress bars on a terminal."""
    import tensorflow_datasets as tfds

    logging.set_verbosity(logging.ERROR)  # TFDS warns of what is as it should be, as of ImageNet's missing test split.
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    builder = tfds.builder(name, data_dir=root, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
