"""Diagnosis as a user types it: of runs with and without kept nets, and of a file of weights."""

import shutil

import pytest

from resnet_jax.instruments import INSTRUMENTS, diagnosis
from resnet_jax.rundir import KEPT
from tests.experiments.conftest import SMALL

pytestmark = pytest.mark.xdist_group("commands")  # Two runs serve all tests.
FEW = ("--examples=24", "--batch=16")
CONFIG = "--config=configs/digits_resnet20.py"


@pytest.fixture
def runs(trained, tmp_path):
    """Return a folder with a run that kept nets and one that did not, without measurements."""
    for name in ("kept", "bare"):
        shutil.copytree(trained / "resnet20", tmp_path / "runs" / name)
    shutil.rmtree(tmp_path / "runs" / "bare" / KEPT)
    return tmp_path / "runs"


def measured(folder):
    return [(each.instrument, each.step) for each in diagnosis.read(folder)]


def test_instruments_measure_at_their_steps_and_what_is_there_is_not_measured_again(commands, runs):
    words = ("diagnose", str(runs / "kept"), *FEW, "--only=responses,deletions")
    done = commands(*words)
    assert done.returncode == 0, done.stderr
    # Deletions are of trained nets; the run has no nets of the other steps at which responses are measured.
    assert measured(runs / "kept") == [("deletions", 4), ("responses", 0), ("responses", 4)]
    assert done.stdout.splitlines()[-1].startswith("Added to diagnosis/: 3 measurements, of 1 net, on cpu.")

    again = commands(*words)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1].startswith("Added to diagnosis/: 0 measurements, of 1 net")
    more = commands("diagnose", str(runs / "kept"), *FEW, "--only=responses", "--at=1,end")
    assert more.stdout.splitlines()[-1].startswith("Added to diagnosis/: 1 measurement, of 1 net")
    other = commands("diagnose", str(runs / "kept"), *FEW, "--only=responses", "--seed=1", "--at=0")
    assert other.stdout.splitlines()[-1].startswith("Added to diagnosis/: 1 measurement, of 1 net")
    steps = [each.step for each in diagnosis.read(runs / "kept", "responses")]
    assert steps == [0, 4, 1, 0]


def test_a_measurement_says_of_what_it_is_and_how_to_repeat_it(commands, runs):
    done = commands("diagnose", str(runs), *FEW, "--only=responses", "--at=0")
    assert done.returncode == 0, done.stderr
    [each] = diagnosis.read(runs / "kept")
    assert (each.instrument, each.net, each.run, each.seed, each.data, each.step) == (
        "responses",
        "residual-8",
        "kept",
        0,
        "digits",
        0,
    )
    assert each.settings == {"examples": 24, "batch": 16, "seed": 0}
    assert (each.statistics, each.model["depth"]) == ("batch", 8)
    assert each.blocks == ["stage1/block0", "stage2/block0", "stage3/block0"]
    assert each.result["deviation"] == [1] * 6
    assert each.command == ["python", "-m", "experiments.diagnose", str(runs), *FEW, "--only=responses", "--at=0"]
    assert each.seconds > 0
    assert each.environment["packages"]


def test_a_run_without_kept_nets_is_measured_at_what_it_has_and_says_so(commands, runs):
    done = commands("diagnose", str(runs), *FEW, "--only=responses")
    assert done.returncode == 0, done.stderr
    assert measured(runs / "bare") == [("responses", 0), ("responses", 4)]
    assert "1 of 2 runs kept no nets during training and are measured at what they have; " in done.stdout
    assert "--config.keep_checkpoints='(0,1,10,100)' keeps them." in done.stdout


def test_weights_are_measured_with_their_running_statistics(commands, runs, tmp_path):
    file = tmp_path / "net.safetensors"
    assert commands("export", f"--run={runs / 'kept'}", f"--output={file}").returncode == 0
    words = (CONFIG, *SMALL, f"--weights={file}", *FEW, "--only=responses")
    done = commands("diagnose", *words, f"--out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    [each] = diagnosis.read(tmp_path / "out")
    assert (each.run, each.step, each.seed, each.statistics) == ("net", None, None, "running")

    other = file.rename(tmp_path / "other.safetensors")
    done = commands("diagnose", CONFIG, *SMALL, f"--weights={other}", f"--out={tmp_path / 'out'}")
    assert done.returncode == 2
    assert f"--out={tmp_path / 'out'} has measurements of net, not other; give another." in done.stderr


def test_an_instrument_that_does_not_apply_prints_a_message(commands, runs):
    done = commands("diagnose", runs / "kept", *FEW, "--only=confusion")
    assert done.returncode == 2
    assert "confusion: 24 images do not make two batches for residual-8" in done.stdout
    assert diagnosis.read(runs / "kept") == []


def test_the_list_names_every_instrument(commands):
    done = commands("diagnose", "--list")
    assert done.returncode == 0, done.stderr
    for name in INSTRUMENTS:
        assert name in done.stdout


MISTAKES = [
    ((), "give folders of runs, e.g. runs/digits_depth, or --config=... and --weights=FILE --out=DIR."),
    (("{runs}", "--weights=w.safetensors"), "give folders of runs"),
    (("{runs}", "--only=probe"), "unknown instrument 'probe'; give one of gradients,"),
    (("{runs}", "--only=responses", "--all"), "give either --only or --all."),
    (("{runs}/plain20", "--at=7"), "there is no net of step 7, only of 0, 1, 2, 3, 4; change --at."),
    (("{runs}/plain20", "--at=first"), "--at=first: 'first' is not a step; use numbers or 'end', e.g. 0,100,end."),
    ((CONFIG, "--weights=w.safetensors"), "--out is missing; give a folder for the measurements of --weights."),
    (("{runs}", "--out=x"), "--out and --config are for --weights; measurements of a run are in its own directory."),
    (("{runs}/nowhere",), "nowhere"),
    (("{runs}", "--batch=1"), "--batch"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes_are_refused_in_one_line_and_nothing_is_written(commands, trained, words, message):
    done = commands("diagnose", *[word.format(runs=trained) for word in words])
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert message in line
    assert "Traceback" not in done.stderr
    assert not list(trained.glob("*/diagnosis"))
