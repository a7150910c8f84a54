"""Surgery as a user types it: from a run to a run, which is evaluated and trained."""

import pathlib

import pytest

from resnet_jax.rundir import MADE_BY_SURGERY, read_config
from resnet_jax.safe_files import read_json
from tests.experiments.conftest import SMALL

pytestmark = pytest.mark.xdist_group("commands")  # Few runs serve all tests.


@pytest.fixture(scope="module")
def runs(trained):
    """Return the directories of a plain and a residual run."""
    return trained / "plain20", trained / "resnet20"


@pytest.fixture(scope="module")
def deeper(commands, runs, tmp_path_factory):
    """Return a plain net made deeper, and what the command said."""
    out = tmp_path_factory.mktemp("made") / "deeper"
    words = (f"--run={runs[0]}", "--depth=14", "--images=100", f"--out={out}")
    return out, commands("surgery", "insert_identity", *words)


def error_of(commands, run, split, folder):
    output = folder / f"{run.name}.json"
    done = commands("evaluate", f"--run={run}", f"--split={split}", f"--output={output}")
    assert done.returncode == 0, done.stderr
    [net] = read_json(output)["nets"]
    return net["net"], net["top1_error"], net["loss"]


def test_a_deeper_net_is_checked_and_evaluated_as_the_old_one(commands, runs, deeper, tmp_path):
    out, done = deeper
    assert done.returncode == 0, done.stderr
    assert "3 identity blocks were inserted into plain-8." in done.stdout
    assert "Checked against the old net" in done.stdout
    assert f"The run directory of the new net, plain-14, is {out}" in done.stdout
    old, new = (error_of(commands, run, "test", tmp_path) for run in (runs[0], out))
    assert (old[0], new[0]) == ("plain-8", "plain-14")
    assert new[1:] == pytest.approx(old[1:], rel=1e-4)

    surgery = read_json(out / "surgery.json")
    checks = surgery.pop("checks")
    assert surgery == {
        "version": 2,
        "operation": "insert_identity",
        "settings": {"depth": 14},
        "source": {"run": str(runs[0]), "step": 4},
    }
    assert checks["error_before"] == checks["error_after"]
    assert checks["largest_logit_difference"] < 1e-4
    assert (checks["split"], checks["images"], checks["compared_with"]) == ("train", 100, "the old net")
    summary = read_json(out / "summary.json")
    assert (summary["status"], summary["steps"], summary["final"]) == (MADE_BY_SURGERY, 0, {})
    assert read_config(out).config.model.to_dict() == read_config(runs[0]).config.model.to_dict() | {"depth": 14}
    assert len(read_json(out / "environment.json")) == 1


def test_a_comparison_leaves_it_out_with_the_reason(commands, runs, deeper, tmp_path):
    done = commands("compare", str(runs[0]), str(deeper[0]), f"--out={tmp_path / 'comparison'}")
    assert done.returncode == 0, done.stderr
    assert f"{deeper[0]} is left out: its net was made by surgery, not trained." in done.stdout


@pytest.mark.slow
def test_training_continues_from_it_and_resumes(commands, deeper, tmp_path):
    words = ("--config=configs/digits_plain20.py", *SMALL, "--config.model.depth=14")
    workdir = tmp_path / "run"
    done = commands("main", *words, f"--from={deeper[0]}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert read_config(workdir).config.from_run == str(deeper[0])
    again = commands("main", *words, f"--config.from_run={deeper[0]}", f"--workdir={workdir}")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    refused = commands("main", *words, f"--config.from_run={deeper[0]}", "--from=runs/x", f"--workdir={workdir}")
    assert refused.returncode == 2
    assert f"--from=runs/x and config.from_run={deeper[0]} name two runs; give one of them." in refused.stderr


def test_a_net_of_other_layers_is_refused(commands, deeper, tmp_path):
    words = ("--config=configs/digits_plain20.py", *SMALL, f"--from={deeper[0]}", f"--workdir={tmp_path / 'run'}")
    done = commands("main", *words)
    assert done.returncode == 2
    assert "holds plain-14, but this run trains plain-8; they differ in stage1/block1/conv1 (none here, " in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "words", "title"),
    [
        ("residual", ("fold_norms",), "residual-8"),
        ("residual", ("to_plain",), "plain-8"),
        ("plain", ("to_residual",), "residual-8"),
        ("residual", ("delete", "--blocks=stage2/block0"), "residual-8"),
        ("residual", ("insert_identity", "--depth=20"), "residual-20"),
        ("plain", ("insert_identity", "--depth=14", "--noise=0.03", "--seed=2"), "plain-14"),
    ],
    ids=str,
)
def test_every_operation_makes_a_run_with_the_error_it_says(commands, runs, kind, words, title, tmp_path):
    run = runs[kind == "residual"]
    done = commands("surgery", *words, f"--run={run}", f"--out={tmp_path / 'out'}", "--images=5000")
    assert done.returncode == 0, done.stderr
    checks = read_json(tmp_path / "out" / "surgery.json")["checks"]
    assert checks["images"] == 1500
    net, error, _ = error_of(commands, tmp_path / "out", "train", tmp_path)
    assert (net, error) == (title, pytest.approx(checks["error_after"], abs=1 / 1500))


@pytest.mark.slow
def test_a_net_of_plain_blocks_trains_and_its_weights_are_a_source_too(commands, runs, tmp_path):
    exported = tmp_path / "net.safetensors"
    assert commands("export", f"--run={runs[1]}", f"--output={exported}").returncode == 0
    config = ("--config=configs/digits_resnet20.py", *SMALL)
    done = commands("surgery", "to_plain", *config, f"--weights={exported}", f"--out={tmp_path / 'plain'}")
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "plain" / "surgery.json")["source"] == {"weights": str(exported)}
    overrides = ("--config.model.residual=False", "--config.model.norm=none", "--config.model.reserve=True")
    trained = commands("main", *config, *overrides, f"--from={tmp_path / 'plain'}", f"--workdir={tmp_path / 'run'}")
    assert trained.returncode == 0, trained.stderr
    # The directory itself is a run of its config, too.
    here = commands("main", *config, *overrides, f"--workdir={tmp_path / 'plain'}")
    assert here.returncode == 0, here.stderr
    assert read_json(tmp_path / "plain" / "summary.json")["status"] == "finished"
    otherwise = commands(
        "surgery", "to_plain", *config, "--config.data.mean=channel", f"--weights={exported}", f"--out={tmp_path / 'x'}"
    )
    assert otherwise.returncode == 2
    assert "normalised otherwise than by config.data.mean='channel' and config.data.std='none'" in otherwise.stderr


MISTAKES = [
    ((), "no operation given; give one of insert_identity, fold_norms, to_plain, to_residual, merge_branches, delete,"),
    (("graft",), "unknown operation 'graft'; give one of insert_identity,"),
    (("fold_norms", "word"), "unexpected argument 'word'"),
    (("insert_identity", "--run={plain}", "--out={out}"), "insert_identity needs --depth; see --help."),
    (("fold_norms", "--depth=14", "--out={out}"), "--depth is not for fold_norms; leave it out."),
    (("delete", "--out={out}"), "delete needs --blocks; see --help."),
    (("fold_norms", "--run={plain}"), "--out is missing; give a new folder, e.g. --out=runs/NAME."),
    (("fold_norms", "--run={plain}", "--out={plain}"), "exists already; give a new folder."),
    (("fold_norms", "--out={out}"), "give either --run=runs/NAME or --config=... and --weights=FILE."),
    (
        ("fold_norms", "--config=configs/digits_plain20.py", "--run={plain}", "--out={out}"),
        "give either --run=runs/NAME",
    ),
    (("fold_norms", "--run=nowhere", "--out={out}"), "nowhere is not a run directory"),
    (("fold_norms", "--weights=w.safetensors", "--out={out}"), "--config is missing"),
    (
        ("to_plain", "--run={plain}", "--out={out}"),
        "to_plain is not exact for plain-8 with config.model.residual=False",
    ),
    (("delete", "--run={plain}", "--out={out}", "--blocks=stage9"), "plain-8 has no block 'stage9'; its blocks are"),
    (("fold_norms", "--run={plain}", "--out={out}", "--images=0"), "--images"),
    (("fold_norms", "--run={plain}", "--out=/proc/run"), "--out=/proc/run cannot be written"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes_are_refused_in_one_line_and_nothing_is_written(commands, runs, words, message, tmp_path):
    out = pathlib.Path(tmp_path / "out")
    done = commands("surgery", *[word.format(plain=runs[0], out=out) for word in words])
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert message in line
    assert "Traceback" not in done.stderr
    assert not out.exists()
