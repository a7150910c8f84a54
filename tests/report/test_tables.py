"""The table: records and rows of text."""

import csv
import io
import json
import re

import pytest
from rich.console import Console

from resnet_jax import models
from resnet_jax.report import tables
from tests.analysis.synthetic import nets_in, write_run


@pytest.fixture
def found(tmp_path):
    for seed, error in enumerate((0.06, 0.08)):
        write_run(tmp_path / f"r{seed}", 56, residual=True, error=error, seed=seed, data__name="cifar10")
    write_run(tmp_path / "plain", 56, residual=False, error=0.5, data__name="cifar10")
    write_run(tmp_path / "unfinished", 110, residual=False, error=0.5, status=None, data__name="cifar10")
    return tables.records(nets_in(tmp_path))


def test_a_record_has_mean_deviation_and_each_of_the_finished_seeds_and_the_published_error(found):
    plain, residual = found
    assert residual["net"] == "residual-56"
    assert residual["seeds"] == 2
    assert residual["training error"] == pytest.approx(0.07)
    assert residual["training error deviation"] == pytest.approx(0.02 / 2**0.5)
    assert residual["training error of each seed"] == pytest.approx([0.06, 0.08])
    assert residual["test error"] == pytest.approx(0.08)
    assert (residual["published test error"], residual["source"]) == (0.0697, "He et al. 2015, table 6")
    assert (plain["training error deviation"], plain["published test error"]) == (None, None)


def test_the_best_error_is_the_lowest_recorded_one_and_apart_from_the_last(tmp_path):
    run = write_run(tmp_path / "run", error=0.3)
    summary = json.loads((run / "summary.json").read_text())
    summary["best"] = {split: each | {"error": 0.2} for split, each in summary["final"].items()}
    (run / "summary.json").write_text(json.dumps(summary))
    [record] = tables.records(nets_in(tmp_path))
    assert [record[name] for name in ("training error", "test error")] == pytest.approx([0.3, 0.31])
    assert [record[f"best {name}"] for name in ("training error", "test error")] == [0.2, 0.2]
    [row] = tables.text_rows([record])
    assert (row["test error (%)"], row["best test error (%)"]) == ("31.0", "20.0")


def test_costs_are_those_of_the_net_and_times_the_mean_over_finished_seeds(tmp_path):
    for seed, seconds in enumerate((1000.0, 3000.0, 9.0)):
        run = write_run(tmp_path / f"{seed}", 20, seed=seed, status="finished" if seed < 2 else "diverged")
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps(summary | {"seconds": seconds}))
    [record] = tables.records(nets_in(tmp_path))
    assert (record["parameters"], record["multiply-adds"], record["seconds"]) == (20_000, 20 * 10**6, 2000.0)
    [row] = tables.text_rows([record])
    assert [row[name] for name in ("parameters", "multiply-adds", "seconds")] == ["20,000", "20.0 M", "2,000"]


def test_nothing_is_published_of_downsampled_images(tmp_path):
    write_run(tmp_path / "run", 56, residual=True, error=0.1, data__name="cifar10", data__downsample=2)
    [record] = tables.records(nets_in(tmp_path))
    assert (record["net"], record["published test error"]) == ("residual-56", None)


def test_rows_of_text_are_in_per_cent_and_begin_with_net_seeds_and_errors(found):
    plain, residual = tables.text_rows(found)
    assert list(plain) == [
        *("net", "seeds", "training error (%)", "test error (%)", "best training error (%)", "best test error (%)"),
        *("parameters", "multiply-adds", "seconds", "published (%)", "source"),
    ]
    assert residual["training error (%)"] == "7.00 (6.00, 8.00)"
    assert plain["training error (%)"] == "50.0"
    assert residual["published (%)"] == "6.97"
    assert residual["parameters"] == "56,000"


def printed(table, width):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_all_forms_hold_every_net(found):
    read = list(csv.DictReader(io.StringIO(tables.csv_table(found))))
    assert [row["net"] for row in read] == ["plain-56", "residual-56"]
    assert float(read[1]["test error"]) == pytest.approx(0.08)
    assert [float(error) for error in read[1]["test error of each seed"].split()] == pytest.approx([0.07, 0.09])
    rows = tables.text_rows(found)
    lines = tables.markdown_table(rows).splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {len(rows[0]) + 1}
    text = printed(tables.terminal_table(rows, width=100), 100)
    assert "residual-56" in text
    assert "7.00 (6.00, 8.00)" in text


def test_a_narrow_terminal_shows_nets_and_errors_and_says_what_it_leaves_out(found):
    rows = [row | {"net": f"{row['net']}, {'of a long name ' * 4}"} for row in tables.text_rows(found)]
    text = printed(tables.terminal_table(rows), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for part in ("residual-56, of", "7.00 (6.00, 8.00)", "8.00 (7.00, 9.00)", "50.0", "seeds"):
        assert part in text
    caption = " ".join(text.split("In table.md: ")[1].split())
    assert caption == ("source, best test error, best training error, seconds, published.")
    assert "In table.md" not in printed(tables.terminal_table(rows, width=300), 300)


def test_what_all_nets_share_is_said_once(found):
    rows = [row | {"seeds": "3", "published (%)": "", "source": ""} for row in tables.text_rows(found)]
    shared, brief = tables.without_shared(rows)
    assert shared == "Shared by all nets: seeds 3, parameters 56,000, multiply-adds 56.0 M."
    assert [*brief[0]] == [
        *("net", "training error (%)", "test error (%)", "best training error (%)", "best test error (%)", "seconds")
    ]
    assert tables.markdown_of_nets(rows).startswith(f"{shared}\n\n| net | training error (%) |")
    assert tables.without_shared(rows[:1]) == ("", [{name: text for name, text in rows[0].items() if text}])
    assert tables.without_shared([]) == ("", [])


def test_diverged_nets_have_a_row_without_errors(tmp_path):
    write_run(tmp_path / "a0", 20, error=0.1)
    write_run(tmp_path / "a1", 20, seed=1, status="diverged")
    write_run(tmp_path / "b", 56, status="diverged")
    found = tables.records(nets_in(tmp_path))
    some, every = tables.text_rows(found)
    assert (some["seeds"], some["training error (%)"]) == ("1 (1 of 2 diverged at step 200)", "10.0")
    assert (every["seeds"], every["training error (%)"]) == ("0", "diverged at step 200")
    row = list(csv.DictReader(io.StringIO(tables.csv_table(found))))[1]
    assert (row["net"], row["seeds"], row["diverged"], row["training error"], row["training error of each seed"]) == (
        *("plain-56", "0", "diverged at step 200"),
        *("", ""),
    )


def test_nothing_is_published_of_a_net_under_an_intervention(tmp_path):
    write_run(tmp_path / "run", 56, residual=True, data__name="cifar10", gates__route="stop_gradient")
    [record] = tables.records(nets_in(tmp_path))
    assert record["published test error"] is None


def test_columns_of_markdown_are_aligned_left_where_asked_for_and_cells_stay_cells():
    rows = [{"net": "a | b", "error": "1\n2"}, {"net": r"c \| d", "error": ""}]
    assert tables.markdown_table(rows).splitlines() == [
        "| net | error |",
        "| --- | ---: |",
        r"| a \| b | 1 2 |",
        r"| c \\\| d |  |",
    ]
    assert "| ---: | --- |" in tables.markdown_table(rows, left=["error"])


def test_a_column_that_differs_only_in_one_net_stays_a_column():
    rows = [{"net": "a", "seeds": "3"}, {"net": "b", "seeds": "3"}, {"net": "c", "seeds": "2"}]
    assert tables.without_shared(rows) == ("", rows)


def test_nothing_finished_makes_empty_tables():
    assert tables.text_rows([]) == []
    assert tables.markdown_of_nets([]) == tables.markdown_table([]) == ""
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
