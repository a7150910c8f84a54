"""Subjects of measurements: small nets on images of noise, and nets whose block outputs are given."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax import models
from resnet_jax.instruments import Images, ObservedNet, Settings, Subject, net_of
from tests.surgery.nets import random_net

SHAPE = (8, 8, 1)


def noise(count, seed=0, shape=SHAPE):
    """Return images of noise, float32 ``[count, height, width, channels]``."""
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def images(count, seed=0, shape=SHAPE, classes=3):
    """Return images of noise with labels."""
    return Images(noise(count, seed, shape), np.arange(count) % classes)


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


def drawn_subject(train=40, test=20, batch=8, classes=3, shape=SHAPE, **fields):
    """Return a net of 8 layers, or of other ``fields``, with its initial variables."""
    net = net_of(models.complete({"depth": 8} | fields), classes, shape)
    sets = images(train, 0, shape, classes), images(test, 1, shape, classes)
    return Subject(net, models.initial_variables(net.model, 0, shape), 0, False, *sets, Settings(batch=batch))


def shaken_subject(examples=24, batch=8, is_drawn=False, **fields):
    """Return a net of 8 layers, or of other ``fields``, whose norms scale, shift and have running statistics.

    With ``is_drawn`` it has its initial variables, and no running statistics.
    """
    return subject_of_net(net_of(models.complete({"depth": 8} | fields), 10, SHAPE), examples, batch, is_drawn)


def exact_subject(examples=24, batch=8, is_drawn=False, **fields):
    """Return a ``shaken_subject`` that computes in float64, under ``jax.enable_x64``."""
    net = ObservedNet(models.complete({"depth": 8} | fields), 10, SHAPE, "float32")
    net.model = net.model.clone(dtype=jnp.float64)
    subject = subject_of_net(net, examples, batch, is_drawn)
    return subject._replace(variables=jax.tree.map(np.float64, subject.variables))


def subject_of_net(net, examples, batch, is_drawn):
    variables = models.initial_variables(net.model, 0, SHAPE)
    step = 0 if is_drawn else 1000
    sets = [images(examples, classes=10)] * 2
    settings = Settings(examples, batch, 0)
    return Subject(net, variables if is_drawn else shaken(variables), step, not is_drawn, *sets, settings)


def shaken(variables):
    """Return ``variables`` with norms that scale, shift and have running statistics."""
    random = np.random.default_rng(1)

    def shake(path, leaf):
        noise = 0.3 * random.normal(size=leaf.shape).astype(np.float32)
        name = path[-1].key
        return np.exp(noise) if name == "var" else leaf + (0 if name == "kernel" else 1) * noise

    return jax.tree_util.tree_map_with_path(shake, variables)


def split(subject):
    """Return the parameters of ``subject`` and its other collections."""
    variables = dict(subject.variables)
    return variables.pop("params"), variables


def faultless_subject(train=40, test=24, batch=16, has_running_statistics=True, seed=0, **fields):
    """Return a subject whose net, with running statistics, has error 0, and the same net for surgery.

    The net has 8 layers, or other ``fields``, and arbitrary numbers in float32.
    """
    editable = random_net(seed, **fields)
    editable = editable._replace(variables=jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), editable.variables))
    net = net_of(editable.config, 10, SHAPE)
    # Without this shift it puts all images into one class.
    editable.variables["params"]["head"]["bias"] -= logits_by(net, False)(editable, noise(64, 3)).mean(0)

    def labelled(count, seed):
        drawn = noise(count, seed)
        return Images(drawn, logits_by(net, False)(editable, drawn).argmax(-1))

    settings = Settings(examples=max(train, test), batch=batch)
    sets = labelled(train, 1), labelled(test, 2)
    return Subject(net, editable.variables, 200, has_running_statistics, *sets, settings), editable


@functools.cache
def logits_by(net, train):
    """Return the function from a net for surgery, of the layers of ``net``, and images to logits without gates.

    In evaluation images are computed 8 at a time, so that it is compiled once.
    """
    compute = jax.jit(functools.partial(net.logits_of, train=train))

    def logits(editable, images):
        whole = train or len(images) % 8
        batches = [images] if whole else np.split(images, len(images) // 8)
        return np.concatenate([compute(editable.variables, batch) for batch in batches])

    return logits
