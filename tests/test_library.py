"""The page of functions that notebooks call names existing functions."""

import pathlib
import pkgutil
import re

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "library.md"


def test_what_the_page_names_exists():
    names = re.findall(r"^\| `([\w.]+)", PAGE.read_text(), re.MULTILINE)
    assert len(names) > 10
    for name in names:
        pkgutil.resolve_name(name)
