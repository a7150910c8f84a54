"""The table of fields: its rows, the checks of a config, and what follows from the roles."""

import importlib
import pathlib
import re

import numpy as np
import pytest

import configs
from configs import recipes
from resnet_jax import models
from resnet_jax.config import check, check_against_data, check_value, default, flatten, from_record, nearest_field
from resnet_jax.data import augment
from resnet_jax.data.images import AUGMENTATIONS
from resnet_jax.errors import UserError
from resnet_jax.fields import FIELDS, RECIPE_FIELDS, RUN_FIELDS, TITLE_FIELDS, bind
from resnet_jax.models import families
from resnet_jax.models.layers import init, parametrization
from resnet_jax.training import optimizer, parallel

FLOATS = [name for name, field in FIELDS.items() if field.type is float]
CHOICES = {name: field.choices for name, field in FIELDS.items() if field.choices}


def changed(**changes):
    """Return the default config with fields of other values, of any type; __ stands for a dot."""
    config = default()
    with config.ignore_type():
        config.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    return config


def refused(config, sentence, devices=1):
    with pytest.raises(UserError, match=sentence):
        check(config, devices)


def test_a_default_config_has_all_fields_and_no_others():
    assert FIELDS.keys() == flatten(default().to_dict()).keys()
    check(default(), 8)


@pytest.mark.parametrize("name", FIELDS)
def test_a_row_has_a_meaning_and_a_default_that_it_allows(name):
    field = FIELDS[name]
    assert field.meaning.endswith(".")
    assert ("None:" in field.meaning) == (field.default is None)
    assert field.type is not int or field.unit or name == "seed"
    check_value(name, field.default, field)


@pytest.mark.parametrize(
    ("name", "implemented"),
    [
        ("dtype", families.DTYPES),
        ("model.family", models.FAMILIES),
        ("model.parametrization", parametrization.PARAMETRIZATIONS),
        ("model.init", init.INITS),
        ("data.augmentation", AUGMENTATIONS),
        ("data.pad", augment.PADS),
        ("optimizer.name", optimizer.OPTIMIZERS),
        ("optimizer.schedule", optimizer.SCHEDULES),
        ("parallel.mapper", parallel.MAPPERS),
    ],
)
def test_the_choices_are_those_that_are_implemented(name, implemented):
    assert FIELDS[name].choices == tuple(implemented)


def test_a_choice_without_a_row_and_a_row_without_a_choice_are_refused():
    rows = dict.fromkeys(FIELDS["model.order"].choices, 1)
    assert bind("model.order", rows) == rows
    with pytest.raises(TypeError, match=r"config\.model\.order differ in original; add or remove a row"):
        bind("model.order", {name: row for name, row in rows.items() if name != "original"})
    with pytest.raises(TypeError, match=r"config\.model\.order differ in another"):
        bind("model.order", rows | {"another": 1})


def test_roles_say_which_configs_are_one_run_one_recipe_and_one_title():
    compiling = {"compile.unroll", "compile.remat", "compile.convolutions"}
    where = {"data.data_dir", "data.workers", "parallel.mapper"} | compiling
    how_often = {"log_every", "eval_every", "eval_batch_size", "checkpoint_every", "steps_per_dispatch"}
    may_change = where | how_often | {"stop_at_divergence", "keep_checkpoints", "data.on_bad_image"}
    assert FIELDS.keys() - set(RUN_FIELDS) == may_change
    assert FIELDS.keys() - set(RECIPE_FIELDS) == {
        "data.data_dir",
        "data.workers",
        "log_every",
        "eval_every",
        "eval_batch_size",
        "checkpoint_every",
        "keep_checkpoints",
        "compile.unroll",
        "compile.remat",
        "compile.convolutions",
        "parallel.mapper",
        "per_device_batch_size",
        "steps_per_dispatch",
        "deterministic",
        "stop_at_divergence",
        "seed",
    }
    assert set(TITLE_FIELDS) == {
        f"model.{name}"
        for name in (
            *("depth", "residual", "block", "order", "widening", "growth", "compression"),
            *("branch_scaling", "parametrization", "init", "activation"),
        )
    }


@pytest.mark.parametrize("file", sorted(path.stem for path in pathlib.Path(configs.__path__[0]).glob("*_*.py")))
def test_every_config_is_accepted(file):
    check(importlib.import_module(f"configs.{file}").get_config(), 8)


@pytest.mark.parametrize("recipe", [recipes.cifar, recipes.imagenet, recipes.folder, recipes.digits])
def test_a_recipe_takes_the_fields_of_the_net_by_name(recipe):
    chosen = {"family": "cifar", "depth": 50, "residual": False, "shortcut": "C"}
    assert recipe(**chosen).model.to_dict() == default().model.to_dict() | chosen
    with pytest.raises(TypeError, match=r"a recipe was given width, but config\.model has no such field"):
        recipe(depth=50, residual=False, width=2)


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_is_named(name):
    config = default().unlock()
    *parts, last = name.split(".")
    for part in parts:
        holder = config[part]
    del (holder if parts else config)[last]
    refused(config, rf"config\.{re.escape(name)} is missing; build the config on a recipe of configs/recipes\.py\.")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("sede", r"^unknown field config\.sede; did you mean config\.seed\?$"),
        ("label_smoothing", r"^unknown field config\.label_smoothing; --fields lists all fields\.$"),
        ("learning_rat", r"^unknown field config\.learning_rat; did you mean config\.optimizer\.learning_rate\?$"),
        ("zzz", r"^unknown field config\.zzz; --fields lists all fields\.$"),
        ("a\nb", r"^unknown field config\.'a\\nb'; --fields lists all fields\.$"),
        (1, r"the config cannot be read \(.*\); build it on a recipe of configs/recipes\.py\."),
    ],
)
def test_an_unknown_field_is_named_with_the_nearest(name, sentence):
    config = default().unlock()
    config[name] = 3
    refused(config, sentence)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("optimizer.label_smoothing", None),  # Only its group makes it like "optimizer.learning_rate".
        ("optimizer.lr", None),
        ("model.dept", "model.depth"),
        ("depth", "model.depth"),
        ("data.batch_size", "batch_size"),
        ("data.root", "data.data_dir"),
        ("model[depth]", "model.depth"),
    ],
)
def test_the_nearest_field_is_one_with_a_similar_last_word_or_none(name, nearest):
    assert nearest_field(name) == nearest


@pytest.mark.parametrize("name", FIELDS)
def test_no_field_takes_a_value_of_another_type(name):
    field = FIELDS[name]
    good = {int: [int], float: [int, float], bool: [bool], str: [str], tuple: [tuple, list]}[field.type]
    values = [3, 0.5, True, "word", (1, 2), [1, 2], {"a": 1}, None, np.int64(3), np.zeros(2), object()]
    for value in values:
        if type(value) in good or (value is None and field.default is None) or isinstance(value, dict):
            continue
        with pytest.raises(UserError, match=rf"config\.{re.escape(name)}=.*: expected {field.expected}\."):
            check_value(name, value, field)


def test_the_expected_type_is_reported_in_words():
    refused(changed(seed=1.5), r"^config\.seed=1\.5: expected int\.$")
    refused(changed(data__workers="all"), r"^config\.data\.workers='all': expected int or None\.$")
    refused(changed(data__flip=1), r"^config\.data\.flip=1: expected True or False\.$")
    refused(changed(optimizer__momentum="0.9"), r"^config\.optimizer\.momentum='0\.9': expected float\.$")
    refused(changed(optimizer__milestones=("a",)), r"milestones=\('a',\): expected a tuple of numbers\.$")


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.type in (int, float)])
def test_a_number_may_be_at_its_limits_but_not_beyond(name):
    field = FIELDS[name]
    limits = field.limits
    step = 1 if field.type is int else 1e-6
    for limit, good, bad, words in (
        (limits.at_least, limits.at_least, limits.at_least - step, f"at least {limits.at_least}"),
        (limits.at_most, limits.at_most, 10 * limits.at_most, f"at most {limits.at_most}"),
        (limits.above, limits.above + step, limits.above, f"above {limits.above}"),
        (limits.below, limits.below - step, limits.below, f"below {limits.below}"),
    ):
        if abs(limit) != float("inf"):
            check_value(name, good, field)
            with pytest.raises(UserError, match=re.escape(f"config.{name}={bad} must be {words}.")):
                check_value(name, bad, field)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_numbers_are_finite(name, value):
    refused(changed(**{name.replace(".", "__"): value}), rf"config\.{re.escape(name)}={value} must be finite\.")


def test_an_integer_is_a_number_too_and_none_is_what_a_placeholder_has():
    check(changed(optimizer__learning_rate=1, optimizer__momentum=0, steps_per_dispatch=None), 1)


def test_an_integer_too_long_to_print_is_refused():
    for value in (10**5000, -(10**5000)):
        refused(changed(seed=value), r"config\.seed=\.\.\. must be at (least|most)")
        with pytest.raises(UserError, match=r"config\.optimizer\.factor=\.\.\. must be "):
            check_value("optimizer.factor", value, FIELDS["optimizer.factor"])


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_one_of_those_listed(name):
    for choice in CHOICES[name]:
        check_value(name, choice, FIELDS[name])
    sentence = rf"config\.{re.escape(name)}='other' is unknown; choose one of {', '.join(CHOICES[name])}\."
    refused(changed(**{name.replace(".", "__"): "other"}), sentence)


def test_text_is_printable():
    for text in ("a\0b", "a\nb", "\udcff"):
        refused(changed(data__data_dir=text), r"config\.data\.data_dir='.*': expected printable text or None\.")


def test_the_devices_share_a_batch_evenly():
    check(changed(batch_size=24), 8)
    refused(
        changed(batch_size=36), r"config\.batch_size=36 cannot be divided among 8 devices; give a multiple of 8\.", 8
    )


def test_crops_of_streams_need_no_padding():
    refused(changed(data__image_size=224), r"config\.data\.padding=4 is for sets whose .* so give padding 0\.")


def test_crops_of_streams_are_not_downsampled():
    streamed = changed(data__image_size=224, data__padding=0, data__downsample=2)
    refused(streamed, r"config\.data\.downsample=2 is for sets whose images have one size; .* so give downsample 1\.")


@pytest.mark.parametrize(
    "milestones",
    [(0.5, 0.2), (0,), (-0.1, 0.3), (0.4, 0.4), (1.0,), (6, 9), (0.5, 1.5), (float("nan"),), (float("inf"),)],
)
def test_milestones_are_rising_fractions_of_the_steps(milestones):
    sentence = (
        f"config.optimizer.milestones={milestones} must be rising fractions of config.steps, above 0 and below 1, "
        "for example --config.optimizer.milestones='(0.5,0.75)'."
    )
    refused(changed(optimizer__milestones=milestones), re.escape(sentence))


@pytest.mark.parametrize("milestones", [(), [], (0.1,), [0.1, 0.2, 0.999]])
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_milestones_may_be_few_or_none_and_the_steps_any(milestones, steps):
    check(changed(steps=steps, optimizer__milestones=milestones), 1)


def test_milestones_are_not_too_many_to_compile():
    milestones = tuple(step / 200 for step in range(1, 102))
    sentence = r"config\.optimizer\.milestones has 101 milestones; give at most 100\."
    refused(changed(optimizer__milestones=milestones), sentence)


@pytest.mark.parametrize("factor", [1.0, 10.0])
@pytest.mark.parametrize("schedule", ["plateau", "exponential"])
def test_what_falls_again_and_again_does_not_rise(schedule, factor):
    sentence = rf"config\.optimizer\.factor={factor} must be below 1 with config\.optimizer\.schedule='{schedule}'\."
    refused(changed(optimizer__schedule=schedule, optimizer__factor=factor), sentence)
    check(changed(optimizer__factor=factor), 1)


def test_padding_and_batch_are_no_larger_than_the_data():
    check_against_data(changed(data__padding=6, batch_size=30), 30, (8, 6, 1))
    with pytest.raises(UserError, match=r"config\.data\.padding=7 is more than the images of 8x6 .* at most 6\."):
        check_against_data(changed(data__padding=7), 300, (8, 6, 1))
    with pytest.raises(
        UserError, match=r"config\.batch_size=31 is more than the 30 training examples; .* at most 30\."
    ):
        check_against_data(changed(batch_size=31), 30, (8, 6, 1))
    with pytest.raises(UserError, match=r"config\.data\.color_noise=0\.1 needs images of 3 channels, but these have 1"):
        check_against_data(changed(data__color_noise=0.1, batch_size=30), 30, (8, 6, 1))
    with pytest.raises(UserError, match=r"config\.data\.mean='imagenet' is for images of 3 channels, but these have 1"):
        check_against_data(changed(data__mean="imagenet", batch_size=30), 30, (8, 6, 1))


def test_reflected_pixels_are_in_the_image():
    check_against_data(changed(data__pad="reflect", data__padding=5, batch_size=30), 30, (8, 6, 1))
    sentence = r"config\.data\.padding=6 must be below 6 with config\.data\.pad='reflect' and images of 8x6 pixels\."
    with pytest.raises(UserError, match=sentence):
        check_against_data(changed(data__pad="reflect", data__padding=6, batch_size=30), 30, (8, 6, 1))
    check_against_data(changed(data__pad="reflect", data__padding=0, batch_size=30), 30, (8, 6, 1))


def test_names_are_dotted_as_overrides_spell_them():
    nested = {"seed": 1, "model": {"depth": 20, "deeper": {"x": (1, 2)}}}
    assert flatten(nested) == {"seed": 1, "model.depth": 20, "model.deeper.x": [1, 2]}


@pytest.mark.parametrize("recipe", [recipes.cifar, recipes.imagenet, recipes.folder, recipes.digits])
def test_a_recorded_config_is_read_as_it_was(recipe):
    config = recipe(18, residual=False)
    config.data.data_dir = "/data"
    assert from_record(config.to_dict(), version=2).to_dict() == config.to_dict()


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_was_not_recorded_has_its_default(name):
    recorded = recipes.digits(8, residual=True).unlock()
    *parts, last = name.split(".")
    for part in parts:
        holder = recorded[part]
    del (holder if parts else recorded)[last]
    read = flatten(from_record(recorded.to_dict(), version=2).to_dict())
    assert read == flatten(recorded.to_dict()) | {name: flatten(default().to_dict())[name]}


@pytest.mark.parametrize(
    ("recipe", "milestones"),
    [
        (recipes.cifar, [32_000, 48_000]),
        (recipes.imagenet, [200_000, 400_000]),
        (recipes.folder, []),
        (recipes.digits, [100, 150]),
    ],
)
def test_milestones_of_version_1_are_those_of_the_recipes(recipe, milestones):
    config = recipe(18, residual=True)
    recorded = config.to_dict()
    recorded["optimizer"]["milestones"] = milestones
    assert from_record(recorded, version=1).to_dict() == config.to_dict()


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 200, 21_333, 64_000, 2**31 - 1])
def test_milestones_of_version_1_are_the_same_steps(steps):
    random = np.random.default_rng(0)
    milestones = sorted({*random.integers(1, steps, 50).tolist(), 1, steps - 1} - {0}) if steps > 1 else []
    recorded = {"steps": steps, "optimizer": {"milestones": milestones, "schedule": "step"}}
    fractions = from_record(recorded, version=1).optimizer.milestones
    check(changed(optimizer__milestones=fractions), 1)
    assert optimizer.drops(changed(optimizer__milestones=fractions).optimizer, steps) == milestones


def test_milestones_that_a_plateau_schedule_never_reached_are_dropped():
    recorded = {"steps": 100, "optimizer": {"milestones": [50, 100, 150], "schedule": "plateau"}}
    assert from_record(recorded, version=1).optimizer.milestones == (0.5,)


def test_a_field_of_a_newer_version_is_refused():
    recorded = default().to_dict() | {"gates": 3}
    with pytest.raises(UserError, match=r"^unknown field config\.gates, of a newer version of this project; update"):
        from_record(recorded, version=2)
