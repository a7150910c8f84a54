"""Links lead somewhere, commands name files and flags that exist, and the front page stays short."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\]\([^)]*\))*\]\(([^)\s]+)\)")
CODE = re.compile(r"^(```.*?^```|    .*?$)", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"python -m (experiments|benchmarks)\.(\w+)")


def pages():
    """Return all Markdown files that are tracked, or would be."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    files = [ROOT / line for line in listed.stdout.splitlines()] if listed.returncode == 0 else ROOT.rglob("*.md")
    return sorted(file for file in files if file.exists() and ".venv" not in file.parts)


PAGES = {str(file.relative_to(ROOT)): file for file in pages()}


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


def test_the_map_has_every_document():
    index = (ROOT / "docs" / "index.md").read_text()
    documents = [file.name for file in (ROOT / "docs").iterdir() if file.suffix in (".md", ".ipynb")]
    missing = [name for name in documents if name != "index.md" and f"]({name})" not in index]
    assert not missing


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 130
