"""Sweeps and comparisons as a user types them, on nets small enough for a test."""

import json
import os
import pathlib
import pty
import re
import shutil
import subprocess
import sys
import threading
import time

import pytest

from tests.analysis.synthetic import set_losses, write_run
from tests.images import write_folder

pytestmark = pytest.mark.xdist_group("sweep")  # One run serves many tests.
ROOT = pathlib.Path(__file__).parents[2]

SWEEP = '''"""Does depth degrade {what}?"""

from configs import recipes
from resnet_jax.sweeps.grid import axis, product


def get_config():
    config = recipes.digits(depth=8, residual=False)
    config.batch_size = 16
    config.steps = 4
    config.log_every = 2
    return config


def get_sweep():
    return product(axis("model.residual", [False, True]), axis("model.depth", {depths}))
'''


def write_sweep(folder, what="a test", depths=(8, 14)):
    file = folder / "tiny.py"
    file.write_text(SWEEP.format(what=what, depths=list(depths)))
    return f"--config={file}"


@pytest.fixture(scope="module")
def swept(commands, tmp_path_factory):
    """Return the sweep's flags, its folder, and the result of its command."""
    folder = tmp_path_factory.mktemp("sweep")
    flags = (write_sweep(folder, depths=[8]), f"--folder={folder / 'runs'}")
    return flags, folder / "runs", commands("sweep", *flags)


def test_a_sweep_trains_all_its_runs(swept):
    _, folder, result = swept
    assert result.returncode == 0, result.stderr
    names = {"plain-8", "residual-8"}
    assert {path.parent.name for path in folder.glob("*/summary.json")} == names
    recorded = json.loads((folder / "sweep.json").read_text())
    assert recorded["question"] == "Does depth degrade a test?"
    assert recorded["tuned"] == {}
    assert recorded["runs"]["plain-8"] == {"model.residual": False, "model.depth": 8}
    for name in names:
        assert f"{name}: training error " in result.stderr


def test_the_same_command_skips_finished_runs_and_dry_run_lists_them(commands, swept):
    flags, folder, _ = swept
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*")}
    result = commands("sweep", *flags)
    assert result.returncode == 0
    assert "2 of 2 runs have already finished." in result.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/*")} == before
    listed = commands("sweep", *flags, "--dry_run", "--shard=1/2")
    assert listed.returncode == 0
    assert listed.stdout.count("finished") == 1
    assert "1 runs" in listed.stdout


def test_a_changed_config_in_the_same_place_is_refused(commands, swept):
    flags, folder, _ = swept
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*")}
    result = commands("sweep", *flags, "--config.optimizer.momentum=0.5")
    assert result.returncode == 2
    assert "differing in config.optimizer.momentum (0.9 there, 0.5 here)" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/*")} == before


def test_another_sweep_in_the_same_folder_is_refused(commands, swept, tmp_path):
    _, folder, _ = swept
    result = commands("sweep", write_sweep(tmp_path), f"--folder={folder}")
    assert result.returncode == 2
    assert "already holds the sweep" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--config.model.depth=8"],
            "the sweep varies --config.model.depth itself; select runs with --only",
        ),
        (["--only=model.dept=8"], "--only=model.dept=8: unknown field"),
        (["--shard=3/2"], "--shard=3/2 must be K/N"),
        (["--workers=0"], "flag --workers=0"),
        (["--launcher=slurm", "--slurm=x"], "--slurm=x is not of the form NAME=VALUE."),
        (["--launcher=slurm"], "--launcher=slurm with --slurm={} cannot submit"),
        (["--watch", "--dry_run"], "--dry_run and --watch both show the runs without training; give one of them."),
        (["word"], "unexpected argument 'word'"),
    ],
)
def test_a_mistake_is_refused_in_one_line(commands, words, message, tmp_path):
    result = commands("sweep", write_sweep(tmp_path), f"--folder={tmp_path / 'runs'}", *words)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_settings_of_slurm_are_numbers_truth_values_or_words(commands, tmp_path):
    """Without a Slurm the command prints the settings with which it could not submit."""
    settings = "mem_gb=1.5,timeout_min=600,slurm_use_srun=False,slurm_time=1-00:00:00,slurm_partition=gpu-a"
    flags = (write_sweep(tmp_path), f"--folder={tmp_path / 'runs'}", "--launcher=slurm", f"--slurm={settings}")
    read = "{'mem_gb': 1.5, 'timeout_min': 600, 'slurm_use_srun': False, 'slurm_time': '1-00:00:00', "
    assert f"{read}'slurm_partition': 'gpu-a'}}" in commands("sweep", *flags).stderr


def test_a_tuned_sweep_needs_validation_examples_and_says_what_its_common_value_is(commands, tmp_path):
    flags = (write_sweep(tmp_path), f"--folder={tmp_path / 'runs'}")
    file = tmp_path / "tiny.py"
    text = file.read_text().replace("import axis, product", "import axis, product, tuned")
    file.write_text(text.replace('axis("model.depth", [8, 14])', 'tuned("optimizer.learning_rate", [0.01, 0.1])'))
    result = commands("sweep", *flags, "--dry_run")
    assert result.returncode == 2
    assert "get_sweep() tunes optimizer.learning_rate, which is chosen by validation error, but" in result.stderr
    result = commands("sweep", *flags, "--config.data.validation_examples=100", "--launcher=slurm", "--slurm=a=b")
    assert json.loads((tmp_path / "runs" / "sweep.json").read_text())["tuned"] == {"optimizer.learning_rate": 0.03}


def test_an_empty_sweep_a_failing_one_and_a_config_without_sweep_are_refused(commands, tmp_path):
    where = f"error: {write_sweep(tmp_path, depths=())}, line 15: "
    empty = commands("sweep", write_sweep(tmp_path, depths=()), "--dry_run")
    assert (empty.returncode, empty.stdout) == (2, "")
    assert empty.stderr.startswith(f"{where}get_sweep() returns no runs; ")
    (tmp_path / "tiny.py").write_text((tmp_path / "tiny.py").read_text().replace("axis(", "missing("))
    failing = commands("sweep", f"--config={tmp_path / 'tiny.py'}")
    assert failing.returncode == 2
    assert failing.stderr == f"{where.replace('15', '16')}NameError: name 'missing' is not defined.\n"
    assert "has no get_sweep()" in commands("sweep", "--config=configs/digits_plain20.py").stderr


@pytest.mark.parametrize("flags", [(), ("--dry_run",), ("--launcher=slurm",)])
def test_no_run_starts_if_one_cannot_be_trained_and_all_reasons_are_one_message(commands, tmp_path, flags):
    config = write_sweep(tmp_path)
    with (tmp_path / "tiny.py").open("a") as file:
        file.write(
            """    yield {"model.dept": 8}
    yield {"seed": 1}
    yield {"gates.without": "every_second"}
    yield {"batch_size": 3000}
    yield {"data.name": "folder", "data.data_dir": "/no/such", "data.image_size": 32, "data.padding": 0}
    yield {"from_run": "/no/such"}
"""
        )
    text = (tmp_path / "tiny.py").read_text()
    (tmp_path / "tiny.py").write_text(text.replace("    return product(", "    yield from product("))
    done = commands("sweep", config, f"--folder={tmp_path / 'runs'}", *flags)
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"error: {config}, line 15: 5 of 10 runs cannot be trained. model.dept=8: unknown fie"
    )
    for reason in (
        "did you mean config.model.depth? ",
        "plain-8-without_every_second_shortcut: config.gates.without='every_second' needs blocks with shortcuts",
        "plain-8-batch_size3000: config.batch_size=3000 is more than the 1500 training examples",
        ": /no/such does not exist; set config.data.data_dir",
        "plain-8-from_such: config.from_run=/no/such is not a run directory",
    ):
        assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_batch_is_checked_against_the_devices_of_the_runs_unless_they_are_elsewhere(commands, tmp_path):
    flags = (write_sweep(tmp_path), f"--folder={tmp_path / 'runs'}", "--config.batch_size=15", "--dry_run")
    here = commands("sweep", *flags)
    assert here.returncode == 2
    assert "config.batch_size=15 cannot be divided among 2 devices; give a multiple of 2." in here.stderr
    assert commands("sweep", *flags, "--launcher=slurm").returncode == 0


def test_a_shard_without_runs_is_refused(commands, tmp_path):
    done = commands("sweep", write_sweep(tmp_path), f"--folder={tmp_path / 'runs'}", "--shard=5/5")
    assert (done.returncode, done.stderr) == (
        2,
        "error: --shard=5/5 has none of the selected runs; give fewer shards.\n",
    )


def test_training_refuses_a_sweep_file_unless_all_that_it_varies_is_given(commands, tmp_path):
    config, workdir = write_sweep(tmp_path), f"--workdir={tmp_path / 'run'}"
    for words in ((), ("--config.model.depth=8",), ("--config.seed=3", workdir), ("--describe",)):
        done = commands("main", config, *words)
        assert done.returncode == 2
        assert done.stderr.startswith(
            f"error: {config} is a sweep file; train its 4 runs with python -m experiments.sw"
        )
    assert not (tmp_path / "run").exists()
    assert commands("main", config, "--config.model.depth=8", "--config.model.residual=True", "--describe").stdout


def test_an_absent_data_set_is_named_by_dry_run_and_not_downloaded(commands, tmp_path):
    done = commands("sweep", "--config=configs/sweeps/cifar_shortcuts.py", "--dry_run", TFDS_DATA_DIR=str(tmp_path))
    assert done.returncode == 0
    assert done.stderr.startswith("Data set cifar10 is not on this machine yet, so whether its size suits the runs")
    assert list(tmp_path.iterdir()) == []


def test_what_others_have_found_is_recorded_and_checked(commands, tmp_path):
    flag = write_sweep(tmp_path)
    sweep = tmp_path / "tiny.py"
    sweep.write_text(sweep.read_text() + 'LITERATURE = {"plain": ("degrades", "He et al. 2015")}\n')
    words = (flag, f"--folder={tmp_path / 'runs'}", "--launcher=slurm", "--slurm=a=b")
    commands("sweep", *words)  # There is no such partition, but the sweep is recorded.
    recorded = json.loads((tmp_path / "runs" / "sweep.json").read_text())
    assert recorded["literature"] == {"plain": ["degrades", "He et al. 2015"]}
    sweep.write_text(sweep.read_text().replace('"degrades"', '"fails"'))
    done = commands("sweep", *words)
    assert done.returncode == 2
    assert "LITERATURE of" in done.stderr


@pytest.mark.slow
def test_runs_that_fail_are_named_and_the_exit_status_says_so(commands, tmp_path):
    root = write_folder(tmp_path / "images", suffix=".png")
    for file in root.glob("*/*"):
        file.write_bytes(file.read_bytes()[:50])  # Nothing is decoded before a run trains.
    flags = (write_sweep(tmp_path), f"--folder={tmp_path / 'runs'}", "--only=model.residual=False")
    words = ("--config.data.name=folder", f"--config.data.data_dir={root}", "--config.data.image_size=32")
    result = commands("sweep", *flags, *words, "--config.data.padding=0")
    assert result.returncode == 1
    assert result.stderr.count("failed with exit status 2") == 2
    assert "error: none of 54 images can be decoded" in result.stderr
    assert "2 of 2 runs failed: " in result.stdout


@pytest.mark.slow
def test_an_interrupted_sweep_stops_its_runs_and_is_continued(commands, tmp_path):
    flags = (write_sweep(tmp_path), f"--folder={tmp_path / 'runs'}", "--only=model.depth=8", "--workers=2")
    words = [sys.executable, "-m", "experiments.sweep", *flags, "--config.steps=1000000"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while sum(path.stat().st_size > 0 for path in tmp_path.glob("runs/*/metrics.jsonl")) < 2:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(2)
        _, stderr = process.communicate()
    assert process.returncode == 130
    assert "Interrupted; the same command continues" in stderr
    summaries = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/summary.json")]
    assert [summary["status"] for summary in summaries] == ["preempted"] * 2
    listed = commands("sweep", *flags, "--config.steps=1000000", "--dry_run").stdout
    assert listed.count("preempted at step") == 2


def test_watching_a_finished_sweep_shows_it_without_escape_codes_and_changes_nothing(commands, swept):
    flags, folder, _ = swept
    before = {path: path.stat().st_mtime_ns for path in folder.glob("**/*")}
    for words, count in (((*flags, "--only=model.residual=True"), 1), ((f"--folder={folder}",), 2)):
        result = commands("sweep", *words, "--watch", FORCE_COLOR="1", COLUMNS="40")
        assert result.returncode == 0, result.stderr
        assert "\x1b" not in result.stdout
        assert result.stdout.count(" 4/4 ") == count
        assert f"{count} of {count} finished" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.glob("**/*")} == before


def test_watching_ends_with_status_1_and_the_reason_if_a_run_has_failed(commands, tmp_path):
    write_run(tmp_path / "good")
    write_run(tmp_path / "bad", status=None)
    (tmp_path / "bad.log").write_text("error: killed by signal 9\n")
    (tmp_path / "sweep.json").write_text(json.dumps({"runs": {"good": {}, "bad": {}}}))
    result = commands("sweep", f"--folder={tmp_path}", "--watch")
    assert result.returncode == 1
    assert f"bad failed: killed by signal 9. Its log is {tmp_path / 'bad.log'}." in result.stdout


@pytest.mark.parametrize(
    ("words", "sweep", "message"),
    [
        ([], None, "has no sweep.json, so no sweep has begun there; give its --config too."),
        (["--only=seed=0"], {"runs": {}}, "--only and --shard select runs of a --config; give one."),
    ],
)
def test_flags_that_need_more_than_a_folder_are_refused(commands, words, sweep, message, tmp_path):
    if sweep:
        (tmp_path / "sweep.json").write_text(json.dumps(sweep))
    result = commands("sweep", f"--folder={tmp_path}", "--watch", *words)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def start(*words, **streams):
    return subprocess.Popen([sys.executable, "-m", "experiments.sweep", *words], cwd=ROOT, text=True, **streams)


@pytest.mark.slow
def test_watching_begins_before_the_sweep_and_ends_with_it(tmp_path):
    flags = (write_sweep(tmp_path), f"--folder={tmp_path / 'runs'}", "--only=model.depth=8")
    with start(*flags, "--watch", stdout=subprocess.PIPE) as watching:
        said = [watching.stdout.readline()]
        while "not started" not in said[-1]:
            said.append(watching.stdout.readline())
        with start(*flags, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as training:
            rest, _ = watching.communicate(timeout=300)
    assert (training.returncode, watching.returncode) == (0, 0)
    assert "2 of 2 finished" in rest


@pytest.mark.slow
def test_on_a_terminal_the_pace_is_drawn_and_ctrl_c_ends_only_the_watching(tmp_path):
    flags = (write_sweep(tmp_path), f"--folder={tmp_path / 'runs'}", "--only=model.depth=8,model.residual=True")
    ours, theirs = pty.openpty()
    long = (*flags, "--config.steps=1000000")
    with (
        start(*long, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as training,
        start(*long, "--watch", stdout=theirs, stderr=subprocess.PIPE) as watching,
    ):
        seen = ""
        # The row of the run: training, its steps, errors, images/s and time left.
        while not re.search(r"residual-8 +training +[\d,]+/1,000,000 +[\d.]+% +[\d.]+% +[\d,]+ +\d+:\d\d:\d\d", seen):
            assert watching.poll() is None
            seen += os.read(ours, 10_000).decode(errors="ignore")
        assert "\x1b[?25l" in seen  # The cursor is hidden, so the table is drawn in place.
        watching.send_signal(2)
        _, stderr = watching.communicate(timeout=60)
        assert watching.returncode == 130
        assert stderr == "No longer watched; the runs continue.\n"
        assert training.poll() is None
        training.send_signal(2)
    os.close(theirs)


@pytest.mark.slow
def test_a_watched_comparison_waits_follows_each_record_and_ends_with_the_sweep(commands, tmp_path):
    folder, page = tmp_path / "runs", tmp_path / "runs" / "comparison" / "report.html"
    folder.mkdir()
    (folder / "sweep.json").write_text(json.dumps({"question": "Q?", "command": ["c"], "runs": {"run": {}}}))
    refresh, versions = '<meta http-equiv="refresh"', []

    def follow():
        write_run(tmp_path / "made", status=None, records=30).rename(folder / "run")
        summary = (write_run(tmp_path / "finished") / "summary.json").read_text()
        records = (tmp_path / "finished" / "metrics.jsonl").read_text().splitlines(keepends=True)
        while not page.exists():
            time.sleep(0.05)
        versions.append(page.read_text())
        written = page.stat().st_mtime_ns
        with (folder / "run" / "metrics.jsonl").open("a") as file:
            file.write("".join(records[-3:]))
        while page.stat().st_mtime_ns == written:
            time.sleep(0.05)
        versions.append(page.read_text())
        (folder / "run" / "summary.json").write_text(summary)

    thread = threading.Thread(target=follow)
    program = (
        "from experiments import command, compare\n"
        "compare.SECONDS_BETWEEN_LOOKS, compare.PAUSE = 1, 0\n"
        "command.run(compare.main)"
    )
    threading.Timer(1.5, thread.start).start()  # The folder has no runs at first.
    result = commands("compare", folder, "--watch", program=program)
    thread.join()
    assert result.returncode == 0, result.stderr
    lines = [line.partition(" ")[2] for line in result.stdout.splitlines()]
    assert lines[0].startswith(f"nothing compared yet: no runs found in {folder}")
    assert lines.count(f"{page}: 0 of 1 runs finished, 1 training") == 2
    assert len(set(versions)) == 2
    assert all(refresh in version for version in versions)
    assert refresh not in page.read_text()
    assert f"Report: {page}" in result.stdout


def test_a_comparison_of_the_sweep_writes_all_files_and_prints_the_verdict(commands, swept):
    _, folder, _ = swept
    result = commands("compare", folder)
    assert result.returncode == 0, result.stderr
    figures = {f"{name}.{suffix}" for name in ("curves", "nets") for suffix in ("png", "svg")}  # Two depths only.
    names = figures | {"table.md", "table.csv", "report.html"}
    assert {path.name for path in (folder / "comparison").iterdir()} == names
    assert (folder / "comparison" / "curves.png").read_bytes().startswith(b"\x89PNG")
    for part in ("plain-8", "residual-8", "Does depth degrade a test?", "No verdict"):
        assert part in result.stdout
    assert max(map(len, result.stdout.partition("Does depth")[0].splitlines())) <= 80
    assert str(folder / "comparison" / "report.html") in result.stdout


def test_runs_on_different_kinds_of_device_are_compared_only_where_a_flag_asks_for_it(commands, tmp_path):
    for depth, error in ((20, 0.1), (56, 0.4)):
        for seed in range(3):
            write_run(tmp_path / f"{depth}-{seed}", depth, error=error + 0.001 * seed, seed=seed)
    environment = tmp_path / "56-2" / "environment.json"
    environment.write_text(environment.read_text().replace('"cpu"', '"TPU v5"'))
    result = commands("compare", tmp_path)
    assert "not judged (+29.95 points, 2 seeds)" in result.stdout
    assert "56-2 trained on TPU v5 instead of cpu, and is left out; --mixed_devices" in result.stdout
    mixed = commands("compare", tmp_path, "--mixed_devices")
    assert "plain, 20 to 56 layers: degrades, +30.00 points" in mixed.stdout


def write_tuned(folder, depths=(20, 56), **fields):
    """Write runs of two rates and three seeds, where the deeper nets need the smaller rate, and their sweep.json."""
    for depth in depths:
        for rate in (0.03, 0.1):
            for seed in range(3):
                error = 0.6 if depth == 56 and rate == 0.1 else 0.1
                run = write_run(
                    folder / f"{depth}-{rate}-{seed}",
                    depth,
                    error=error + 0.001 * seed,
                    seed=seed,
                    validation=error + rate / 10,
                    optimizer__learning_rate=rate,
                    **fields,
                )
                set_losses(run, [2.0 * 0.9**record for record in range(30)])
    sweep = {"question": "Q?", "command": ["c"], "runs": {}, "tuned": {"optimizer.learning_rate": 0.1}}
    (folder / "sweep.json").write_text(json.dumps(sweep))


def test_a_tuned_sweep_is_compared_at_the_common_rate_and_at_each_nets_own_best(commands, tmp_path):
    write_tuned(tmp_path)
    result = commands("compare", tmp_path)
    assert result.returncode == 0, result.stderr
    field = "optimizer.learning_rate"
    assert "All nets at learning rate 0.1: plain, 20 to 56 layers: degrades, +50.00 points" in result.stdout
    at_best = "Each net at the best learning rate of those tried: plain, 20 to 56 layers: does not degrade"
    assert at_best in result.stdout
    assert "10.3 (10.3, 10.3, 10.3) *" in result.stdout
    page = (tmp_path / "comparison" / "report.html").read_text()
    assert "Validation error (%) by learning rate" in page
    assert at_best in page
    (tmp_path / "sweep.json").unlink()
    flagged = commands("compare", tmp_path, f"--tuned={field}=0.1", f"--out={tmp_path / 'flagged'}")
    assert "All nets at learning rate 0.1: plain, 20 to 56 layers: degrades" in flagged.stdout


def test_rates_are_measured_written_and_said(commands, tmp_path):
    write_tuned(tmp_path, depths=(8, 14, 20, 26, 32, 56))
    result = commands("compare", tmp_path, "--rates", "--thresholds=0.5,1")
    assert result.returncode == 0, result.stderr
    for threshold in ("1", "0.5"):
        assert f"plain, steps to a training loss of {threshold}: times 1.00 (95 % interval" in result.stdout
    assert "plain-20: the training loss falls exponentially, tau = " in result.stdout
    out = tmp_path / "comparison"
    assert (out / "rates.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "rates.svg").exists()
    assert [each["threshold"] for each in json.loads((out / "rates.json").read_text())["growths"]] == [1.0, 0.5]
    page = (out / "report.html").read_text()
    assert "<h2>Convergence rates</h2>" in page
    assert page.count('<div class="figure"><svg') == 3  # Depths, nets and rates.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tuned=model.depth"], "model.depth cannot be tuned; give a number of the optimizer"),
        (["--tuned=optimizer.learning_rate=fast"], "--tuned=optimizer.learning_rate=fast: 'fast' is no"),
        (["--tuned=optimizer.learning_rate"], "run has no validation error, by which the best"),
        (["--rates", "--thresholds=1,-2"], "--thresholds=1,-2 must be losses above 0"),
        (["--rates", "--thresholds=low"], "--thresholds=low must be losses above 0"),
        (["--rates", "--thresholds="], "--thresholds= must be losses above 0"),
    ],
)
def test_a_mistake_in_tuning_or_rates_is_refused_in_one_line(commands, words, message, tmp_path):
    write_run(tmp_path / "run")
    result = commands("compare", tmp_path, *words)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_sweeps_that_tune_different_things_are_not_compared_without_a_flag(commands, tmp_path):
    for name, tuned in (("a", {"optimizer.learning_rate": 0.1}), ("b", {"optimizer.learning_rate": 0.2})):
        write_run(tmp_path / name / "run", validation=0.1)
        sweep = {"question": "Q?", "command": ["c"], "runs": {}, "tuned": tuned}
        (tmp_path / name / "sweep.json").write_text(json.dumps(sweep))
    result = commands("compare", tmp_path / "a", tmp_path / "b")
    assert result.returncode == 2
    assert "the sweeps tune different things, optimizer.learning_rate around 0.1, " in result.stderr


def test_two_sweeps_with_clashing_names_are_distinguished(commands, swept, tmp_path):
    _, folder, _ = swept
    shutil.copytree(folder / "plain-8", tmp_path / "third" / "plain-8")
    result = commands("compare", folder, tmp_path / "third", f"--out={tmp_path / 'out'}", "--log_scale")
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<td>runs/plain-8</td>" in page
    assert "<td>third/plain-8</td>" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no folder given; give a run directory or a folder of run directories"),
        (["nowhere"], "nowhere is not a folder;"),
        (["configs"], "no runs found in configs;"),
        (["--wrong", "configs"], "Unknown command line flag 'wrong'"),
    ],
)
def test_a_comparison_of_nothing_is_refused_in_one_line(commands, words, message):
    result = commands("compare", *words)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
