"""The lock of a run directory: one process at a time writes there."""

import contextlib
import fcntl
import os
import pathlib
import platform
from collections.abc import Iterator

from absl import logging

from resnet_jax.errors import UserError
from resnet_jax.rundir import IN_USE
from resnet_jax.safe_files import open_own
from resnet_jax.training.environment import utc_now


@contextlib.contextmanager
def lock(workdir: pathlib.Path) -> Iterator[None]:
    """Hold the lock of ``workdir``.

    The system releases the lock when the process ends, however it ends; the file stays and names the last holder. The
    folder is locked too where its file system can do that, because the file can be removed.

    Raises:
      UserError: another process holds it, or it is a link.
    """
    with open_own(workdir / "lock", "a+") as file, opened(workdir) as folder:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock_folder(folder)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"--workdir={workdir} {IN_USE} {file.read().strip() or 'another process'}; "
                "wait until it ends or give another --workdir."
            ) from None
        except OSError as error:  # Some network file systems have no locks.
            logging.warning("%s cannot be locked (%s); start no second process there", workdir, error.strerror)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()} since {utc_now()}\n")
        file.flush()
        yield


@contextlib.contextmanager
def opened(folder: pathlib.Path) -> Iterator[int]:
    """Open ``folder`` for reading and yield its file descriptor."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def lock_folder(descriptor: int) -> None:
    """Lock the folder of ``descriptor``; raise a BlockingIOError if another process holds that lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # NFS locks only files that are open for writing.
        pass
