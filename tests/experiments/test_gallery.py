"""The command that writes the gallery, and the table of what was reproduced, on made-up records."""

import json
import pathlib

import pytest

from experiments import gallery
from resnet_jax.errors import UserError
from resnet_jax.report import reproduced
from tests.analysis.synthetic import write_run

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


def test_degradation_is_in_points_with_its_interval(tmp_path):
    for seed in range(3):
        write_run(tmp_path / f"20-{seed}", 20, False, 0.1 + 0.01 * seed, seed)
        write_run(tmp_path / f"56-{seed}", 56, False, 0.4 + 0.01 * seed, seed)
    text = reproduced.degradation(tmp_path, "plain")
    assert text.startswith(
        "+30.00 points: 40.0, 41.0, 42.0 % against 10.0, 11.0, 12.0 % (95 % interval 27.73 to 32.27, 3"
    )


def test_the_running_gap_is_the_mean_over_the_last_records_that_both_nets_have(tmp_path):
    write_run(tmp_path / "20", 20, False, 0.1, records=30)
    write_run(tmp_path / "56", 56, False, 0.4, records=30, status=None)
    # At record k of 30 errors have fallen from 0.9 by k / 30 of the way; plain-56 has 16 records.
    share = sum(range(7, 17)) / 10 / 30
    assert reproduced.running_gap(tmp_path, 20, 56) == (f"{30 * share:+.1f} points before step 160 of 300 (1 seed)")


def test_final_errors_are_those_of_finished_nets_that_are_published(tmp_path):
    write_run(tmp_path / "published", 20, True, 0.08, data__name="cifar10")
    write_run(tmp_path / "unpublished", 20, False, 0.08, data__name="cifar10")
    write_run(tmp_path / "unfinished", 56, True, 0.08, status=None, data__name="cifar10")
    (row,) = reproduced.final_errors(tmp_path)
    assert row.what == "test error of residual-20 after 300 steps, CIFAR-10"
    assert row.published == "8.75 % (He et al. 2015, table 6)"
    assert row.here == "9.00 % (1 seed)"


def test_published_weights_are_beside_what_was_evaluated(tmp_path):
    nets = [{"net": "residual-20", "top1_error": 0.0827}, {"net": "2 nets", "top1_error": 0.05}]
    file = tmp_path / "weights" / "evaluation.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"nets": nets}))
    (row,) = reproduced.evaluated(file, (8.27,))
    assert (row.here, row.record) == ("8.27 %", "weights/evaluation.json")
    assert row.published.startswith("8.27 %")
    table = reproduced.reproduced_table([row], "results")
    assert "[8.27 %](results/weights/evaluation.json)" in table
