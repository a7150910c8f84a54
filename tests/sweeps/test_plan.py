"""Which runs a sweep is, and what they cost."""

import importlib
import json
import pathlib
import re

import numpy as np
import pytest

import configs.sweeps
from configs import recipes
from resnet_jax import data, models
from resnet_jax.config import flatten
from resnet_jax.errors import UserError
from resnet_jax.rundir import read_sweep
from resnet_jax.sweeps.grid import axis, chain, product, together, tuned
from resnet_jax.sweeps.plan import Problems, cost, failure, log_of, plan, record_failure, selected_runs, shard, state
from tests.analysis.synthetic import write_run

ROOT = pathlib.Path(__file__).parents[2]


def planned(sweep, base=None):
    problems, base = Problems("the sweep"), base or recipes.digits(20, residual=False)
    runs = plan(base, sweep, pathlib.Path("runs/s"), ["python", "main"], problems)
    problems.report(len(sweep))
    return runs


SWEEPS = sorted(pathlib.Path(path).stem for path in pathlib.Path(configs.sweeps.__path__[0]).glob("*.py"))


def provided(file, *option):
    """Return the question and the runs of the sweep file called ``file``."""
    module = importlib.import_module(f"configs.sweeps.{file}")
    return module.__doc__.partition("\n")[0], planned(module.get_sweep(*option), module.get_config(*option))


@pytest.mark.parametrize("file", SWEEPS)
def test_every_provided_sweep_has_a_question_and_runs_whose_names_say_what_they_are(file):
    question, runs = provided(file)
    assert question.rstrip(")").count("?") == 1
    for run in runs:
        kind, depth = re.match(r"(.*?)-(\d+)(?=-|$)", run.name).groups()
        assert (int(depth), "plain" not in kind) == (run.config.model.depth, run.config.model.residual)
        flat = flatten(run.config.to_dict())
        for field, text in re.findall(
            r"-(seed|learning_rate|survival|shortcut|norm|route|widening)(?=[\d.A-Za-z])([^-]+)", run.name
        ):
            [value] = [value for name, value in flat.items() if name.rpartition(".")[2] == field]
            assert str(value) == text
        _, num_classes = data.shape(run.config.data)
        models.build(run.config.model, num_classes)


@pytest.mark.parametrize("file", SWEEPS)
def test_a_sweep_file_still_has_the_runs_of_its_published_study(file):
    recorded = read_sweep(ROOT / "results" / file)
    if recorded is None:
        pytest.skip("is not published")
    runs = {run.name: json.loads(json.dumps(run.overrides)) for run in provided(file)[1]}
    # A study may have had more seeds than its file, or fewer nets.
    assert {arm(name) for name in recorded["runs"]} <= {arm(name) for name in runs}
    assert {name: runs[name] for name in recorded["runs"] if name in runs} == {
        name: overrides for name, overrides in recorded["runs"].items() if name in runs
    }


def arm(name):
    return re.sub(r"-seed\d+$", "", name)


def test_the_deepest_net_of_figure_6_is_an_option():
    without, names = ({run.name for run in provided("cifar_figure6", *option)[1]} for option in ((), ("1202",)))
    assert names == without | {"residual-1202"}


def test_a_run_has_its_name_config_folder_and_command():
    (run,) = planned([{"model.residual": True, "model.depth": 56, "seed": 3, "optimizer.milestones": (0.5, 0.9)}])
    assert run.name == "residual-56-seed3-milestones_0.5_0.9_"
    assert flatten(run.config.to_dict())["optimizer.milestones"] == [0.5, 0.9]
    assert run.workdir == pathlib.Path("runs/s") / run.name
    assert run.command == [
        "python",
        "main",
        "--config.model.residual=True",
        "--config.model.depth=56",
        "--config.seed=3",
        "--config.optimizer.milestones=(0.5, 0.9)",
        f"--workdir=runs/s/{run.name}",
    ]


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("gates.without", "every_second", "without_every_second_shortcut"),
        ("gates.without", "all_but_first", "with_only_the_first_shortcut_of_each_stage"),
        ("gates.without", "last_stage", "without_shortcuts_in_the_last_stage"),
        ("gates.without", "none", "with_all_shortcuts"),
        ("gates.shortcut_factor", 0.5, "shortcut_factor0.5"),
        ("gates.shortcut_factor", (1, 0.5, 0), "shortcut_factor_1_0.5_0_"),
        ("gates.final", (0, 1, 1, 1), "final_0_1_1_1_"),
        ("gates.shortcut_factor", (1,) * 14 + (0,) * 13, "shortcut_factor14x1_13x0"),
        ("gates.shortcut_factor", (1.0,) * 13 + (0.25,) + (0.0,) * 13, "shortcut_factor13x1_0.25_13x0"),
        ("gates.shortcut_factor", (1, 0) * 13 + (1,), f"shortcut_factor{'1_0_' * 13}1"),
        ("optimizer.milestones", (0.1, 0.2, 0.3, 0.4, 0.5), "milestones_0.1_0.2_0.3_0.4_0.5_"),
    ],
)
def test_names_of_runs_spell_gates_so_that_one_can_read_them(field, value, name):
    (run,) = planned([{"model.residual": True, "model.depth": 56, field: value, "seed": 0}])
    assert run.name == f"residual-56-{name}-seed0"


def test_runs_whose_factors_differ_in_one_of_many_numbers_have_short_names_of_their_own():
    many = [round(0.9**block, 3) for block in range(27)]
    sweep = axis("gates.shortcut_factor", [(*many[:at], 0.12345678, *many[at + 1 :]) for at in range(27)])
    names = {run.name for run in planned(product(axis("model.residual", [True]), sweep))}
    assert len(names) == 27
    assert max(map(len, names)) < 100


def test_names_of_runs_fit_file_systems_and_differ():
    folders = [f"/{letter * 300}{end}" for letter in "aß" for end in "12"]
    names = [run.name for run in planned(axis("data.data_dir", folders))]
    assert len(set(names)) == 4
    assert max(len(name.encode()) for name in names) <= 200


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (
            [{"model.dept": 20}],
            r"^the sweep: 1 of 1 runs cannot be trained\. model\.dept=20: unknown field config\.model\.dept; did you "
            r"mean config\.model\.depth\?$",
        ),
        ([{"model": {"depth": 20}}], r"unknown field config\.model; --fields lists all fields\.$"),
        ([{"model.depth": "deep"}], r"model\.depth='deep': config\.model\.depth='deep': expected int\.$"),
        ([{"seed": True}], r"seed=True: config\.seed=True: expected int\.$"),
        ([{"seed": None}], r"seed=None: config\.seed=None: expected int\.$"),
        ([{"model.depth": 21}], r"config\.model\.depth=21 is not 6n\+2"),
        (
            [{"optimizer.milestones": (100, 150)}],
            r"config\.optimizer\.milestones=\(100, 150\) must be rising fractions",
        ),
        (
            tuned("optimizer.learning_rate", [0.1]),
            r"by validation error, but config\.data\.validation_examples=0; hold",
        ),
        (tuned("seed", [0, 1]), r"tunes seed, but only numbers of the optimizer can be"),
        (
            together(tuned("optimizer.learning_rate", [0.1]), tuned("optimizer.momentum", [0.5])),
            r"tunes optimizer\.learning_rate and optimizer\.momentum; only one field may be tuned",
        ),
        ([{"seed": 1}, {"seed": 1}], r"seed=1: two runs are named plain-20-seed1; remove one\."),
    ],
)
def test_an_invalid_sweep_is_refused(sweep, message):
    with pytest.raises(UserError, match=message):
        planned(sweep)


def test_all_problems_are_one_message_that_gives_each_reason_once():
    with pytest.raises(UserError) as raised:
        planned([*axis("seed", range(3)), *product(axis("model.depth", [21]), axis("seed", range(4))), {"sede": 1}])
    message = str(raised.value)
    assert message.startswith("the sweep: 5 of 8 runs cannot be trained. model.depth=21, seed=0 and 3 more: config.mod")
    assert message.count("is not 6n+2") == 1
    assert message.endswith("sede=1: unknown field config.sede; did you mean config.seed?")


def test_a_message_on_hundreds_of_runs_has_a_bounded_number_of_reasons():
    with pytest.raises(UserError, match=r"300 of 300 runs .* And 280 more reasons\.$") as raised:
        planned(axis("seed", range(-300, 0)))
    assert len(str(raised.value)) < 3000


def test_values_of_numpy_are_those_of_python():
    rates = axis("optimizer.learning_rate", np.array([0.1, 0.2]))
    depths = axis("model.depth", np.arange(20, 21))
    milestones = axis("optimizer.milestones", [tuple(np.array([0.5, 0.75]))])
    run, _ = planned(product(rates, depths, milestones))
    assert run.command[2:5] == [
        "--config.optimizer.learning_rate=0.1",
        "--config.model.depth=20",
        "--config.optimizer.milestones=(0.5, 0.75)",
    ]
    assert json.loads(json.dumps(run.overrides))["model.depth"] == 20


def test_a_tuned_sweep_with_validation_examples_is_a_plan():
    base = recipes.digits(20, residual=False)
    base.data.validation_examples = 100
    (run, _) = planned(tuned("optimizer.learning_rate", [0.01, 0.1]), base)
    assert run.name == "plain-20-learning_rate0.01"
    assert "--config.optimizer.learning_rate=0.01" in run.command


SWEEP = product(axis("model.residual", [False, True]), axis("model.depth", [20, 56]), axis("seed", range(3)))


@pytest.mark.parametrize(
    ("conditions", "count"),
    [("model.depth=56", 6), ("config.model.depth=56,model.residual=True", 3), ("seed=1, model.residual=False", 2)],
)
def test_runs_are_chosen_by_their_fields(conditions, count):
    runs = planned(SWEEP)
    chosen = selected_runs(runs, conditions)
    assert len(chosen) == count
    assert [run for run in runs if run in chosen] == chosen


@pytest.mark.parametrize("value", ["(0.25,0.5)", "[0.25, 0.5]", "(0.25, 0.5)"])
def test_runs_are_chosen_by_fields_of_several_numbers(value):
    runs = planned(product(axis("optimizer.milestones", [(0.25, 0.5), (0.5, 0.75)]), axis("seed", [0, 1])))
    assert selected_runs(runs, f"optimizer.milestones={value},seed=1") == [runs[1]]
    assert selected_runs(runs, f"seed=0, optimizer.milestones={value}") == [runs[0]]


def test_a_choice_of_an_unknown_field_or_of_no_run_is_refused():
    with pytest.raises(UserError, match=r"--only=model\.dept=56: unknown field in 'model\.dept=56'; write FIELD=VALUE"):
        selected_runs(planned(SWEEP), "model.dept=56")
    with pytest.raises(UserError, match=r"--only=model\.depth=57 matches none of the 12 runs; --dry_run lists them"):
        selected_runs(planned(SWEEP), "model.depth=57")


@pytest.mark.parametrize("parts", [1, 2, 5, 12, 20])
def test_shards_are_a_partition(parts):
    runs = planned(SWEEP)
    shards = [shard(runs, f"{part}/{parts}") for part in range(1, parts + 1)]
    assert sorted(run.name for part in shards for run in part) == sorted(run.name for run in runs)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "a/b", "1/0", ""])
def test_an_invalid_shard_is_refused(part):
    with pytest.raises(UserError, match=r"must be K/N with K from 1 to N"):
        shard(planned(SWEEP), part)


def test_the_cost_is_three_forward_passes_per_image_and_step():
    config = recipes.cifar(20, residual=True)
    estimate = cost(config)
    assert estimate.parameters == 269_722
    # The first layer, three stages of six layers (the first of stages 2 and 3 from half the width), the head.
    stages = [(32, 16, 16), (16, 16, 32), (8, 32, 64)]
    forward = 32**2 * 9 * 3 * 16 + 64 * 10
    forward += sum(side**2 * 9 * (before * width + 5 * width * width) for side, before, width in stages)
    assert estimate.multiply_adds == 3 * forward * 128 * 64_000


def test_the_state_of_a_run_is_what_its_folder_says(tmp_path):
    states = {}
    for name, status in (("finished", "finished"), ("diverged", "diverged"), ("unfinished", None)):
        write_run(tmp_path / name, status=status)
        states[name] = state(tmp_path / name)
    assert states == {"finished": "finished", "diverged": "diverged at step 200", "unfinished": "unfinished"}
    assert state(tmp_path / "new") == "not started"


@pytest.mark.parametrize(
    ("status", "last", "expected"),
    [
        (None, "error: the disk is full.", "failed"),
        ("preempted", "error: the disk is full.", "failed"),
        ("diverged", "error: exit status 1 of python", "diverged at step 200"),
        ("finished", "error: it was already in use.", "finished"),
        (None, "queued as job 3_1", "unfinished"),
    ],
)
def test_a_run_has_failed_if_its_log_ends_with_an_error_and_says_nothing_else(tmp_path, status, last, expected):
    workdir = write_run(tmp_path / "run", status=status)
    log_of(workdir).write_text(f"error: an earlier one\nstep 4/12\n{last}\n")
    assert state(workdir) == expected
    assert failure(workdir) == (last.removeprefix("error: ") if last.startswith("error") else None)


def test_the_reason_of_a_failure_has_a_line_of_its_own_in_the_log(tmp_path):
    for begun in ("", "step 4/12\n", "step 4/1"):
        log_of(tmp_path / "run").write_text(begun)
        record_failure(tmp_path / "run", "killed by signal 9")
        assert failure(tmp_path / "run") == "killed by signal 9"
        assert log_of(tmp_path / "run").read_text().startswith(begun)


def test_chained_sweeps_may_set_different_fields():
    runs = planned(chain(axis("model.depth", [20]), product(axis("model.depth", [20]), axis("model.shortcut", ["B"]))))
    assert [run.name for run in runs] == ["plain-20", "plain-20-shortcutB"]
    assert json.dumps([run.overrides for run in runs])
