"""The tutorial, run from its first cell to its last as a student does."""

import os
import pathlib
import re

import nbclient
import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
# Statements of the text that hold on any machine; run after the last cell.
CLAIMS = """
def training_error(name):
    return summaries[name]["final"]["train_clean"]["error"]

assert training_error("plain-20") < 0.1
assert training_error("residual-56") < 0.1
assert training_error("plain-56") > 0.6
assert training_error("residual-56") + 0.02 < training_error("residual-56, stop_gradient")
assert training_error("residual-56, stop_gradient") + 0.1 < training_error("plain-56")
assert "plain, 20 to 56 layers: not judged (+" in found.judged.verdict[0]
assert {"why_gradients", "why_rank", "why_signal"} <= panels.keys()
[gradients] = panels["why_gradients"].plots
growth = {line.label: line.values[0][0] for line in gradients.lines}
assert growth["plain-56"] > 30 * growth["residual-56"]
ranks = {line.label: line.values[0][-1] for line in panels["why_rank"].plots[-1].lines}
assert ranks["plain-56"] < 2 < ranks["residual-56"]
assert made.net.title == "plain-56"
slow, fast = (line.values[0] for line in panel.plots[0].lines)
assert max(fast) > 10 * fast[0]
assert max(slow[:5]) < 10 * slow[0]
"""


def cells(kind):
    return [cell for cell in nbformat.read(TUTORIAL, as_version=4).cells if cell.cell_type == kind]


def test_the_committed_notebook_shows_what_it_gives_and_nothing_of_the_machine():
    outputs = [output for cell in cells("code") for output in cell.outputs]
    assert [cell.execution_count for cell in cells("code")] == list(range(1, len(cells("code")) + 1))
    assert {output.output_type for output in outputs} == {"stream", "display_data"}
    assert {output.name for output in outputs if output.output_type == "stream"} == {"stdout"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 5
    text = TUTORIAL.read_text()
    assert len(text) < 1_000_000
    assert not re.search(r"/(tmp|home|root|work|var|Users)\b", re.sub(r'"image/png": ".*"', "", text))


def test_its_links_lead_somewhere():
    links = [link for cell in cells("markdown") for link in re.findall(r"\]\((.*?)\)", cell.source)]
    missing = [link for link in links if not link.startswith("http") and not (TUTORIAL.parent / link).exists()]
    assert links
    assert missing == []


@pytest.mark.slow
def test_it_runs_and_shows_what_it_says(tmp_path):
    notebook = nbformat.read(TUTORIAL, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(CLAIMS))
    # One device, as most readers have; batch norms then see whole batches.
    changes = {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "JAX_NUM_CPU_DEVICES": "1"}
    before = sorted(ROOT.glob("docs/*"))
    client = nbclient.NotebookClient(notebook, timeout=900)
    client.execute(env=os.environ | changes, cwd=str(tmp_path))
    assert sorted(ROOT.glob("docs/*")) == before
