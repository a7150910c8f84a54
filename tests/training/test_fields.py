"""What every field may be, at the edges of its range."""

import importlib
import pathlib
import re

import numpy as np
import pytest

import configs
from configs import recipes
from resnet_jax import data
from resnet_jax.errors import UserError
from resnet_jax.rundir import flatten
from resnet_jax.training import fields

FLOATS = [name for name, field in fields.FIELDS.items() if field.type is float]
CHOICES = {name: field.choices for name, field in fields.FIELDS.items() if field.choices}


def changed(**changes):
    """Return the base recipe with fields of other values, of any type; __ stands for a dot."""
    config = recipes.base()
    with config.ignore_type():
        config.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    return config


def refused(config, sentence, devices=1):
    with pytest.raises(UserError, match=sentence):
        fields.check(config, devices)


def test_the_table_has_the_fields_of_the_recipes_and_no_others():
    assert fields.FIELDS.keys() == flatten(recipes.base().to_dict()).keys()


@pytest.mark.parametrize("file", sorted(path.stem for path in pathlib.Path(configs.__path__[0]).glob("*_*.py")))
def test_every_config_is_accepted(file):
    fields.check(importlib.import_module(f"configs.{file}").get_config(), 8)


def test_every_recipe_is_accepted():
    for config in (recipes.base(), recipes.imagenet(50, True), recipes.digits(8, False)):
        fields.check(config, 8)


@pytest.mark.parametrize("name", fields.FIELDS)
def test_a_missing_field_is_named(name):
    config = recipes.base().unlock()
    *parts, last = name.split(".")
    for part in parts:
        holder = config[part]
    del (holder if parts else config)[last]
    refused(config, rf"config\.{re.escape(name)} is missing; set it as configs/recipes\.py does\.")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("sede", r"config\.sede names no field: did you mean config\.seed\?"),
        ("zzz", r"config\.zzz names no field: see configs/recipes\.py for the fields\."),
        ("a\nb", r"config\.'a\\nb' names no field: see configs/recipes\.py for the fields\."),
        (1, r"the config cannot be read \(.*\); make it as configs/recipes\.py does\."),
    ],
)
def test_a_field_that_is_none_is_named_with_the_nearest(name, sentence):
    config = recipes.base().unlock()
    config[name] = 3
    refused(config, sentence)


@pytest.mark.parametrize("name", fields.FIELDS)
def test_no_field_takes_a_value_of_another_type(name):
    field = fields.FIELDS[name]
    good = {int: [int], float: [int, float], bool: [bool], str: [str], tuple: [tuple, list]}[field.type]
    values = [3, 0.5, True, "word", (1, 2), [1, 2], {"a": 1}, None, np.int64(3), np.zeros(2), object()]
    for value in values:
        if type(value) in good or (value is None and field.optional) or isinstance(value, dict):
            continue
        with pytest.raises(UserError, match=rf"config\.{re.escape(name)}=.* must be "):
            fields.check_value(name, value, field)


@pytest.mark.parametrize("name", [name for name, field in fields.FIELDS.items() if field.type in (int, float)])
def test_a_number_may_be_at_its_limits_but_not_beyond(name):
    field = fields.FIELDS[name]
    step = 1 if field.type is int else 1e-6
    for limit, good, bad, words in (
        (field.at_least, field.at_least, field.at_least - step, f"at least {field.at_least}"),
        (field.at_most, field.at_most, 10 * field.at_most, f"at most {field.at_most}"),
        (field.above, field.above + step, field.above, f"above {field.above}"),
        (field.below, field.below - step, field.below, f"below {field.below}"),
    ):
        if abs(limit) != float("inf"):
            fields.check_value(name, good, field)
            with pytest.raises(UserError, match=re.escape(f"config.{name}={bad} must be {words}.")):
                fields.check_value(name, bad, field)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_numbers_are_finite(name, value):
    refused(
        changed(**{name.replace(".", "__"): value}), rf"config\.{re.escape(name)}={value} must be a finite number\."
    )


def test_an_integer_is_a_number_too_and_none_is_what_a_placeholder_has():
    fields.check(changed(optimizer__learning_rate=1, optimizer__momentum=0, steps_per_dispatch=None), 1)


def test_an_integer_too_long_to_print_is_refused():
    for value in (10**5000, -(10**5000)):
        refused(changed(seed=value), r"config\.seed=\.\.\. must be at (least|most)")
        with pytest.raises(UserError, match=r"config\.optimizer\.factor=\.\.\. must be "):
            fields.check_value("optimizer.factor", value, fields.FIELDS["optimizer.factor"])


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_one_of_those_listed(name):
    for choice in CHOICES[name]:
        fields.check_value(name, choice, fields.FIELDS[name])
    sentence = rf"config\.{re.escape(name)}='other' is unknown; choose one of {', '.join(CHOICES[name])}\."
    refused(changed(**{name.replace(".", "__"): "other"}), sentence)


def test_text_is_printable():
    for text in ("a\0b", "a\nb", "\udcff"):
        refused(changed(data__data_dir=text), r"config\.data\.data_dir='.*' must be printable text or None\.")


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ({"model__depth": 21}, r"config\.model\.depth=21 is not 6n\+2"),
        ({"model__depth": -10}, r"config\.model\.depth=-10 is not 6n\+2.*the least depth is 8"),
        ({"model__depth": 20_006}, r"config\.model\.depth=20006 must be at most 20000"),
        ({"model__family": "imagenet"}, r"config\.model\.depth=20 is no depth of the imagenet family"),
    ],
)
def test_family_and_depth_match(model, sentence):
    refused(changed(**model), sentence)


def test_the_devices_share_a_batch_evenly():
    fields.check(changed(batch_size=24), 8)
    refused(
        changed(batch_size=36), r"config\.batch_size=36 cannot be divided among 8 devices; give a multiple of 8\.", 8
    )


@pytest.mark.parametrize("milestones", [(5, 2), (0,), (-1, 3), (4, 4), (200,), (100, 200), (100, 250)])
def test_milestones_are_rising_steps_of_the_run(milestones):
    sentence = (
        f"config.optimizer.milestones={milestones} must be rising steps above 0 and below config.steps=200; "
        "in the paper's proportions: --config.optimizer.milestones='(100,150)'."
    )
    refused(changed(steps=200, optimizer__milestones=milestones), re.escape(sentence))


@pytest.mark.parametrize("milestones", [(), [], (1,), (199,), [1, 2, 199]])
def test_milestones_may_be_few_or_none(milestones):
    fields.check(changed(steps=200, optimizer__milestones=milestones), 1)


@pytest.mark.parametrize(("steps", "proposed"), [(1, "()"), (2, "(1,)"), (3, "(1,2)"), (100, "(50,75)")])
def test_the_milestones_that_are_proposed_are_accepted(steps, proposed):
    refused(changed(steps=steps), re.escape(f"--config.optimizer.milestones='{proposed}'."))
    fields.check(changed(steps=steps, optimizer__milestones=eval(proposed)), 1)


def test_milestones_need_not_fit_the_run_where_the_rate_falls_on_plateaus():
    fields.check(changed(steps=200, optimizer__schedule="plateau"), 1)
    endless = changed(optimizer__schedule="plateau", optimizer__milestones=(5, 2**31))
    refused(endless, r"config\.optimizer\.milestones=\(5, 2147483648\) must be at most 2147483647\.")


@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_plateaus_do_not_raise_the_rate(factor):
    sentence = rf"config\.optimizer\.factor={factor} must be below 1 with config\.optimizer\.schedule='plateau'\."
    refused(changed(optimizer__schedule="plateau", optimizer__factor=factor), sentence)
    fields.check(changed(optimizer__factor=factor), 1)


def test_milestones_are_not_too_many_to_compile():
    refused(changed(optimizer__milestones=tuple(range(1, 102))), r"config\.optimizer\.milestones has 101 steps; give")


def dataset(examples, shape=(8, 6, 1)):
    split = data.Split(np.zeros((examples, *shape), np.uint8), np.zeros(examples, np.int32))
    return data.Dataset(10, {"train": split, "test": split})


def test_padding_and_batch_are_no_larger_than_the_data():
    fields.check_against_data(changed(data__padding=6, batch_size=30), dataset(30))
    with pytest.raises(UserError, match=r"config\.data\.padding=7 is more than the images of 8x6 .* at most 6\."):
        fields.check_against_data(changed(data__padding=7), dataset(300))
    with pytest.raises(
        UserError, match=r"config\.batch_size=31 is more than the 30 training examples; .* at most 30\."
    ):
        fields.check_against_data(changed(batch_size=31), dataset(30))
