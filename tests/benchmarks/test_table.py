"""What README.md says of speed is what the records say."""

import json
import re

from benchmarks import measure, table


def test_the_section_of_the_readme_is_written_from_the_records():
    text = table.README.read_text()
    assert table.with_section(text) == text


def test_every_record_names_hardware_versions_and_date():
    assert measure.read("step_time")
    for path in measure.RECORDS.glob("*.json"):
        record = json.loads(path.read_text())
        assert record["hardware"]["processor"]
        assert record["versions"]["jax"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", record["date"])


def test_a_new_record_changes_the_section(monkeypatch, tmp_path):
    before = table.section()
    monkeypatch.setattr(measure, "RECORDS", tmp_path)
    measure.save("step_time", {"nets": [], "rates": {}})
    assert "residual-20" in before
    assert "residual-20" not in table.section()
