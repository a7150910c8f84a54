"""What README.md and docs/scaling.md say of speed is what the records say."""

import json
import re

import pytest

from benchmarks import measure, table


@pytest.mark.parametrize(
    ("page", "section"), [(table.README, table.speed_section), (table.SCALING, table.programs_section)]
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
