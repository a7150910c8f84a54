"""Several runs at a time on this machine; what a run does is made up here."""

import io
import os
import pathlib
import signal
import sys
import threading
import time

import pytest
from rich.console import Console

from configs import recipes
from resnet_jax.errors import UserError
from resnet_jax.sweeps import local
from resnet_jax.sweeps.plan import PlannedRun, failure, state
from tests.analysis.synthetic import write_run


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def run(tmp_path):
    """Return a function that plans a run whose process executes ``program``."""

    def planned(name, program):
        config = recipes.digits(8, residual=True)
        return PlannedRun(name, {}, config, tmp_path / "sweep" / name, [sys.executable, "-c", program])

    return planned


def finishing(name, tmp_path):
    write_run(tmp_path / "sweep" / name, error=0.25)
    return "print('done')"


def test_one_failing_and_one_killed_run_do_not_stop_the_others(run, console, tmp_path):
    runs = [
        run("fails", "import sys; print('why it fails'); sys.exit(3)"),
        run("killed", "import os; os.kill(os.getpid(), 9)"),
        *(run(f"good{index}", finishing(f"good{index}", tmp_path)) for index in range(3)),
    ]
    failed = local.train_all(runs, 2, console)
    assert [each.name for each in failed] == ["fails", "killed"] or [each.name for each in failed] == [
        "killed",
        "fails",
    ]
    said = console.file.getvalue()
    assert "fails: failed with exit status 3" in said
    assert "why it fails" in said
    assert "killed: killed by signal 9" in said
    for index in range(3):
        assert f"good{index}: training error 25.00%, test error 26.00%, 12 s" in said
    started, *said = (tmp_path / "sweep" / "fails.log").read_text().splitlines()
    assert started.startswith("started ")
    assert said[0] == "why it fails"
    assert said[1].startswith("error: exit status 3 of ")
    assert [state(each.workdir) for each in runs[:3]] == ["failed", "failed", "finished"]
    assert failure(runs[1].workdir) == "killed by signal 9"


@pytest.mark.parametrize(("workers", "said"), [(1, "None"), (2, "false")])
def test_several_workers_do_not_let_the_first_take_all_memory_of_a_gpu(run, console, tmp_path, workers, said):
    program = "import os; print(os.environ.get('XLA_PYTHON_CLIENT_PREALLOCATE'))"
    write_run(tmp_path / "sweep" / "asks")
    assert local.train_all([run("asks", program)], workers, console) == []
    assert (tmp_path / "sweep" / "asks.log").read_text().splitlines()[1:] == [said]


def test_damaged_metrics_of_one_run_do_not_stop_the_others(run, console, tmp_path):
    damaged = run("damaged", "import sys, time; time.sleep(1); sys.exit(2)")
    damaged.workdir.mkdir(parents=True)
    (damaged.workdir / "metrics.jsonl").write_text("{damaged}\n")
    failed = local.train_all([damaged, run("good", finishing("good", tmp_path))], 1, console)
    assert [each.name for each in failed] == ["damaged"]
    assert "good: training error 25.00%" in console.file.getvalue()


def test_as_many_run_at_a_time_as_there_are_workers(run, console, tmp_path):
    program = (
        "import os, pathlib, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "mark = folder / f'running{os.getpid()}'\n"
        "mark.touch(); time.sleep(0.3)\n"
        "with (folder / 'seen').open('a') as file: print(len(list(folder.glob('running*'))), file=file)\n"
        "time.sleep(0.3); mark.unlink()"
    )
    local.train_all([run(f"r{index}", program) for index in range(5)], 2, console)
    seen = [int(line) for line in (tmp_path / "seen").read_text().split()]
    assert len(seen) == 5
    assert max(seen) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_stops_all_workers_before_it_is_passed_on(run, console, tmp_path, number):
    program = (
        "import pathlib, signal, sys, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "def stop(*_):\n"
        "    time.sleep(0.3); (folder / f'stopped{NAME}').touch(); sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, stop); (folder / f'started{NAME}').touch(); time.sleep(100)"
    )
    runs = [
        run(f"r{index}", program.replace("NAME", str(index)).replace("f'", "'").replace("{", "").replace("}", ""))
        for index in range(3)
    ]

    def interrupt():
        while len(list(tmp_path.glob("started*"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        local.train_all(runs, 2, console)
    thread.join()
    assert sorted(path.name for path in tmp_path.glob("stopped*")) == ["stopped0", "stopped1"]
    assert not (tmp_path / "started2").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_folder_that_cannot_be_written_is_reported(run, console):
    bad = run("r", "")._replace(workdir=pathlib.Path("/proc/sweep/r"))
    with pytest.raises(UserError, match=r"--folder=/proc/sweep cannot be written"):
        local.train_all([bad], 1, console)


def test_a_worker_for_each_core_as_long_as_the_memory_suffices(monkeypatch):
    monkeypatch.setattr(local, "available_cores", lambda: list(range(64)))

    class Memory:
        """Memory of a machine with room for five runs."""

        available = 5.5 * local.GIB_PER_WORKER * 2**30

    monkeypatch.setattr(local.psutil, "virtual_memory", lambda: Memory)
    assert local.fitting_workers() == 5
    monkeypatch.setattr(local, "available_cores", lambda: [0, 1])
    assert local.fitting_workers() == 2


IN_USE = "error: --workdir=runs/r is in use by process 7 on host since today; wait until it ends or give another --work"


def test_a_log_is_added_to_and_a_run_that_another_process_trains_is_not_called_failed(run, console, tmp_path):
    live = run("live", f"import sys; sys.exit({IN_USE!r})".replace("sys.exit(", "print(") + "; sys.exit(2)")
    live.workdir.mkdir(parents=True)
    log = tmp_path / "sweep" / "live.log"
    log.write_text("step 7 of the live run\nhalf a li")
    assert local.train_all([live], 1, console) == []
    assert "live: another process trains it; --workdir=runs/r is in use by process 7" in console.file.getvalue()
    lines = log.read_text().splitlines()
    assert lines[:2] == ["step 7 of the live run", "half a li"]
    assert (lines[2][:8], lines[3:]) == ("started ", [IN_USE])
    assert failure(live.workdir) is None
    assert state(live.workdir) == "not started"


def test_a_run_that_was_stopped_before_training_is_not_called_failed(run, console):
    stopped = run("stopped", "import sys; sys.exit(75)")
    assert local.train_all([stopped], 1, console) == []
    assert "stopped: stopped by a signal before training; the same command resumes it" in console.file.getvalue()


def test_a_damaged_summary_does_not_stop_the_sweep(run, console, tmp_path):
    damaged = run("damaged", finishing("damaged", tmp_path))
    (damaged.workdir / "summary.json").write_text('{"status": "finished"}')
    local.train_all([damaged, run("good", finishing("good", tmp_path))], 1, console)
    assert "damaged: " in console.file.getvalue()
    assert "summary.json is damaged: its content has no steps" in console.file.getvalue()
    assert "good: training error 25.00%" in console.file.getvalue()
