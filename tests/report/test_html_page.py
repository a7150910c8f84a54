"""The report: what it says, and that a real browser draws it from disk."""

import re
import shutil

import numpy as np
import pytest

from resnet_jax.analysis.runs import group_depths, group_seeds, read_runs
from resnet_jax.analysis.verdict import exclusions, judge, sentences
from resnet_jax.report import html_page
from resnet_jax.report.figures import WIDTHS, colours, draw_depths
from resnet_jax.report.html_page import Section, environment_rows, report, scale_buttons, table_of, traces_of
from resnet_jax.report.tables import records, text_rows
from tests.analysis.synthetic import nets_in, set_losses, write_run
from tests.report.drawn import plotly_of

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture
def page(tmp_path):
    """Return a report of eight runs and one unfinished one, as a file."""
    runs = tmp_path / "runs"
    for residual, errors in ((False, {20: 0.1, 56: 0.7}), (True, {20: 0.2, 56: 0.05})):
        for depth, error in errors.items():
            for seed in range(2):
                write_run(runs / f"{residual}-{depth}-{seed}", depth, residual, error, seed)
    write_run(runs / "unfinished", 110, error=0.5, status=None)
    read, problems = read_runs([runs])
    nets = group_seeds(read)
    verdict = judge(read)
    left_out = [*exclusions(verdict), *problems, "a <problem> & more"]
    rows = text_rows(records(nets))
    commands = ["python -m this", "python -m that"]
    sections = [Section("A <part>", ["said & done"], [{"net": "<b>"}], draw_depths(nets)), Section("Another", [])]
    text = report(
        "the title", "Does <depth> degrade?", read, nets, rows, sentences(verdict), left_out, commands, sections
    )
    file = tmp_path / "report.html"
    file.write_text(text)
    return file


def test_the_page_holds_all_that_one_asks(page):
    text = page.read_text()
    for part in (
        "<title>the title</title>",
        "Does &lt;depth&gt; degrade?",
        "plain, 20 to 56 layers: not judged (+60.00 points, 2 seeds)",
        "unfinished is not in the verdict",
        "a &lt;problem&gt; &amp; more",
        "<td>False-56-1</td><td>56</td><td>False</td><td>1</td>",
        "<td>optimizer.momentum</td><td>0.9</td>",
        "1 x cpu",
        "python -m this\npython -m that",
        "# False-20-0\npython -m experiments.main",
        "<h2>A &lt;part&gt;</h2>",
        "<p>said &amp; done</p>",
        "<td>&lt;b&gt;</td>",
        "<h2>Another</h2>",
    ):
        assert part in text
    assert text.count('<div class="figure"><svg') == 1  # The section's; two depths make no curve.


def report_of(folder):
    read, _ = read_runs([folder])
    nets = group_seeds(read)
    return report("t", "q", read, nets, text_rows(records(nets)), ["said"], [], [])


def test_curves_are_the_records_of_each_run_in_per_cent_on_each_axis(tmp_path):
    for seed, error in enumerate((0.1, 0.3)):
        write_run(tmp_path / f"{seed}", 20, error=error, seed=seed)
    write_run(tmp_path / "residual", 56, True, 0.2)
    nets = nets_in(tmp_path)
    traces, xs = traces_of(group_depths(nets))
    runs = [run for net in nets for run in net.runs for _ in WIDTHS]
    splits = list(WIDTHS) * 3
    assert len(traces) == 6
    for place, (trace, run, split) in enumerate(zip(traces, runs, splits, strict=True)):
        lines = [line for line in run.metrics if line["split"] == split]
        np.testing.assert_allclose(trace["y"], [100 * line["error"] for line in lines])
        for axis, found in xs.items():
            np.testing.assert_allclose(found[place], [line[axis] for line in lines])
        assert trace["line"] == {"color": colours(nets)[run.config["model.depth"]], "width": WIDTHS[split]}
        assert trace["hovertemplate"].startswith(f"{run.name}, {split}<br>")
    assert [trace["name"] for trace in traces] == ["plain-20"] * 4 + ["residual-56"] * 2
    # One entry of the legend for each net: the bold line of its first seed.
    assert [trace["showlegend"] for trace in traces] == [False, True, False, False, False, True]
    assert [(trace["xaxis"], trace["yaxis"]) for trace in traces] == [("x1", "y1")] * 4 + [("x2", "y2")] * 2


def test_many_long_curves_are_thinned_to_their_ends_and_drawn_by_webgl(tmp_path, monkeypatch):
    monkeypatch.setattr(html_page, "MOST_POINTS", 5)
    monkeypatch.setattr(html_page, "LEAST_POINTS", 2)
    monkeypatch.setattr(html_page, "MOST_SVG_TRACES", 1)
    write_run(tmp_path / "run", error=0.2, records=100)
    panels = group_depths(nets_in(tmp_path))
    traces, xs = traces_of(panels)
    assert {len(trace["y"]) for trace in traces} == {5}
    assert (traces[0]["x"][0], traces[0]["x"][-1], traces[0]["y"][-1]) == (3, 300, pytest.approx(20))
    assert {len(x) for axis in xs.values() for x in axis} == {5}
    assert {trace["type"] for trace in traces} == {"scattergl"}
    monkeypatch.setattr(html_page, "MOST_POINTS_IN_ALL", 6)  # Of two curves.
    assert {len(trace["y"]) for trace in traces_of(panels)[0]} == {3}
    monkeypatch.setattr(html_page, "MOST_POINTS_IN_ALL", 1)
    assert {len(trace["y"]) for trace in traces_of(panels)[0]} == {2}


def test_a_run_without_a_finite_loss_has_a_cross_at_its_first_record_and_one_without_records_none(tmp_path):
    set_losses(write_run(tmp_path / "a", status="diverged"), [None])
    set_losses(write_run(tmp_path / "b", status="diverged", seed=1), [])
    traces, xs = traces_of(group_depths(nets_in(tmp_path)))
    crosses = [place for place, trace in enumerate(traces) if trace["mode"] == "markers"]
    assert [(traces[place]["x"].tolist(), traces[place]["y"].tolist()) for place in crosses] == [([10], [50])]
    assert {len(x) for x in xs.values()} == {len(traces)}


def test_names_in_curves_are_text(tmp_path):
    write_run(tmp_path / "<b>", 20, True, data__name="<i>", model__norm="none")
    write_run(tmp_path / "b", 20, True)
    traces, _ = traces_of(group_depths(nets_in(tmp_path)))
    texts = [text for trace in traces for text in (trace["name"], trace["hovertemplate"])]
    assert any("no norm" in text for text in texts)
    assert any("&lt;b&gt;, train<br>" in text for text in texts)
    assert not any("<b>" in text or "<i>" in text for text in texts)


def test_the_buttons_of_the_axis_change_its_values_and_its_label(tmp_path):
    write_run(tmp_path / "run")
    traces, layout = plotly_of(report_of(tmp_path))
    assert layout["xaxis"]["title"]["text"] == "step (mini-batches)"
    assert layout["yaxis"]["title"]["text"] == "error (%)"
    step, epoch, seconds = layout["updatemenus"][0]["buttons"]
    assert step["args"][0]["x"] == [trace["x"] for trace in traces]
    np.testing.assert_allclose(epoch["args"][0]["x"][0], np.array([100, 200, 300]) / 12)
    assert seconds["args"] == [{"x": [[200, 400, 600]] * 2}, {"xaxis.title.text": "time (s)"}]
    assert epoch["args"][1] == {"xaxis.title.text": "epoch"}


def test_the_linear_scale_gives_back_the_errors_that_the_logarithmic_one_moves():
    traces = [{"y": np.array([50.0, 0.0])}, {"y": np.array([20.0, 2.0])}]
    linear, log = scale_buttons(traces, panels=2, guessing=0.9)
    assert log["args"][2] == linear["args"][2] == [0]
    np.testing.assert_allclose(log["args"][0]["y"], [[50, 0.1]])
    np.testing.assert_allclose(linear["args"][0]["y"], [[50, 0]])
    for number in ("", "2"):
        assert log["args"][1][f"yaxis{number}.type"] == "log"
        assert linear["args"][1][f"yaxis{number}.type"] == "linear"
    assert [linear["args"][1][f"annotations[{place}].y"] for place in (2, 3)] == [90, 90]


def test_scales_without_zeros_change_only_the_axes():
    linear, log = scale_buttons([{"y": np.array([50.0])}], panels=1, guessing=None)
    assert (linear["method"], log["method"]) == ("relayout", "relayout")
    assert log["args"] == [{"yaxis.type": "log", "yaxis.autorange": True}]


def test_a_table_shows_text_leaves_missing_values_empty_and_says_that_it_has_no_rows():
    assert table_of([{"a<": None, "b": 0}, {"a<": "&", "b": ""}]) == (
        "<table><thead><tr><th>a&lt;</th><th>b</th></tr></thead><tbody>\n<tr><td></td><td>0</td></tr>\n"
        "<tr><td>&amp;</td><td></td></tr>\n</tbody></table>"
    )
    assert table_of([]) == "<p>None.</p>"


def test_each_start_of_a_run_has_its_hardware_versions_and_changed_files(tmp_path):
    start = {"time": "2026-01-01", "device_count": 4, "device_kind": "TPU v5", "packages": {"jax": "0.10.2"}}
    starts = [
        start | {"git_revision": "a" * 40, "git_dirty": True, "git_changed": ["x.py", "y.py"], "host_count": 2},
        start | {"git_revision": None, "git_dirty": True},
    ]
    run = read_runs([write_run(tmp_path / "run")])[0][0]._replace(environments=starts)
    first, second = environment_rows([run])
    assert (first["run"], first["device"], first["hosts"], first["jax"]) == ("run", "4 x TPU v5", 2, "0.10.2")
    assert first["revision"] == "aaaaaaaaaa + changes in x.py, y.py"
    assert second["revision"] == " + changes in files not recorded"
    assert second["flax"] is None
    assert environment_rows([run._replace(environments=[])]) == []


@pytest.mark.parametrize("seconds", [None, 30])
def test_a_browser_loads_the_page_again_only_where_asked_to(seconds, tmp_path):
    write_run(tmp_path / "run")
    read, _ = read_runs([tmp_path])
    text = report("t", "q", read, group_seeds(read), [], [], [], [], refresh=seconds)
    assert ('<meta http-equiv="refresh" content="30">' in text) is bool(seconds)


def test_all_panels_of_curves_have_the_same_axes(page):
    _, layout = plotly_of(page.read_text())
    assert [layout[axis]["matches"] for axis in ("xaxis", "yaxis")] == ["x2", "y2"]


def test_the_log_scale_has_errors_of_zero_at_a_labelled_place(tmp_path):
    write_run(tmp_path / "a", 20, error=0.0)
    write_run(tmp_path / "b", 56, error=0.5)
    traces, layout = plotly_of(report_of(tmp_path))
    linear, log = layout["updatemenus"][1]["buttons"]
    data, axes, places = log["args"]
    assert (log["method"], places) == ("update", [0])  # Only the training error of plain-20 is ever 0.
    assert axes["yaxis.ticktext"] == ["0", "1", "10"]
    assert axes["yaxis.tickvals"][0] == data["y"][0][-1] == 0.1  # All errors above 0 are 1 % or more.
    assert linear["args"][0]["y"] == [traces[0]["y"]]
    assert linear["args"][1]["yaxis.tickmode"] == "auto"


def test_a_diverged_run_ends_in_a_cross_on_each_axis(tmp_path):
    write_run(tmp_path / "a", 20, error=0.1)
    write_run(tmp_path / "b", 56, error=0.5, status="diverged")
    text = report_of(tmp_path)
    traces, layout = plotly_of(text)
    [cross] = [place for place, trace in enumerate(traces) if trace["mode"] == "markers"]
    assert (traces[cross]["x"], traces[cross]["marker"]["symbol"]) == ([200], "x")
    by_axis = {button["label"]: button["args"][0]["x"] for button in layout["updatemenus"][0]["buttons"]}
    assert {axis: xs[cross] for axis, xs in by_axis.items()} == {
        "step": [200],
        "epoch": [pytest.approx(200 / 12)],
        "seconds": [400],
    }
    assert "<td>plain-56</td><td>0</td><td>diverged at step 200</td>" in text


def test_the_error_of_guessing_is_a_labelled_line_where_the_axis_reaches_it(tmp_path):
    write_run(tmp_path / "a", 20, error=0.91)
    write_run(tmp_path / "b", 20, residual=True, error=0.1)
    _, layout = plotly_of(report_of(tmp_path))
    assert [(line["yref"], line["y0"], line["y1"]) for line in layout["shapes"]] == [("y", 90, 90), ("y2", 90, 90)]
    texts = [(each["text"], each["y"]) for each in layout["annotations"][2:]]
    assert texts == [("guessing<br>90 %", 90)] * 2
    log = layout["updatemenus"][1]["buttons"][1]["args"][-1]
    assert log["annotations[3].y"] == pytest.approx(np.log10(90))


def test_errors_over_depth_need_three_depths_and_columns_that_all_nets_share_are_a_sentence(tmp_path):
    write_run(tmp_path / "a", 20)
    write_run(tmp_path / "b", 56)
    text = report_of(tmp_path)
    assert "Final error over depth" not in text
    assert "<p>Shared by all nets: seeds 1.</p>" in text
    assert "<th>seeds</th>" not in text
    write_run(tmp_path / "c", 110)
    assert "<h2>Final error over depth</h2>" in report_of(tmp_path)


def test_the_page_asks_nothing_of_a_network(page):
    text = page.read_text()
    assert re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=", text) == []
    assert "@import" not in text.partition("<body>")[0]


@pytest.fixture
def open_page(page, tmp_path):
    """Return a function that opens the page in a window of some width."""
    if not (BROWSER and DRIVER):
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    drivers = []

    def open_in(width):
        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER
        profile = f"--user-data-dir={tmp_path / f'profile{width}'}"
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},1000", profile):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        drivers.append(webdriver.Chrome(options=options, service=Service(DRIVER)))
        drivers[-1].implicitly_wait(20)
        drivers[-1].get(page.as_uri())
        return drivers[-1]

    yield open_in
    for driver in drivers:
        driver.quit()


def test_a_browser_executes_nothing_of_what_a_run_directory_says(page, open_page, tmp_path):
    evil = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
    for index, depth in enumerate((20, 56)):
        folder = tmp_path / "evil" / f"<img src=x onerror=window.hacked=1>{index}"
        write_run(folder, depth, residual=True, data__name=evil)
        for name in ("config.json", "environment.json"):
            text = (folder / name).read_text().replace("experiments.main", evil.replace('"', '\\"'))
            (folder / name).write_text(text.replace("cpu", evil.replace('"', '\\"')))
    write_run(tmp_path / "evil" / "unknown", 20, residual=True, model__shortcut=evil)
    read, problems = read_runs([tmp_path / "evil"])
    assert len(read) == 2
    assert "config.model.shortcut='</script><script>" in problems[0]
    nets = group_seeds(read)
    said, left_out, sections = sentences(judge(read)), [*problems, evil], [Section(evil, [evil], [{evil: evil}])]
    rows = text_rows(records(nets))
    page.write_text(report(evil, evil, read, nets, rows, said, left_out, [evil], sections))
    driver = open_page(1100)
    assert driver.find_elements("css selector", ".scatterlayer .trace .js-line")
    assert driver.execute_script("return window.hacked") is None
    assert "window.hacked" in driver.find_element("css selector", "body").text


@pytest.mark.parametrize("width", [1100, 400])
def test_a_browser_draws_the_curves_and_its_buttons_work(open_page, width):
    from selenium.webdriver.support.ui import WebDriverWait

    driver = open_page(width)

    def find(selector):
        return driver.find_elements("css selector", selector)

    def press(label):
        next(button for button in find(".updatemenu-button") if button.text == label).click()

    def wait_for(condition):
        WebDriverWait(driver, 20).until(lambda _: condition())

    wait_for(lambda: len(find(".scatterlayer .trace .js-line")) == 2 * 9)
    before = find(".js-line")[0].get_attribute("d")
    press("epoch")
    wait_for(lambda: any(title.text == "epoch" for title in find("[class*=xtitle], [class*=x2title]")))
    press("log")
    wait_for(lambda: find(".js-line")[0].get_attribute("d") != before)
    wait_for(lambda: {"2", "5", "10"} <= {tick.text for tick in find(".ytick")})
    assert driver.get_log("browser") == []
    # Nothing but a table's own frame is wider than the window.
    assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    # Names of nets and runs stay whole words.
    widths = "return [...document.querySelectorAll('.scroll td:first-child')].map(cell => cell.clientWidth)"
    assert min(driver.execute_script(widths)) >= 50
