"""Every page, figure and table of results/ is what its records give, and so is what README.md says of them."""

import importlib
import json
import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from experiments import gallery as command
from resnet_jax import models
from resnet_jax.analysis.diagnosed import read_diagnosed
from resnet_jax.analysis.runs import group_seeds, read_runs
from resnet_jax.report import gallery, why

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "results"
STUDIES = sorted(
    (file.parent.name for file in RESULTS.glob("*/found.json")), key=lambda name: (name != command.FRONT, name)
)
REPORTS = sorted(file.parent.name for file in RESULTS.glob("*/why.md"))
NUMBER = re.compile(r"(?<![\w./])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w/])")


def found(name):
    return json.loads((RESULTS / name / "found.json").read_text())


def assert_same_picture(made, kept):
    pictures = [np.asarray(Image.open(file).convert("RGB"), dtype=float) for file in (made, kept)]
    assert pictures[0].shape == pictures[1].shape, made.name
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.5, f"{made.name} is not what the records give"


def assert_same_files(made, kept):
    pictures = {file.name for file in kept.glob("*.png")}
    assert {file.name for file in made.glob("*.png")} == pictures
    for name in pictures:
        assert_same_picture(made / name, kept / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_page_and_figures_are_what_the_records_give(commands, tmp_path, name):
    words = shlex.split(found(name)["commands"][1])
    assert words[:4] == ["python", "-m", "experiments.publish", f"results/{name}"]
    made = tmp_path / "results" / name
    shutil.copytree(RESULTS / name, made, ignore=shutil.ignore_patterns("*.png", "README.md", "found.json"))
    done = commands("publish", made, f"--out={made}", *words[4:])
    assert done.returncode == 0, done.stderr
    for file in ("README.md", "found.json"):
        assert (made / file).read_text().replace(f"{tmp_path}/", "") == (RESULTS / name / file).read_text()
    assert_same_files(made, RESULTS / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", REPORTS)
def test_what_weights_look_like_inside_is_what_the_measurements_give(commands, tmp_path, name):
    made = tmp_path / "results" / name
    shutil.copytree(RESULTS / name, made, ignore=shutil.ignore_patterns("*.png", "why.md"))
    done = commands("why", made)
    assert done.returncode == 0, done.stderr
    assert (made / "why.md").read_text().replace(f"{tmp_path}/", "") == (RESULTS / name / "why.md").read_text()
    assert_same_files(made, RESULTS / name)


def test_every_published_study_has_a_page():
    assert sorted(file.parent.name for file in RESULTS.glob("*/records.tar.xz")) == sorted(STUDIES)


def test_the_gallery_is_what_the_studies_found():
    page = gallery.page({name: found(name) for name in STUDIES}, REPORTS, command.COMMAND)
    assert (RESULTS / "README.md").read_text() == page


def test_the_front_page_shows_what_the_records_give():
    readme = ROOT / "README.md"
    assert command.replaced(readme.read_text(), command.front(RESULTS), readme) == readme.read_text()


@pytest.mark.parametrize("name", [name for name in STUDIES if found(name)["answer"]])
def test_every_number_of_an_answer_is_one_of_its_records(name):
    """A number of an answer is one of the page, rounded, or the final error or number of steps of a run.

    The page may also be another study's, if the answer names it.
    """
    answer = found(name)["answer"]
    named = [name, *(other for other in STUDIES if f"`{other}`" in answer)]
    pages = [(RESULTS / each / "README.md").read_text().replace(answer, "") for each in named]
    there = set().union(*map(numbers, pages), *map(numbers_of_runs, named))
    unknown = [text for text in NUMBER.findall(answer) if not is_rounded(text, there)]
    assert not unknown, f"{name}/answer.md has {', '.join(unknown)}, which no record gives"


def numbers(text):
    return {float(number.replace(",", "")) for number in NUMBER.findall(text)}


def numbers_of_runs(name):
    """Yield steps and final errors of runs, in per cent, and running ones at the last step of unfinished runs."""
    runs, _ = read_runs([RESULTS / name])
    ends = {run.step // 100 * 100 for run in runs if not run.finished}
    for run in runs:
        yield run.config["steps"]
        if run.finished:
            yield from (100 * run.final(split) for split in ("train_clean", "test"))
        for record in run.metrics:
            if record["step"] in ends and record["split"] == "train":
                yield 100 * record["error"]
                yield record["step"]


def is_rounded(text, there):
    """Say whether ``text`` is 10 or less, as counts in prose are, or one of ``there`` rounded to its decimals."""
    number, decimals = float(text.replace(",", "")), len(text.partition(".")[2])
    if decimals == 0 and abs(number) <= 10:
        return True
    return any(abs(abs(number) - abs(value)) <= 0.5 * 10**-decimals + 1e-9 for value in there)


def test_a_number_that_no_record_gives_is_found():
    there = numbers("Training error 31.76 ± 0.4 %, 64,000 steps, p = 5.7e-05, residual-56")
    assert is_rounded("32", there)
    assert is_rounded("31.8", there)
    assert is_rounded("64,000", there)
    assert not is_rounded("33", there)
    assert not is_rounded("31.7", there)


@pytest.mark.parametrize(("column", "name"), [(1, "why_digits"), (2, "why_cifar_weights")])
def test_the_table_of_instruments_has_numbers_of_the_measurements(column, name):
    _, _, section = (ROOT / "docs" / "instruments.md").read_text().partition("## What they show")
    cells = [line.split("|")[1 + column] for line in section.splitlines() if line.startswith("| ")][2:]
    runs = read_runs([RESULTS / name])[0] if name in STUDIES else []
    nets = group_seeds(runs)
    page = why.page(read_diagnosed([RESULTS / name], nets)[0], nets)
    lines = [line for panel in page.panels for plot in panel.plots for line in plot.lines]
    there = {float(value) for line in lines for value in (*line.x, *np.median(line.values, 0))}
    there |= {number for panel in page.panels for number in numbers(panel.says)} | {run.config["steps"] for run in runs}
    unknown = [number for cell in cells for number in NUMBER.findall(cell) if not is_rounded(number, there)]
    assert not unknown


def test_the_table_of_weights_has_the_errors_of_the_evaluation():
    _, _, section = (ROOT / "docs" / "weights.md").read_text().partition("Weights that others trained show")
    section, _, _ = section.partition("## Importing")
    here = [
        float(line.split("|")[4].split("%")[0])
        for line in section.splitlines()
        if line.startswith(("| residual", "| both"))
    ]
    nets = json.loads((RESULTS / "why_cifar_weights" / "evaluation.json").read_text())["nets"]
    assert here == [round(100 * net["top1_error"], 2) for net in nets]


def test_the_table_of_nets_has_the_parameters_of_the_nets():
    text = (ROOT / "docs" / "nets.md").read_text()
    configs = dict(re.findall(r"^\| [^|]* \| `(cifar_\w+)\{([\d,]+)\}` \| .*$", text, re.MULTILINE))
    assert len(configs) > 3
    for row in re.findall(r"^\| [^|]* \| `cifar_\w+\{[\d,]+\}` \|.*$", text, re.MULTILINE):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        stem, depths = re.match(r"`(cifar_\w+)\{([\d,]+)\}`", cells[1]).groups()
        for depth, count in zip(depths.split(","), cells[3].split("; "), strict=True):
            config = importlib.import_module(f"configs.{stem}{depth}").get_config()
            parts = models.describe(models.build(config.model, 10), (32, 32, 3))
            assert f"{models.totals(parts)[0]:,}" == count
