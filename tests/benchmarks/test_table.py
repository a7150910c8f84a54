"""The tables of docs/performance.md are made from the records and the nets."""

import json
import re

import jax

from benchmarks import measure, table
from configs import recipes
from resnet_jax import models


def test_the_page_has_every_table_and_each_is_made_from_the_records():
    text, tables = table.PAGE.read_text(), table.tables()
    assert sorted(name for _, name, _ in table.MARKED.findall(text)) == sorted(tables)
    assert table.filled(text, tables) == text


def test_every_record_names_hardware_versions_and_date():
    assert measure.read("step_time")
    for path in measure.RECORDS.glob("*.json"):
        record = json.loads(path.read_text())
        assert record["hardware"]["processor"]
        assert record["versions"]["jax"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", record["date"])


def test_a_new_record_changes_the_table(monkeypatch, tmp_path):
    before = table.step_time()
    monkeypatch.setattr(measure, "RECORDS", tmp_path)
    measure.save("step_time", {"nets": [], "rates": {}})
    assert "residual-20" in before
    assert "residual-20" not in table.step_time()


def test_a_program_that_did_not_compile_or_does_not_fit_is_in_the_table_with_the_reason():
    (program, *_) = measure.read("programs")[0]["results"]["programs"]
    form = {part: program[part] for part in ("net", "batch", "blocks", "unrolled", "step", "mapper")}
    late, failing = form | {"not compiled within (s)": 900.0}, form | {"error": "RESOURCE_EXHAUSTED"}
    large = program | {"memory": program["memory"] | {"fits": False}}
    found = [("gpu:a100", each) for each in (program, late, failing, large)]
    header, _, *rows = table.program_table(found, "kernels").splitlines()
    assert {row.count("|") for row in rows} == {header.count("|")}
    assert "too much" not in rows[0]
    assert "not within 900 s" in rows[1]
    assert "fails: RESOURCE_EXHAUSTED" in rows[2]
    assert "too much" in rows[3]


def rows_below(page, heading):
    """Return the cells of the first table below ``heading``, without the names of the columns."""
    _, _, section = page.read_text().partition(f"\n## {heading}\n")
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.group().splitlines()[2:]]


def test_the_table_of_what_is_all_reduced_follows_from_the_nets():
    def megabytes(config, size):
        model = models.build(config.model, 10 if config.data.name == "cifar10" else 1000)
        images = jax.ShapeDtypeStruct((1, size, size, 3), "float32")
        variables = jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)
        return 4 * sum(leaf.size for leaf in jax.tree.leaves(variables)) / 1e6

    rows = rows_below(table.PAGE, "Many devices")
    cifar = [f"{megabytes(recipes.cifar(depth, True), 32):.2f}" for depth in (20, 56, 110)]
    assert rows[0][1] == f"{', '.join(cifar)} MB"
    for row, depth in zip(rows[1:], (50, 152), strict=True):
        assert row[1] == f"{megabytes(recipes.imagenet(depth, True), 224):.0f} MB"
