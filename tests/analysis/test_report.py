"""The report: what it says, and that a real browser draws it from disk."""

import re
import shutil

import pytest

from resnet_jax.analysis.figures import draw_depths
from resnet_jax.analysis.report import Section, report
from resnet_jax.analysis.runs import group_seeds, read_runs
from resnet_jax.analysis.tables import records, text_rows
from resnet_jax.analysis.verdict import exclusions, judge, sentences
from tests.analysis.synthetic import write_run

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
        "plain, 20 to 56 layers: degrades, +60.00 points of training error",
        "unfinished is not in the verdict: unfinished at step 200 of 300.",
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
    assert text.count('<div class="figure"><svg') == 2


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
