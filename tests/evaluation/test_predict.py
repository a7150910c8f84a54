"""Logits for any images, batches and devices."""

import jax
import numpy as np
import pytest
import scipy.special

from configs import recipes
from resnet_jax import evaluation, models
from resnet_jax.errors import UserError
from resnet_jax.evaluation.predict import check_finite
from resnet_jax.evaluation.views import views
from resnet_jax.training import parallel


def net(family="cifar", mean=None, channels=3):
    """Return a net of random weights, for pixels whose mean and deviation are not 0 and 1."""
    config = recipes.cifar(8, True) if family == "cifar" else recipes.imagenet(18, True)
    model = models.build(config.model, 10)
    variables = models.initial_variables(model, 0, (16, 16, channels))
    mean = np.full((1, 1, channels), 0.4, np.float32) if mean is None else mean
    return evaluation.TrainedNet(
        "net",
        config.model,
        10,
        model,
        variables,
        mean,
        np.full((1, 1, channels), 0.3, np.float32),
        224 if family == "imagenet" else None,
    )


def images(count=21, shape=(16, 16, 3)):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def direct(one, image, mean):
    """Return the logits of ``one`` for one image, in the plainest way."""
    pixels = (image[None] / np.float32(255) - mean) / one.std
    return np.asarray(one.model.apply(one.variables, pixels.astype(np.float32), train=False))[0]


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
    expected = [direct(one, image, mean) for image in images()]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_mirrored_views_are_averaged_by_probability():
    one = net()
    logits, _ = evaluation.predict(one, images(), mesh(2), batch_size=5, flip=True)
    for image, found in zip(images(), logits, strict=True):
        both = scipy.special.softmax([direct(one, view, one.mean) for view in (image, image[:, ::-1])], axis=1)
        np.testing.assert_allclose(np.exp(found), both.mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize("protocol", ["single", pytest.param("multi_scale", marks=pytest.mark.slow)])
def test_images_of_several_sizes_and_scales(protocol):
    """A mean of each pixel becomes one of each channel where a view has another size."""
    mean = np.random.default_rng(1).random((224, 224, 3)).astype(np.float32)
    one = net("imagenet", mean)
    several = [images(1, shape)[0] for shape in ((40, 60, 3), (60, 40, 3), (40, 60, 3))]
    logits, _ = evaluation.predict(one, several, mesh(2), batch_size=4, protocol=protocol)
    channel_mean = mean.mean(axis=(0, 1), keepdims=True)
    for image, found in zip(several[:2], logits, strict=False):
        each = [
            direct(one, view, mean if view.shape == mean.shape else channel_mean)
            for view in views(image, 224, protocol, False)
        ]
        np.testing.assert_allclose(
            scipy.special.softmax(found), scipy.special.softmax(each, axis=1).mean(axis=0), rtol=1e-3, atol=1e-6
        )


def test_one_scale_is_the_mean_of_the_heads_answers_over_the_map():
    """Fully convolutional: the head on every place of the last map, its logits averaged."""
    one = net("imagenet")
    image = images(1, (96, 160, 3))[0]
    pixels = ((image[None] / np.float32(255) - one.mean) / one.std).astype(np.float32)
    logits, state = one.model.apply(
        one.variables, pixels, train=False, capture_intermediates=lambda module, _: module.name == "stage4"
    )
    [features] = jax.tree.leaves(state["intermediates"]["stage4"])
    head = one.variables["params"]["head"]
    everywhere = features[0] @ head["kernel"] + head["bias"][None, None]
    assert everywhere.shape == (3, 5, 10)
    np.testing.assert_allclose(logits[0], everywhere.mean(axis=(0, 1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_logits_that_are_not_finite_are_reported_and_not_scored(value):
    broken = net()
    broken.variables["params"]["head"]["bias"][3] = value
    with pytest.raises(
        UserError, match=r"^the logits of net are inf or NaN for 3 of 3 images, so it has no error; train"
    ):
        evaluation.predict(broken, images(3), mesh(1))


def test_only_images_whose_logits_are_not_finite_count():
    logits = [[np.zeros(2)], [np.zeros(2), np.array([0, np.nan])], [np.zeros(2)]]
    with pytest.raises(UserError, match=r"for 1 of 3 images"):
        check_finite("net", logits)
    check_finite("net", logits[::2])
