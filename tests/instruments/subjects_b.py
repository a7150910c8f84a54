"""Small nets on images of noise, as subjects of measurements, and their twins in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax import models
from resnet_jax.instruments import Images, ObservedNet, Settings, Subject, net_of

SHAPE = (8, 8, 1)


def small_subject(examples=24, batch=8, step=1000, is_drawn=False, **fields):
    """Return a subject of a net of 8 layers, or of other ``fields``, with norms that are not as they were drawn.

    With ``is_drawn`` they are, and it is of step 0.
    """
    net = net_of(models.complete({"depth": 8} | fields), 10, SHAPE)
    return subject_of_net(net, examples, batch, 0 if is_drawn else step, is_drawn)


def exact_subject(examples=24, batch=8, is_drawn=False, **fields):
    """Return the same in float64, under ``jax.enable_x64``."""
    net = ObservedNet(models.complete({"depth": 8} | fields), 10, SHAPE, "float32")
    net.model = net.model.clone(dtype=jnp.float64)
    subject = subject_of_net(net, examples, batch, 0 if is_drawn else 1000, is_drawn)
    return subject._replace(variables=jax.tree.map(np.float64, subject.variables))


def subject_of_net(net, examples, batch, step, is_drawn):
    random = np.random.default_rng(0)
    images = [Images(random.normal(size=(examples, *SHAPE)).astype(np.float32), np.arange(examples) % 10)] * 2
    variables = models.initial_variables(net.model, 0, SHAPE)
    if not is_drawn:
        variables = shaken(variables)
    return Subject(net, variables, step, not is_drawn, *images, Settings(examples, batch, 0))


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
