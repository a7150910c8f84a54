"""The command that writes the gallery."""

import pathlib

import pytest

from experiments import gallery
from resnet_jax.errors import UserError

README = pathlib.Path("README.md")


def test_a_section_replaces_what_is_between_the_marks_and_nothing_else():
    text = f"before\n{gallery.BEGIN}\nold\n{gallery.END}\nafter\n"
    assert gallery.replaced(text, "new", README) == f"before\n{gallery.BEGIN}\n\nnew\n\n{gallery.END}\nafter\n"


@pytest.mark.parametrize("text", ["", gallery.BEGIN, gallery.END, f"{gallery.END}\n{gallery.BEGIN}"])
def test_a_page_without_the_marks_is_refused(text):
    with pytest.raises(UserError, match=r"README.md has no section between .* add these two lines"):
        gallery.replaced(text, "new", README)


def test_a_study_that_is_not_published_is_refused_with_the_command_that_does(tmp_path):
    with pytest.raises(UserError, match=r"has no found.json; publish it: python -m experiments.publish"):
        gallery.found(tmp_path)


def test_the_command_takes_no_arguments(commands):
    done = commands("gallery", "results")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
