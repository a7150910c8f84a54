"""What docs/speed.md and docs/scaling.md say of speed is what the records say."""

import json
import re

import pytest

from benchmarks import measure, table


@pytest.mark.parametrize(
    ("page", "section"), [(table.SPEED, table.speed_section), (table.SCALING, table.programs_section)]
)
def test_the_section_of_a_page_is_written_from_the_records(page, section):
    text = page.read_text()
    assert table.with_section(text, section()) == text


def test_every_record_names_hardware_versions_and_date():
    assert measure.read("step_time")
    for path in measure.RECORDS.glob("*.json"):
        record = json.loads(path.read_text())
        assert record["hardware"]["processor"]
        assert record["versions"]["jax"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", record["date"])


def test_a_new_record_changes_the_section(monkeypatch, tmp_path):
    before = table.speed_section()
    monkeypatch.setattr(measure, "RECORDS", tmp_path)
    measure.save("step_time", {"nets": [], "rates": {}})
    assert "residual-20" in before
    assert "residual-20" not in table.speed_section()


def test_a_program_that_did_not_compile_or_does_not_fit_is_in_the_table_with_the_reason():
    (program, *_) = measure.read("programs")[0]["results"]["programs"]
    form = {part: program[part] for part in ("net", "batch", "blocks", "unrolled", "step", "mapper")}
    late, failing = form | {"not compiled within (s)": 900.0}, form | {"error": "RESOURCE_EXHAUSTED"}
    large = program | {"memory": program["memory"] | {"fits": False}}
    header, _, *rows = table.program_rows([program, late, failing, large])
    assert {row.count("|") for row in rows} == {header.count("|")}
    assert "too much" not in rows[0]
    assert "not within 900 s" in rows[1]
    assert "fails: RESOURCE_EXHAUSTED" in rows[2]
    assert "too much" in rows[3]
