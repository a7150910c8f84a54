"""The display of a run."""

import io
import math

import pytest
from rich.console import Console

from resnet_jax.errors import UserError
from resnet_jax.training import loop, progress
from resnet_jax.training.progress import Pace, ProgressLine, summary_table


def text_of(monkeypatch, terminal, act):
    stream = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=stream, force_terminal=terminal, width=140))
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_UPDATES", 0)
    with ProgressLine(0, 200, 128) as line:
        act(line)
    return stream.getvalue()


class FixedPace(Pace):
    """Ten steps a second."""

    def steps_per_second(self, step):
        return 10.0


@pytest.mark.parametrize(
    ("depth", "net"), [(8, "residual-8, 75,002 parameters"), (20, "residual-20, 0.27 M parameters")]
)
def test_a_start_logs_data_net_and_devices_before_it_compiles(config, tmp_path, monkeypatch, caplog, depth, net):
    def stop(*_):
        raise UserError("enough")

    monkeypatch.setattr(loop, "open_feed", stop)
    config.model.depth = depth
    config.data.validation_examples = 100
    with caplog.at_level("INFO", logger="absl"), pytest.raises(UserError, match="enough"):
        loop.train(config, tmp_path / "run")
    found = "10 classes, 1,400 training, 100 validation and 297 test images"
    assert caplog.messages == [f"{found}; {net}, 2 devices; compiling"]


def test_only_the_first_of_several_processes_logs_it(config, monkeypatch, caplog):
    monkeypatch.setattr(progress.hosts, "is_first", lambda: False)
    with caplog.at_level("INFO", logger="absl"):
        progress.announce(config, dataset=None, program=None)
    assert caplog.text == ""


def test_the_line_on_a_terminal_has_percentage_rates_time_to_go_loss_and_error(monkeypatch):
    text = text_of(monkeypatch, True, lambda line: line.update(50, {"loss": 0.5, "error": 0.0697}, FixedPace(0)))
    for part in ("25%", "10.0 steps/s", "1,280 images/s", "ETA 0:00:15", "loss 0.500", "error 6.97%"):
        assert part in text


def test_elsewhere_plain_lines_go_to_the_log(monkeypatch, caplog):
    with caplog.at_level("INFO", logger="absl"):
        text = text_of(monkeypatch, False, lambda line: line.log(50, {"loss": 0.5, "error": 0.0697}, FixedPace(0)))
    assert text == ""
    assert "step 50/200 (25.0%): 10.0 steps/s" in caplog.text


def test_a_pace_counts_from_its_last_restart(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    pace = Pace(0)
    now[0] = 200.0
    pace.restart(10)
    now[0] = 204.0
    assert math.isnan(pace.steps_per_second(10))
    assert pace.steps_per_second(18) == 2


def test_the_final_table_has_errors_in_per_cent():
    final = {"test": {"step": 20, "loss": 0.5, "error": 0.0697}}
    best = {"test": {"step": 10, "loss": 0.5, "error": 0.0643}}
    console = Console(width=120)
    with console.capture() as capture:
        console.print(summary_table({"status": "finished", "steps": 20, "seconds": 3.2, "final": final, "best": best}))
    for part in ("finished after 20 steps, 3 s", "6.97%", "6.43%", "10"):
        assert part in capture.get()
