"""One file with the records of many runs, in the form that ``tar -xf`` unpacks: ``records.tar.xz``.

A folder with such a file is read as if the files in it lay in the folder (``resnet_jax.safe_files``). The same records
give the same bytes: names are sorted, and times, owners and permissions are constants.
"""

import io
import lzma
import pathlib
import tarfile
from collections.abc import Mapping

FILE = "records.tar.xz"
# Bytes of an unpacked archive; a small file could hold more than the memory.
LARGEST = 2**28


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return the archive of ``files``, contents by relative path."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            tar.addfile(member, io.BytesIO(files[name]))
    return lzma.compress(stream.getvalue())


def unpacked(content: bytes) -> dict[str, bytes]:
    """Return the files in the archive ``content`` by relative path.

    Raises:
      ValueError: it is not an archive, it is too large, or it holds something other than files below one folder.
    """
    try:
        unpacker = lzma.LZMADecompressor()
        raw = unpacker.decompress(content, LARGEST)
        if not unpacker.eof:
            raise ValueError("it is cut off, or larger than any published study")
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
            members = {member.name: member for member in tar}
            for name, member in members.items():
                parts = pathlib.PurePosixPath(name).parts
                if not member.isreg() or ".." in parts or name != "/".join(parts) or not name.isprintable():
                    raise ValueError(f"it holds {name!r}, which is not a file below its folder")
            return {name: file.read() for name, member in members.items() if (file := tar.extractfile(member))}
    except (lzma.LZMAError, tarfile.TarError, EOFError) as error:
        raise ValueError(f"it is not a compressed archive: {error}") from error
