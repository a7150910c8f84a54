"""Which figures a comparison has, and which nets are in them."""

from resnet_jax.analysis.runs import read_runs
from resnet_jax.report.findings import find
from tests.analysis.synthetic import write_run


def labels(found):
    return [label.get_text() for label in found.figures["nets"].axes[0].get_yticklabels()]


def test_errors_over_depth_are_a_figure_from_three_depths_up(tmp_path):
    write_run(tmp_path / "a", 20)
    write_run(tmp_path / "b", 56)
    assert list(find(read_runs([tmp_path])[0]).figures) == ["nets", "curves"]
    write_run(tmp_path / "c", 110)
    assert list(find(read_runs([tmp_path])[0]).figures) == ["nets", "depths", "curves"]


def test_figures_begin_with_the_reference_of_the_sweep(tmp_path):
    write_run(tmp_path / "a", 20, residual=False)
    write_run(tmp_path / "b", 20, residual=True)
    write_run(tmp_path / "c", 20, residual=True, model__order="preactivation")
    runs, _ = read_runs([tmp_path])
    assert labels(find(runs)) == ["plain-20", "residual-20", "preact residual-20"]
    found = find(runs, [{"runs": ["c", "a", "b"]}])
    assert labels(found) == ["preact residual-20", "plain-20", "residual-20"]
    titles = [panel.get_title() for panel in found.figures["curves"].axes]
    assert titles == ["preact residual nets", "plain nets", "residual nets"]


def test_a_net_that_diverges_at_every_tuned_value_is_drawn_as_diverged(tmp_path):
    for rate in (0.01, 0.1):
        fields = {"optimizer__learning_rate": rate, "validation": 0.1}
        write_run(tmp_path / f"shallow-{rate}", 20, error=0.1, **fields)
        write_run(tmp_path / f"deep-{rate}", 56, error=0.5, status="diverged", **fields)
    found = find(read_runs([tmp_path])[0], tuned=("optimizer.learning_rate", 0.1))
    assert labels(found) == ["plain-20", "plain-56"]
    assert [text.get_text() for text in found.figures["nets"].axes[0].texts] == ["diverged at step 200"]
    crosses = [line for line in found.figures["curves"].axes[0].lines if line.get_marker() == "x"]
    assert len(crosses) == 2
    assert [net.label for net in found.judged.nets] == ["plain-20"]  # The verdict has no error of the other.
