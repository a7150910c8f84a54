"""Folders and files as users name them."""

import os
import re

from resnet_jax.errors import UserError


def local_path(text: str, name: str = "") -> str:
    """Return the path ``text``, with the home folder in place of a leading ``~`` or ``~user``.

    Args:
      text: the path; "./~" is a folder that is called so.
      name: of the flag or field that has this value, for messages; empty for an argument without a flag.

    Raises:
      UserError: it is a URL, or that user has no home folder.
    """
    given = f"{name}={text}" if name else text
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        raise UserError(
            f"{given} is a URL; give a path on this machine, such as the folder where that storage is mounted."
        )
    path = os.path.expanduser(text)  # noqa: PTH111 - pathlib would drop the "./" of "./~".
    if path.startswith("~"):
        raise UserError(f"{given}: {text.partition('/')[0]} has no home folder here; give the whole path.")
    return path
