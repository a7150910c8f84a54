"""Reading and writing files of run directories: nothing is read or written through links that lead out of them.

Files are written whole or not at all. JSON is read only if it is as deep and as finite as this project writes it, and
has the shape that is expected (``resnet_jax.schema``).
"""

import contextlib
import errno
import functools
import json
import math
import os
import pathlib
import re
import stat
from collections.abc import Iterator
from typing import IO, Any

from resnet_jax import archive, schema
from resnet_jax.errors import UserError

# Lists and dictionaries within one another in the deepest record.
DEEPEST = 50
# Folders above a file in which an archive may hold it: STUDY/RUN/diagnosis/NAME.jsonl.
ARCHIVE_LEVELS = 3


def within(path: pathlib.Path, folder: pathlib.Path | None = None) -> pathlib.Path:
    """Return ``path``, once it is sure that it lies in ``folder`` even if it is a link, or something on the way is.

    Folders that the user names may be links; what others have put into them may not lead anywhere else.

    Args:
      path: of what is read, or of a folder that is written to.
      folder: by default the one that ``path`` names.

    Raises:
      UserError: it lies elsewhere.
    """
    folder = path.parent if folder is None else folder
    try:
        real = path.resolve()
        if real.is_relative_to(folder.resolve()) and not real.is_symlink():  # From Python 3.13 up a circle resolves.
            return path
    except (OSError, RuntimeError):  # Links in a circle, up to Python 3.12.
        pass
    raise UserError(f"{path} is a link that leaves {folder}; replace it by a copy of its target, or remove it.")


def open_own(path: pathlib.Path, mode: str) -> IO[Any]:
    """Return ``path``, opened for writing in ``mode``; unlike ``open`` it never writes through a link.

    Raises:
      UserError: ``path`` is a link, has another name too, or is not a regular file.
    """

    def opener(name: str, flags: int) -> int:
        descriptor = os.open(name, flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            os.close(descriptor)
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
        return descriptor

    try:
        encoding, errors = (None, None) if "b" in mode else ("utf-8", "backslashreplace")
        return open(path, mode, encoding=encoding, errors=errors, opener=opener)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):  # ENXIO: a pipe that nobody reads.
            raise
        raise UserError(f"{path} is a link or no regular file, to which nothing is written; remove it.") from error


def read_bytes(path: pathlib.Path) -> bytes | None:
    """Return the content of the file ``path``, also in an archive; None if there is no such file.

    Raises:
      UserError: it is something else than a file, a link that leaves its folder, or cannot be read.
    """
    content = _file(path)
    if content is None:
        for folder in path.parents[:ARCHIVE_LEVELS]:
            if files := archived(folder):
                return files.get(path.relative_to(folder).as_posix())
    return content


def archived(folder: pathlib.Path) -> dict[str, bytes]:
    """Return the files in the archive of ``folder`` by relative path; none if there is no archive.

    Raises:
      UserError: the archive is damaged.
    """
    path = folder / archive.FILE
    try:
        status = path.stat()
    except OSError:
        return {}
    return _unpacked(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=32)
def _unpacked(path: pathlib.Path, changed: int, size: int) -> dict[str, bytes]:
    """Return the files in the archive ``path`` of ``size`` bytes, which was ``changed`` at that time in nanoseconds."""
    try:
        return archive.unpacked(_file(path) or b"")
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}; restore it or give another folder.") from error


def files_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield the files in and below ``folder``, also those in archives; ``folder`` may be in one itself."""
    # Unlike rglob, os.walk ignores folders that vanish meanwhile, as while a checkpoint is saved.
    for top, _, names in os.walk(folder):
        for name in (*names, *archived(pathlib.Path(top))):
            yield pathlib.Path(top, name)
    if not folder.is_dir():
        for above in folder.parents[: ARCHIVE_LEVELS - 1]:
            for name in archived(above):
                if (above / name).is_relative_to(folder):
                    yield above / name


def _file(path: pathlib.Path) -> bytes | None:
    """Return the content of the file ``path`` of the file system, None if there is no such file.

    Raises:
      UserError: it is something else than a file, a link that leaves its folder, or cannot be read.
    """
    try:
        # Without waiting, as opening a named pipe would.
        with os.fdopen(os.open(within(path), os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError(f"{path} is not a file; remove it or give another folder.")
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); correct that or give another folder.") from error


def read_text(path: pathlib.Path) -> str | None:
    """Return the text, in UTF-8, of the file ``path``, None if there is no such file.

    Raises:
      UserError: the file cannot be read or is something else.
    """
    content = read_bytes(path)
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8 ({error}); save it as UTF-8.") from error


def from_json(text: bytes) -> Any:
    """Return the content of ``text``, which is JSON in UTF-8.

    Raises:
      ValueError: it is not, or has non-finite numbers or half characters, or is nested deeper than any record.
    """
    try:
        content = json.loads(text.decode(), parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if text.count(b"[") + text.count(b"{") > DEEPEST and _depth(content) > DEEPEST:
        raise ValueError("it is nested too deeply")
    if b"\\u" in text:
        json.dumps(content, ensure_ascii=False).encode()  # Fails if one half of a pair of surrogates is missing.
    return content


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _depth(content: Any) -> int:
    """Return the depth of lists and dictionaries in ``content``."""
    depth, parts = 0, [content]
    while parts := [part for part in parts if isinstance(part, list | dict)]:
        depth += 1
        parts = [each for part in parts for each in (part.values() if isinstance(part, dict) else part)]
    return depth


def read_json(path: pathlib.Path, shape: Any = None) -> Any:
    """Return the content of the JSON file ``path``, None if there is no such file.

    Args:
      path: of the file.
      shape: of the content, as of ``schema.check``; None: any.

    Raises:
      UserError: the file cannot be read, is not JSON or does not have that shape.
    """
    text = read_bytes(path)
    if text is None:
        return None
    try:
        content = from_json(text)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); remove it or give another folder.") from error
    if content is None:
        raise UserError(f"{path} has no content, only null; remove it or give another folder.")
    if shape is not None:
        try:
            schema.check(content, shape)
        except ValueError as error:
            raise UserError(f"{path} is damaged: {error}; remove it or give another folder.") from error
    return content


def write_json(path: pathlib.Path, content: Any) -> None:
    """Write ``content`` to ``path`` whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Write ``text`` to ``path`` whole or not at all."""
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))  # File names may hold what is no UTF-8.


def write_bytes(path: pathlib.Path, content: bytes | bytearray) -> None:
    """Write ``content`` to ``path`` whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)  # Left by a killed process, or a link to something else.
    with partial.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # Else a power cut could leave an empty file under the final name.
    partial.replace(path)


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
    """Turn a failure to write under ``path``, such as a full disk, into a UserError."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
        else:  # Perhaps from TensorStore, which writes checkpoints.
            code = re.search(r"\bos_error_code='(\d+)'", str(error))
            if code is None:
                raise
            reason = os.strerror(int(code[1]))
        raise UserError(
            f"{path} cannot be written ({reason}); correct that and start the same command again, which resumes "
            "from the last checkpoint, or give another --workdir."
        ) from error


def read_lines(path: pathlib.Path, shape: Any, remedy: str) -> list[Any]:
    """Return the complete lines of the file ``path``, each JSON of ``shape``; none if there is no such file.

    Raises:
      UserError: the file cannot be read, or a complete line is damaged; the message ends with ``remedy``.
    """
    return parsed(path, read_bytes(path) or b"", shape, remedy)


def parsed(path: pathlib.Path, content: bytes, shape: Any, remedy: str, is_all: bool = True) -> list[Any]:
    """Return the complete lines of ``content``, all or the end of the file ``path``, each JSON of ``shape``.

    Raises:
      UserError: a line is damaged; the message ends with ``remedy``.
    """
    found = []
    for number, line in enumerate(
        content.split(b"\n")[:-1], 1
    ):  # The last is empty, or was being written when the process ended.
        try:
            found.append(from_json(line))
            schema.check(found[-1], shape)
        except ValueError as error:
            where = f"line {number}" if is_all else "one of its last lines"
            raise UserError(f"{path} is damaged in {where}: {error}; {remedy}.") from error
    return found
