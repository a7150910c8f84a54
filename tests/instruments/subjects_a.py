"""Small subjects: nets of 8 layers on digits-sized images, and nets whose block outputs are given."""

import types

import numpy as np

from resnet_jax import models
from resnet_jax.instruments import Images, Settings, Subject, net_of

IMAGE = (8, 8, 1)


def images(count, seed=0, shape=IMAGE):
    """Return random images and labels of 3 classes."""
    random = np.random.default_rng(seed)
    return Images(random.normal(size=(count, *shape)).astype(np.float32), np.arange(count) % 3)


def small_subject(train=40, test=20, batch=16, has_running_statistics=False, image=IMAGE, **fields):
    """Return a net of 8 layers or of other ``fields`` as it is drawn."""
    net = net_of(models.complete({"depth": 8} | fields), 3, image)
    variables = models.initial_variables(net.model, 0, image)
    sets = images(train, shape=image), images(test, 1, image)
    return Subject(net, variables, 0, has_running_statistics, *sets, Settings(batch=batch))


def given_subject(outputs, train, test=None, batch=16, has_running_statistics=True):
    """Return a net whose blocks have ``outputs`` of images and of ``train``, a dict; the mode is its attribute."""
    sample = outputs(train.images[:batch], False)
    blocks = [types.SimpleNamespace(name=name, stage="stage1", shape=y.shape[1:]) for name, y in sample.items()]
    net = types.SimpleNamespace(
        title="given-2",
        blocks=blocks,
        modes=[],
        shapes=set(),
        require_blocks=lambda least=1: None,
    )

    def record(_, batch_images, train):
        net.modes.append(train)
        net.shapes.add(batch_images.shape)
        return None, outputs(batch_images, train)

    net.outputs = record
    return Subject(net, {}, 100, has_running_statistics, train, test or train, Settings(batch=batch))
