"""Links lead somewhere; commands, flags and paths exist; commands have one form; README.md lists every document."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\]\([^)]*\))*\]\(([^)\s]+)\)")
CODE = re.compile(r"^(```.*?^```|    .*?$)", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"python -m (experiments|benchmarks)\.(\w+)")
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
FOLDERS = ("benchmarks", "configs", "docs", "experiments", "resnet_jax", "results", "tests")
PATH = re.compile(rf"(?<![\w/.])(?:{'|'.join(FOLDERS)})/(?:\w+/)*\w+(?:\.\w+)*")


def pages():
    """Return all Markdown files that are tracked, or would be."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    files = [ROOT / line for line in listed.stdout.splitlines()] if listed.returncode == 0 else ROOT.rglob("*.md")
    return sorted(file for file in files if file.exists() and ".venv" not in file.parts)


PAGES = {str(file.relative_to(ROOT)): file for file in pages()}
# Not pages made from records, nor the history: both name files of their time.
WRITTEN = [name for name in PAGES if not name.startswith("results/") and name != "CHANGELOG.md"]


def anchors(text):
    """Return the anchors that GitHub gives the headings of ``text``."""
    found, counts = set(), {}
    for heading in re.findall(r"^#+ (.*)$", CODE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = counts.get(slug, 0)
        counts[slug] = number + 1
        found.add(f"{slug}-{number}" if number else slug)
    return found


def links(text):
    """Return the targets of all links of ``text``, also of pictures within links."""
    text = CODE.sub("", text)
    outer = LINK.findall(text)
    return outer + re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text)


def broken(file):
    """Yield what is wrong with each link of ``file``."""
    for target in links(file.read_text()):
        if re.match(r"(https?|mailto):", target):
            continue
        path, _, anchor = target.partition("#")
        there = (file.parent / path).resolve() if path else file
        if not there.exists():
            yield f"{target}: no such file"
        elif anchor and there.suffix == ".md" and anchor not in anchors(there.read_text()):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name):
    assert not list(broken(PAGES[name]))


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b` c\n\n[one](#a-b-c) [two](#none) [three](gone.md) [![x](gone.png)](page.md)\n")
    assert [each.partition(":")[0] for each in broken(page)] == ["#none", "gone.md", "gone.png"]


@pytest.mark.parametrize("name", PAGES)
def test_every_command_and_every_config_in_it_exists(name):
    text = PAGES[name].read_text()
    for package, module in COMMAND.findall(text):
        files = (ROOT / package / f"{module}.py", ROOT / package / module / "__main__.py")
        assert module.isupper() or any(file.exists() for file in files), f"{package}.{module}"
    for config in re.findall(r"--config=(configs/[\w/]+\.py)", text):
        assert config == "configs/sweeps/NAME.py" or (ROOT / config).exists(), config


@pytest.mark.parametrize("name", PAGES)
def test_every_command_has_one_form(name):
    """Commands begin with ``python``, whose place README.md explains."""
    pythons = re.findall(r"(\S*)python[\d.]* -m \w", PAGES[name].read_text())
    assert [before for before in pythons if before.strip("`('\"[")] == []


@pytest.mark.parametrize("name", WRITTEN)
def test_every_flag_of_a_command_exists(name):
    sources = "".join(
        file.read_text() for folder in ("experiments", "benchmarks") for file in ROOT.glob(f"{folder}/*.py")
    )
    defined = set(re.findall(r"(?i)define_\w+\(\s*\"(\w+)\"", sources)) | {"help", "config"}
    lines = "\n".join(SHELL.findall(PAGES[name].read_text())).replace("\\\n", " ").splitlines()
    commands = [line.partition(" #")[0].split("python -m ")[-1] for line in lines if COMMAND.search(line)]
    flags = {flag for command in commands for flag in re.findall(r"(?<=\s)--(\w+)", command)}
    assert flags <= defined


@pytest.mark.parametrize("name", WRITTEN)
def test_every_path_in_it_exists(name):
    text = PAGES[name].read_text()
    paths = {path for path in PATH.findall(text) if not re.search(r"NAME|STUDY|SWEEP", path)}
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []
    tests = set(re.findall(r"(?<![\w/])test_\w+\.py", text))
    assert sorted(file for file in tests if not list((ROOT / "tests").rglob(file))) == []


def test_the_front_page_lists_every_document():
    index = (ROOT / "README.md").read_text()
    documents = [file.name for file in (ROOT / "docs").iterdir() if file.suffix in (".md", ".ipynb")]
    assert [name for name in documents if f"](docs/{name})" not in index] == []


@pytest.mark.parametrize(("name", "lines"), [("README.md", 130), ("docs/architecture.md", 120)])
def test_what_is_read_first_is_short(name, lines):
    assert len((ROOT / name).read_text().splitlines()) < lines


def test_every_document_that_the_code_names_exists():
    files = [
        file
        for folder in ("resnet_jax", "experiments", "configs", "benchmarks")
        for file in ROOT.glob(f"{folder}/**/*.py")
    ]
    named = {name for file in files for name in re.findall(r"docs/\w+\.md", file.read_text())}
    assert len(named) > 2
    assert sorted(name for name in named if not (ROOT / name).exists()) == []
