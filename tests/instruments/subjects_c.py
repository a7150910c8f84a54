"""Subjects of measurements: small nets with arbitrary numbers, on images of noise."""

import functools

import jax
import numpy as np

from resnet_jax.instruments import Images, Settings, Subject, net_of
from tests.surgery.nets import random_net

SHAPE = (8, 8, 1)


def noise(count, seed=0, shape=SHAPE):
    """Return so many images, float32 ``[count, height, width, channels]``."""
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def subject(train=40, test=24, batch=16, has_running_statistics=True, seed=0, **fields):
    """Return a subject of the net of ``fields``, depth 8 by default, in float32, and the net as surgery has it.

    Labels are what the net itself says with its running statistics, so its error is 0 there.
    """
    own = random_net(seed, **fields)
    own = own._replace(variables=jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), own.variables))
    net = net_of(own.config, 10, SHAPE)
    logits = logits_by(net, train=False)
    # Else it says the same of all images.
    own.variables["params"]["head"]["bias"] -= logits(own, noise(64, 3)).mean(0)

    def images(count, seed):
        drawn = noise(count, seed)
        return Images(drawn, logits(own, drawn).argmax(-1))

    settings = Settings(examples=max(train, test), batch=batch)
    return Subject(net, own.variables, 200, has_running_statistics, images(train, 1), images(test, 2), settings), own


def logits_by(net, train):
    """Return a function of a net as surgery has it, of the layers of ``net``, and images: its logits, without gates."""
    compute = jax.jit(functools.partial(net.logits_of, train=train))
    return lambda own, images: np.asarray(compute(own.variables, images))
