"""Compiled programs, kept between sessions of tests in JAX's form: one file for each program, named by its content."""

import os
import shutil

LARGEST = 2**30  # Bytes; beyond, a session starts from nothing, for old programs pile up.


def copy(kept, folder):
    """Fill the new ``folder`` with the programs of ``kept``, as links: JAX never changes a file that is there."""
    folder.mkdir()
    files = list(kept.glob("*-cache"))
    if sum(file.stat().st_size for file in files) > LARGEST:
        shutil.rmtree(kept)
        return
    for file in files:
        link(file, folder / file.name)


def keep(folder, kept):
    """Put the new programs of ``folder`` in ``kept``, except those that a killed process wrote in part."""
    from jax._src import compilation_cache

    kept.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*-cache"):
        if not (kept / file.name).exists():
            try:
                compilation_cache.decompress_executable(file.read_bytes())
            except Exception:  # Of whichever compression library is installed.
                continue
            link(file, kept / file.name)


def link(file, name):
    """Let ``file`` have ``name`` too; copy it where a link cannot be."""
    try:
        os.link(file, name)
    except FileExistsError:  # Another session was faster.
        return
    except OSError:
        partial = name.with_name(f"{name.name}.{os.getpid()}.partial")
        shutil.copy2(file, partial)
        partial.replace(name)
