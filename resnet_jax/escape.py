"""Text from outside, such as names in the records of others, made harmless for the place where it is shown.

Terminals are ``resnet_jax.terminal``'s, figures ``resnet_jax.report.pictures``', HTML pages escape by ``html``.
"""

import re


class Markdown(str):
    """Text that is Markdown already."""


def printable(text: str) -> str:
    """Return ``text`` with control characters and all else that cannot be printed as escapes, as in ``repr``."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def printable_lines(text: str) -> str:
    """Return ``text`` like ``printable``, but with its line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def markdown(text: str) -> Markdown:
    """Return ``text`` as one line of Markdown that shows it, in sentences as in cells of tables."""
    if isinstance(text, Markdown):
        return text
    line = printable(" ".join(text.split()))
    return Markdown(re.sub(r"([\\`\[\]|~])", r"\\\1", line).replace("<", "&lt;"))


def prose(text: str) -> Markdown:
    """Return ``text``, written in Markdown by whoever asks or answers a question, without what could do harm.

    Paragraphs, lists, emphasis and code between backticks stay; HTML, pictures, links and blocks of code become text.
    """
    for pattern, replacement in (
        ("<", "&lt;"),
        (r"!\[", r"!\\["),
        (r"\]([(\[:])", r"]\\\1"),
        (r"(`{3,}|~{3,})", r"\\\1"),
    ):
        text = re.sub(pattern, replacement, text)
    return Markdown(printable_lines(text))


def fenced(code: str, language: str = "sh") -> Markdown:
    """Return ``code`` as a block of Markdown, which nothing in it can close."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
    return Markdown(f"{fence}{language}\n{printable_lines(code)}\n{fence}")
