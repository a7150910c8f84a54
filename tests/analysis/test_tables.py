"""The table: records and rows of text."""

import csv
import io
import json
import re

import pytest
from rich.console import Console

from resnet_jax import models
from resnet_jax.analysis import tables
from resnet_jax.analysis.runs import group_seeds, read_runs
from tests.analysis.synthetic import write_run


@pytest.fixture
def found(tmp_path):
    for seed, error in enumerate((0.06, 0.08)):
        write_run(tmp_path / f"r{seed}", 56, residual=True, error=error, seed=seed, data__name="cifar10")
    write_run(tmp_path / "plain", 56, residual=False, error=0.5, data__name="cifar10")
    write_run(tmp_path / "unfinished", 110, residual=False, error=0.5, status=None, data__name="cifar10")
    return tables.records(group_seeds(read_runs([tmp_path])[0]))


def test_a_record_has_mean_and_deviation_over_finished_seeds_and_the_published_error(found):
    plain, residual = found
    assert residual["net"] == "residual-56"
    assert residual["seeds"] == 2
    assert residual["training error"] == pytest.approx(0.07)
    assert residual["training error deviation"] == pytest.approx(0.02 / 2**0.5)
    assert residual["test error"] == pytest.approx(0.08)
    assert (residual["published test error"], residual["source"]) == (0.0697, "He et al. 2015, table 6")
    assert (plain["training error deviation"], plain["published test error"]) == (None, None)


def test_nothing_is_published_of_downsampled_images(tmp_path):
    write_run(tmp_path / "run", 56, residual=True, error=0.1, data__name="cifar10", data__downsample=2)
    [record] = tables.records(group_seeds(read_runs([tmp_path])[0]))
    assert (record["net"], record["published test error"]) == ("residual-56", None)


def test_rows_of_text_are_in_per_cent(found):
    plain, residual = tables.text_rows(found)
    assert residual["training error (%)"] == "7.00 ± 1.41"
    assert plain["training error (%)"] == "50.00"
    assert residual["published (%)"] == "6.97"
    assert residual["parameters"] == "56,000"


def test_all_forms_hold_every_net(found):
    read = list(csv.DictReader(io.StringIO(tables.csv_table(found))))
    assert [row["net"] for row in read] == ["plain-56", "residual-56"]
    assert float(read[1]["test error"]) == pytest.approx(0.08)
    rows = tables.text_rows(found)
    lines = tables.markdown_table(rows).splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {len(rows[0]) + 1}
    console = Console(width=100)
    with console.capture() as capture:
        console.print(tables.terminal_table(rows))
    assert "residual-56" in capture.get()
    assert "7.00 ± 1.41" in capture.get()


def test_nothing_finished_makes_empty_tables():
    assert tables.text_rows([]) == []
    assert tables.markdown_table([]) == ""
    assert tables.csv_table([]) == "net\n"


def test_published_errors_are_fractions_with_a_source():
    published = json.loads(tables.PUBLISHED.read_text())

    def error(data, **fields):
        [row] = [row for row in published if (row["data"], row["model"]) == (data, fields)]
        return row["test_error"]

    # He et al. 2015, tables 6 and 2; 2016, table 2; Zagoruyko and Komodakis 2016, table 6.
    assert error("cifar10", depth=20) == 0.0875
    assert error("cifar10", depth=1202) == 0.0793
    assert error("imagenet2012", family="imagenet", depth=34, residual=False) == 0.2854
    assert error("cifar10", depth=110, order="preactivation") == 0.0637
    assert error("cifar10", family="wide", depth=16, widening=4, dropout=0.3) == 0.0524
    for row in published:
        models.build(row["model"], num_classes=10)
        assert 0 < row["test_error"] < 1
        assert re.match(r"[A-Z][a-z]+ (et al\.|and Komodakis) 20\d\d, ", row["source"])
    nets = [models.complete(row["model"]) for row in published]
    keys = {
        (row["data"], *(net[name] for name in models.fields_read(net)))
        for row, net in zip(published, nets, strict=True)
    }
    assert len(keys) == len(published)
