"""Which runs a sweep is, and what they cost."""

import importlib
import json
import pathlib

import numpy as np
import pytest

import configs.sweeps
from configs import recipes
from resnet_jax import data, models
from resnet_jax.config import flatten
from resnet_jax.errors import UserError
from resnet_jax.sweeps.grid import axis, chain, product, together, tuned
from resnet_jax.sweeps.plan import Problems, cost, failure, log_of, only, plan, record_failure, shard, state
from tests.analysis.synthetic import write_run

# The cases of table 1 of He et al. 2016.
TABLE1 = (
    *("shortcut_factor1.0-branch_factor1.0", "shortcut_factor0.0-branch_factor1.0"),
    *("shortcut_factor0.5-branch_factor1.0", "shortcut_factor0.5-branch_factor0.5"),
    *(f"shortcutexclusive_gating-gating_bias{bias}" for bias in (0.0, -6.0, -7.0)),
    *(f"shortcutshortcut_gating-gating_bias{bias}" for bias in (0.0, -6.0)),
    *("shortcutconv", "shortcutdropout"),
)
ROUTES = ("both", "stop_gradient", "mirror", "shortcut_gradient_only")
PROVIDED = {
    "cifar_rates": {
        f"{kind}-{depth}-seed{seed}"
        for kind in ("plain", "residual")
        for depth in (8, 14, 20, 26, 32, 38, 44, 56)
        for seed in range(3)
    },
    "digits_depth": {
        f"{kind}-{depth}-seed{seed}" for kind in ("plain", "residual") for depth in (20, 56) for seed in range(3)
    },
    "why_digits": {
        f"{kind}-{depth}-seed{seed}" for kind in ("plain", "residual") for depth in (20, 56) for seed in range(5)
    },
    "cifar_figure6": {f"plain-{depth}" for depth in (20, 32, 44, 56)}
    | {f"residual-{depth}" for depth in (20, 32, 44, 56, 110)},
    "cifar_shortcuts": {f"residual-{depth}-shortcut{option}" for depth in (20, 56) for option in "ABC"},
    "cifar_seeds": {
        f"{kind}-{depth}-seed{seed}" for kind in ("plain", "residual") for depth in (20, 56) for seed in range(3)
    },
    "cifar16_depth": {
        f"{kind}-{depth}-seed{seed}" for kind in ("plain", "residual") for depth in (20, 56) for seed in range(3)
    },
    "cifar16_five_depths": {f"{kind}-{depth}" for kind in ("plain", "residual") for depth in (20, 32, 44, 56, 110)},
    "cifar16_tuned": {
        f"{kind}-{depth}-learning_rate{rate}-seed{seed}"
        for kind in ("plain", "residual")
        for depth in (20, 56)
        for rate in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
        for seed in range(3)
    },
    "cifar16_warmup": {
        f"residual-{depth}-warmup_min_depth{least}-seed{seed}"
        for depth in (20, 56)
        for least in (0, 110)
        for seed in range(3)
    },
    "cifar16_variants": {
        name.format(depth=depth, seed=seed)
        for name in (
            "residual-{depth}-seed{seed}",
            "preact_residual-{depth}-seed{seed}",
            "residual-{depth}-survival0.5-seed{seed}",
        )
        for depth in (20, 56)
        for seed in range(3)
    },
    "imagenet_18_34": {f"{kind}-{depth}" for kind in ("plain", "residual") for depth in (18, 34)},
    "cifar_inception_twins": {
        f"Inception_{kind}-{depth}" for kind in ("plain", "residual") for depth in (20, 44, 68, 116)
    },
    "cifar_preact_depth": {f"{order}residual-{depth}" for order in ("", "preact_") for depth in (20, 56, 110)}
    | {f"{order}bottleneck_residual-{depth}-shortcutB" for order in ("", "preact_") for depth in (164, 1001)},
    "cifar_stochastic_depth": {
        f"{kind}-{depth}-survival{survival}"
        for kind in ("plain", "residual")
        for depth in (20, 56, 110)
        for survival in (1.0, 0.5)
    },
    "cifar_table1": {f"residual-110-{case}" for case in TABLE1},
    "digits_table1": {
        f"{net}-seed{seed}" for net in ("plain-56", *(f"residual-56-{case}" for case in TABLE1)) for seed in range(3)
    },
    "digits_routes": {
        *(
            f"{arm}-learning_rate{rate}-seed{seed}"
            for arm in ("plain-56", *(f"residual-56-route{route}" for route in ROUTES))
            for rate in (0.001, 0.003, 0.01, 0.03, 0.1)
            for seed in range(5)
            if rate >= 0.01 or arm in ("plain-56", "residual-56-routemirror")
        ),
        *(
            f"{arm}-seed{seed}"
            for arm in ("plain-20", *(f"residual-20-route{route}" for route in ROUTES))
            for seed in range(5)
        ),
        *(
            f"{kind}-{depth}-frozen_belowstage3_block{block}-seed{seed}"
            for kind in ("plain", "residual")
            for depth, block in ((20, 0), (20, 2), (56, 0), (56, 8))
            for seed in range(5)
        ),
    },
    "digits_dose": {
        f"residual-{depth}-{dose}-seed{seed}"
        for depth in (20, 56)
        for dose in (
            *(f"shortcut_factor{factor}" for factor in (0.0, 0.25, 0.5, 0.75, 1.0)),
            "final_0_1_1_1_-phase_0.25_0.75_",
        )
        for seed in range(5)
    },
    "digits_every_second": {
        f"{net}-seed{seed}"
        for depth in (20, 56)
        for net in (
            *(f"residual-{depth}", f"residual-{depth}-without_every_second_shortcut"),
            f"residual-{depth}-with_only_the_first_shortcut_of_each_stage",
            *(f"residual-{depth}-without_shortcuts_in_the_last_stage", f"plain-{depth}"),
        )
        for seed in range(5)
    },
    "digits_rates": {
        f"{kind}-{depth}-learning_rate{rate}-seed{seed}"
        for kind in ("plain", "residual")
        for depth in (8, 14, 20, 32, 44, 56)
        for rate in (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
        for seed in range(3)
        if rate > 0.003 or (kind, depth) in {("plain", 44), ("plain", 56)}
        if rate > 0.0003 or depth == 56
        if rate != 1.0 or (kind, depth) in {("plain", 8), ("plain", 14)}
        if rate != 0.3 or depth in {"plain": (8, 14, 20), "residual": (14, 20, 32)}[kind]
    },
    "digits_remedies": {
        f"{net}-learning_rate{rate}-seed{seed}"
        for net, seeds, *more in (
            *(("plain-20", 3, 0.3), ("plain-56", 3, 0.0003, 0.001, 0.003)),
            *(("plain-20-normnone", 5), ("plain-56-normnone", 5, 0.0003, 0.001, 0.003)),
            *(("plain-20-normgroup", 3), ("plain-56-normgroup", 3, 0.3)),
            *(("dirac_plain-20", 3, 0.3, 1.0), ("dirac_plain-56", 3, 0.3, 1.0, 3.0)),
            ("delta-orthogonal_tanh_plain-20-normnone", 5, 0.3),
            ("delta-orthogonal_tanh_plain-56-normnone", 5, 0.003),
            ("looks-linear_CReLU_plain-20-normnone", 5, 0.003),
            ("looks-linear_CReLU_plain-56-normnone", 5, 0.0003, 0.001, 0.003),
            *(("LSUV_plain-20-normnone", 5, 0.003), ("LSUV_plain-56-normnone", 5, 0.0003, 0.001, 0.003)),
            *(("residual-20", 3, 0.3), ("residual-56", 3)),
            *(("residual-20-normnone", 3, 0.001, 0.003), ("residual-56-normnone", 3, 0.0003, 0.001, 0.003)),
            *(("residual-20-normgroup", 5), ("residual-56-normgroup", 5, 0.003)),
            *(("repvgg_residual-20", 3, 0.3), ("repvgg_residual-56", 3, 0.3, 1.0)),
            *(("fixup_residual-20", 5), ("fixup_residual-56", 5, 0.3)),
            *(("skipinit_residual-20", 5, 0.3), ("skipinit_residual-56", 5, 0.3)),
            *(("rezero_residual-20", 3), ("rezero_residual-56", 3)),
            *((f"normalizer-free_residual-{depth}-shortcutB", 5, 0.3) for depth in (20, 56)),
        )
        for rate in (*more, 0.01, 0.03, 0.1)
        for seed in range(seeds)
    },
    "digits_threshold": {
        f"plain-{depth}-learning_rate{rate}-seed{seed}"
        for depth in (8, 14, 20, 26, 32, 38, 44, 50, 56)
        for rate in (0.003, 0.01)
        for seed in range(5, 10)
    },
    "digits_identity_start": {f"plain-20-seed{seed}" for seed in range(5)},
    "digits_conversion_start": {f"residual-56-seed{seed}" for seed in range(4)},
    "digits_identity": {
        f"{net}-learning_rate{rate}-seed{seed}"
        for net in (*("plain-56-from_plain-20-as-56", "plain-20-from_plain-20", "plain-56"),)
        for rate in (0.01, 0.03, 0.1, 0.3)
        for seed in range(5)
    },
    "digits_conversion": {
        f"{net}-learning_rate{rate}-seed{seed}"
        for net in (
            "residual-56-from_residual-56",
            "residual-56-normnone-from_residual-56-folded",
            "plain-56-normnone-reserveTrue-from_residual-56-as-plain",
        )
        for rate in (0.001, 0.003, 0.01, 0.03)
        for seed in (1, 2, 3)
    },
    "digits_single": {
        f"{net}-seed{seed}"
        for depth in (20, 56)
        for net in (f"plain-{depth}", f"residual-{depth}", f"single_residual-{depth}")
        for seed in range(5)
    },
    "digits_stochastic_depth": {
        f"{kind}-{depth}-survival{survival}-seed{seed}"
        for kind in ("plain", "residual")
        for depth in (20, 56)
        for survival in (1.0, 0.5)
        for seed in range(5)
    },
    "cifar_table2": {
        f"{order}{net}"
        for order in ("", "norm-after-addition_", "relu-before-addition_", "relu-preact_", "preact_")
        for net in ("residual-110", "bottleneck_residual-164-shortcutB")
    },
    "cifar_width_depth": {
        *(f"WRN-40-{widening}" for widening in (2, 4, 8)),
        *(f"WRN-16-{widening}" for widening in (4, 8, 10)),
        *("WRN-22-8", "WRN-28-10"),
    },
}


def planned(sweep, base=None):
    problems, base = Problems("the sweep"), base or recipes.digits(20, residual=False)
    runs = plan(base, sweep, pathlib.Path("runs/s"), ["python", "main"], problems)
    problems.report(len(sweep))
    return runs


@pytest.mark.parametrize(
    "file", sorted(pathlib.Path(path).stem for path in pathlib.Path(configs.sweeps.__path__[0]).glob("*.py"))
)
def test_every_provided_sweep_is_what_its_name_says(file):
    module = importlib.import_module(f"configs.sweeps.{file}")
    runs = planned(module.get_sweep(), module.get_config())
    assert {run.name for run in runs} == PROVIDED[file]
    assert module.__doc__.partition("\n")[0].rstrip(")").count("?") == 1
    for run in runs:
        _, num_classes = data.shape(run.config.data)
        models.build(run.config.model, num_classes)


def test_the_deepest_net_of_figure_6_is_an_option():
    module = importlib.import_module("configs.sweeps.cifar_figure6")
    names = {run.name for run in planned(module.get_sweep("1202"), module.get_config("1202"))}
    assert names == PROVIDED["cifar_figure6"] | {"residual-1202"}


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
    chosen = only(runs, conditions)
    assert len(chosen) == count
    assert [run for run in runs if run in chosen] == chosen


@pytest.mark.parametrize("value", ["(0.25,0.5)", "[0.25, 0.5]", "(0.25, 0.5)"])
def test_runs_are_chosen_by_fields_of_several_numbers(value):
    runs = planned(product(axis("optimizer.milestones", [(0.25, 0.5), (0.5, 0.75)]), axis("seed", [0, 1])))
    assert only(runs, f"optimizer.milestones={value},seed=1") == [runs[1]]
    assert only(runs, f"seed=0, optimizer.milestones={value}") == [runs[0]]


def test_a_choice_of_an_unknown_field_or_of_no_run_is_refused():
    with pytest.raises(UserError, match=r"--only=model\.dept=56: unknown field in 'model\.dept=56'; write FIELD=VALUE"):
        only(planned(SWEEP), "model.dept=56")
    with pytest.raises(UserError, match=r"--only=model\.depth=57 matches none of the 12 runs; --dry_run lists them"):
        only(planned(SWEEP), "model.depth=57")


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
