"""Batch-mate sensitivity, against closed forms and against passes of the module itself."""

import math

import flax.linen as nn
import numpy as np
import pytest

from resnet_jax.errors import UserError
from resnet_jax.instruments import batch_mates
from tests.instruments.subjects import drawn_subject, given_subject, images

pytestmark = pytest.mark.usefixtures("eager")


def measured(outputs, count=200, batch=64):
    return batch_mates.measure(given_subject(outputs, images(count), batch=batch))


def test_outputs_of_an_images_own_do_not_move():
    assert measured(lambda x, _: {"a": x**2, "b": np.abs(x)}) == {"sensitivity": [0, 0], "batch": 64, "kept": 16}


def test_less_the_mean_of_the_batch_all_images_move_alike():
    train = images(200)
    [found] = measured(lambda x, _: {"a": x - x.mean(0)})["sensitivity"]
    kept, mates, others = train.images[:16], train.images[16:64], train.images[64:112]
    mean, other_mean = (np.concatenate([kept, each]).mean(0) for each in (mates, others))
    expected = math.sqrt(16) * np.linalg.norm(mean - other_mean) / np.linalg.norm(kept - mean)
    assert found == pytest.approx(expected, rel=1e-5)


def test_outputs_that_batch_mates_decide_are_unrelated():
    def scrambled(x, _):
        seed = abs(int(1e6 * x.sum(dtype=np.float64)))
        return {"a": np.random.default_rng(seed).normal(size=(len(x), 8, 8, 4))}

    [found] = measured(scrambled)["sensitivity"]
    assert found == pytest.approx(math.sqrt(2), rel=0.03)


def test_where_all_outputs_are_the_same_there_is_nothing_to_divide_by():
    [found] = measured(lambda x, _: {"a": np.ones((len(x), 2, 2, 1))})["sensitivity"]
    assert math.isnan(found)


def test_it_is_measured_in_training_mode_whatever_statistics_there_are():
    subject = given_subject(lambda x, _: {"a": x}, images(200), has_running_statistics=True)
    batch_mates.measure(subject)
    assert subject.net.modes == [True, True]


def test_a_net_is_measured_as_its_module_computes():
    subject = drawn_subject(train=14, residual=False)
    found = batch_mates.measure(subject)
    assert (found["batch"], found["kept"]) == (8, 2)

    def block_of_stage3(chosen):
        _, state = subject.net.model.apply(
            subject.variables,
            subject.train.images[chosen],
            train=True,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: isinstance(module, nn.Module) and module.name == "block0",
        )
        return np.asarray(state["intermediates"]["stage3"]["block0"]["__call__"][0], np.float64)

    y, other = block_of_stage3(np.arange(8)), block_of_stage3(np.r_[0:2, 8:14])
    expected = np.linalg.norm((y - other)[:2]) / np.linalg.norm(y[:2] - y.mean(0))
    assert expected > 0.1
    assert found["sensitivity"][-1] == pytest.approx(expected, rel=1e-3)


def test_too_few_images_are_refused():
    with pytest.raises(UserError, match=r"^given-2 needs 112 training images for two batches of 64, and has 111;"):
        measured(lambda x, _: {"a": x}, count=111)
    measured(lambda x, _: {"a": x}, count=112)
