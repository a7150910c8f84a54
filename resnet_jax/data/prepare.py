"""Download and prepare a TFDS data set, in a separate process because only this needs TensorFlow.

In a training process TensorFlow would take memory and perhaps the accelerator.
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

# TFDS tries to reach a host for 204 seconds without a message, so the network is checked first.
DOWNLOAD_HOSTS = {"cifar10": "www.cs.toronto.edu", "cifar100": "www.cs.toronto.edu"}
ANY_HOST = "storage.googleapis.com"
TWO_WAYS = (
    "set config.data.data_dir (or TFDS_DATA_DIR) to a folder with a data set that TFDS has prepared, "
    "or train on the embedded digits with --config=configs/digits_resnet20.py"
)
# The archives that imagenet2012 is prepared from, and their sizes in bytes at image-net.org.
ARCHIVES = {"ILSVRC2012_img_train.tar": 147_897_477_120, "ILSVRC2012_img_val.tar": 6_744_924_160}
# TFDS would make a test split without labels from this one.
TEST_ARCHIVE = "ILSVRC2012_img_test.tar"
SECONDS_BETWEEN_LINES = 60


def prepare(name: str, root: pathlib.Path, manual_dir: pathlib.Path | None = None) -> None:
    """Download TFDS data set ``name`` and prepare it under ``root`` as array_record files.

    Args:
      name: a TFDS name, optionally with configuration and version.
      root: the folder of TFDS data sets.
      manual_dir: folder of archives downloaded by hand; None for TFDS's own default, downloads/manual under ``root``.

    Raises:
      UserError: archives, network, TensorFlow or disk space are missing, or the preparation failed.
    """
    base = name.partition(":")[0]
    if base == "imagenet2012":
        check_archives(manual_dir or root / "downloads" / "manual", root)
    elif manual_dir is None and not reachable(DOWNLOAD_HOSTS.get(base, ANY_HOST)):
        raise UserError(
            f"data set {name!r} is not under {root} and cannot be downloaded without a network; {TWO_WAYS}."
        )
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"preparing data set {name!r} needs TensorFlow, which {sys.executable} does not have; install it there "
            f"(pip install tensorflow), or {TWO_WAYS}."
        )
    for left in sorted((root / base).glob("incomplete.*")):
        logging.warning("%s is left over from a preparation that was killed; remove it unless one is running.", left)
    logging.info("preparing %s under %s with TFDS (only once)", name, root)
    reason = run_preparation(name, root, manual_dir)
    if reason:
        raise UserError(f"data set {name!r} could not be prepared under {root} ({reason}); {TWO_WAYS}.")


def check_archives(folder: pathlib.Path, root: pathlib.Path) -> None:
    """Raise a UserError unless ImageNet's archives are in ``folder`` and their content fits under ``root``."""
    try:
        folder = folder.expanduser()
        missing = [name for name in ARCHIVES if not (folder / name).is_file()]
        if missing:
            raise UserError(
                f"data set 'imagenet2012' is not under {root}, and {folder} does not hold {' and '.join(missing)}; "
                "download them as docs/imagenet.md says and put them there, or run python -m experiments.prepare "
                "--manual_dir=FOLDER."
            )
        if (folder / TEST_ARCHIVE).exists():
            raise UserError(
                f"{folder / TEST_ARCHIVE} has no labels, but TFDS would make the test split from it; move it elsewhere."
            )
        sizes = {name: check_end(folder / name) for name in ARCHIVES}
    except (OSError, RuntimeError) as error:  # RuntimeError: "~user" of an unknown user.
        raise UserError(f"{folder} cannot be read ({error}); set --manual_dir to another folder.") from error
    for name, size in sizes.items():
        if size != ARCHIVES[name]:
            logging.warning(
                "%s has %s bytes, but the one at image-net.org has %s.",
                folder / name,
                f"{size:,}",
                f"{ARCHIVES[name]:,}",
            )
    # Images are copied unchanged, and TFDS removes its intermediate files as it reads them.
    needed, there = sum(sizes.values()), next(path for path in (root, *root.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise UserError(
            f"preparing 'imagenet2012' needs {decimal(needed)} under {root}, but only {decimal(free)} are free; "
            "free disk space or set config.data.data_dir to another folder."
        )


def check_end(archive: pathlib.Path) -> int:
    """Return the size of ``archive`` in bytes; raise a UserError if it is truncated, which TFDS notices late."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1024))
        if file.read() != bytes(1024):
            raise UserError(
                f"{archive} is truncated: its {size:,} bytes do not end like a tar archive; download the rest."
            )
    return size


def reachable(host: str) -> bool:
    """Return whether ``host`` answers within three seconds; with a proxy it is assumed to."""
    if urllib.request.getproxies().get("https"):
        return True
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError:
        return False
    return True


def run_preparation(name: str, root: pathlib.Path, manual_dir: pathlib.Path | None) -> str:
    """Download and prepare data set ``name`` in a separate process; return the reason if it failed, else "".

    When this process is interrupted or ends, so does the other, which then removes its unfinished files.
    """
    program = [sys.executable, "-c", "from resnet_jax.data import prepare; prepare.main()"]
    words = [name, str(root), *([str(manual_dir)] if manual_dir else [])]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    # In its own process group it does not get the terminal's Ctrl-C, but sees its standard input end.
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
                    free = decimal(shutil.disk_usage(root).free) if root.exists() else "an unknown amount"
                    logging.info("preparing %s: %.0f minutes so far, %s free on the disk", name, minutes, free)
        except BaseException:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait()
            raise
        reason = process.stdout.read().strip()  # type: ignore[union-attr]
    if process.returncode < 0:
        return f"its process was killed by signal {-process.returncode}, probably because memory ran out"
    return reason or ("no reason was given" if process.returncode else "")


def wait(process: subprocess.Popen[str]) -> int | None:
    """Return the exit status of ``process``, or None if it still runs after a minute."""
    try:
        return process.wait(SECONDS_BETWEEN_LINES)
    except subprocess.TimeoutExpired:
        return None


def main() -> None:
    """Entry point of the process that ``run_preparation`` starts: print the reason of a failure to standard output."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Shells let background programs ignore it.
    threading.Thread(target=interrupt_at_end_of_input, daemon=True).start()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            download_and_prepare(*sys.argv[1:])
    except KeyboardInterrupt:
        os._exit(130)  # At once, because threads may still be downloading.
    except Exception as error:  # TFDS, TensorFlow and builders raise anything.
        print(" ".join(f"{type(error).__name__}: {error}".split())[:500])
        sys.exit(1)


def interrupt_at_end_of_input() -> None:
    """Interrupt the main thread when the parent process closes standard input or ends."""
    while os.read(0, 1):
        pass
    _thread.interrupt_main()


def download_and_prepare(name: str, root: str, manual_dir: str | None = None) -> None:
    """Let TFDS download and prepare data set ``name`` under ``root``, with its own progress bars on a terminal."""
    import tensorflow_datasets as tfds

    logging.set_verbosity(logging.ERROR)  # TFDS warns about what is expected, such as ImageNet's missing test split.
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    # Not tfds.builder, which would open what lies under ``root`` for some names, unchecked.
    dataset, settings = tfds.core.naming.parse_builder_name_kwargs(name)
    builder = tfds.builder_cls(dataset.name)(**settings, data_dir=root, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
