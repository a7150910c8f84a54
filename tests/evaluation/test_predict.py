"""Logits for any images, batches and devices."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest
import scipy.special

from resnet_jax import evaluation, models
from resnet_jax.errors import UserError
from resnet_jax.evaluation.predict import check_finite
from resnet_jax.evaluation.views import views
from resnet_jax.training import parallel


class SmallNet(nn.Module):
    """A convolution, a mean over places and a head, quickly compiled."""

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(10)(nn.relu(nn.Conv(4, (3, 3))(x)).mean((1, 2)))


@functools.cache
def variables():
    """Return random variables of a ``SmallNet``, on the host, because tests exchange the devices."""
    return jax.device_get(SmallNet().init(jax.random.key(0), np.zeros((1, 16, 16, 3)), train=False))


def net(mean=None, crop=None):
    """Return a net of random weights, for pixels whose mean and deviation are not 0 and 1."""
    mean = np.full((1, 1, 3), 0.4, np.float32) if mean is None else mean
    std = np.full((1, 1, 3), 0.03, np.float32)  # So small that the logits of images differ.
    return evaluation.TrainedNet("net", models.complete({}), 10, SmallNet(), variables(), mean, std, crop)


def images(count=21, shape=(16, 16, 3)):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def direct(one, images, mean):
    """Return the logits of ``one`` for images of one size, without ``predict``."""
    pixels = (images / np.float32(255) - mean) / one.std
    return np.asarray(one.model.apply(one.variables, pixels.astype(np.float32), train=False))


def mesh(devices):
    return parallel.device_mesh(jax.devices()[:devices])


@pytest.mark.devices(8)
@pytest.mark.parametrize("mapper", parallel.MAPPERS)
@pytest.mark.parametrize(("devices", "batch_size"), [(1, 1), (1, 21), (1, 500), (4, 6), (8, 8), (8, 3)])
def test_logits_are_the_nets_for_any_batch_size_and_number_of_devices(mapper, devices, batch_size):
    mean = np.random.default_rng(1).random((16, 16, 3)).astype(np.float32)
    one = net(mean=mean)
    logits, rate = evaluation.predict(one, images(), mesh(devices), mapper, batch_size)
    assert logits.shape == (21, 10)
    assert rate > 0
    np.testing.assert_allclose(logits, direct(one, images(), mean), rtol=1e-4, atol=1e-5)
    assert np.ptp(logits, axis=0).min() > 1e-2


def test_mirrored_views_are_averaged_by_probability():
    one = net()
    logits, _ = evaluation.predict(one, images(), mesh(2), batch_size=5, flip=True)
    both = [scipy.special.softmax(direct(one, view, one.mean), axis=1) for view in (images(), images()[:, :, ::-1])]
    np.testing.assert_allclose(np.exp(logits), np.mean(both, axis=0), rtol=1e-4)


@pytest.mark.parametrize("protocol", ["single", "multi_scale"])
def test_images_of_several_sizes_and_scales(protocol):
    """A mean of each pixel becomes one of each channel where a view has another size."""
    mean = np.random.default_rng(1).random((32, 32, 3)).astype(np.float32)
    one = net(mean, crop=32)
    several = [images(1, shape)[0] for shape in ((40, 60, 3), (60, 40, 3), (40, 60, 3))]
    logits, _ = evaluation.predict(one, several, mesh(2), batch_size=4, protocol=protocol)
    channel_mean = mean.mean(axis=(0, 1), keepdims=True)
    for image, found in zip(several[:2], logits, strict=False):
        each = [
            direct(one, view[None], mean if view.shape == mean.shape else channel_mean)[0]
            for view in views(image, 32, protocol, False)
        ]
        np.testing.assert_allclose(
            scipy.special.softmax(found), scipy.special.softmax(each, axis=1).mean(axis=0), rtol=1e-3, atol=1e-6
        )


def test_one_scale_is_the_mean_of_the_heads_answers_over_the_map():
    """Fully convolutional: the head on every place of the last map, its logits averaged."""
    model = models.build(models.complete({"depth": 8}), 10)
    variables = models.initial_variables(model, 0, (16, 24, 3))
    pixels = np.random.default_rng(0).normal(size=(1, 16, 24, 3)).astype(np.float32)
    apply = functools.partial(model.apply, train=False, capture_intermediates=lambda module, _: module.name == "stage3")
    logits, state = jax.jit(apply)(variables, pixels)
    [features] = jax.tree.leaves(state["intermediates"]["stage3"])
    head = variables["params"]["head"]
    everywhere = features[0] @ head["kernel"] + head["bias"][None, None]
    assert everywhere.shape == (4, 6, 10)
    np.testing.assert_allclose(logits[0], everywhere.mean(axis=(0, 1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_logits_that_are_not_finite_are_reported_and_not_scored(value):
    broken = net()
    broken = broken._replace(variables=jax.tree.map(np.copy, broken.variables))
    broken.variables["params"]["Dense_0"]["bias"][3] = value
    with pytest.raises(
        UserError, match=r"^the logits of net are inf or NaN for 3 of 3 images, so it has no error; train"
    ):
        evaluation.predict(broken, images(3), mesh(1))


def test_only_images_whose_logits_are_not_finite_count():
    logits = [[np.zeros(2)], [np.zeros(2), np.array([0, np.nan])], [np.zeros(2)]]
    with pytest.raises(UserError, match=r"for 1 of 3 images"):
        check_finite("net", logits)
    check_finite("net", logits[::2])
