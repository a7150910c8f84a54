"""A net that compiles in a second, for tests of what surrounds a net."""

import flax.linen as nn
import jax.numpy as jnp

from resnet_jax import models
from resnet_jax.models.layers.conv import padded_conv
from resnet_jax.models.layers.dropout import Dropout
from resnet_jax.models.layers.head import logits_of
from resnet_jax.models.layers.norm import BatchNorm


class Block(nn.Module):
    """A convolution, norm and ReLU."""

    train: bool
    axis_name: str | None

    @nn.compact
    def __call__(self, x):
        return BatchNorm(self.train, self.axis_name, name="bn")(padded_conv(4, 3, 2, name="conv")(x))


class TinyNet(nn.Module):
    """Two blocks, dropout and a head."""

    num_classes: int
    dropout_rate: float
    axis_name: str | None
    sync_batch_norm: bool

    @nn.compact
    def __call__(self, images, train):
        x = images
        for name in ("block0", "block1"):
            x = Block(train, self.axis_name if self.sync_batch_norm else None, name=name)(x)
        x = Dropout(self.dropout_rate, train, self.axis_name)(x)
        return logits_of(x.mean((1, 2)), self.num_classes, jnp.float32)


def make(model, *, num_classes, axis_name, sync_batch_norm, **_):
    return TinyNet(num_classes, model.dropout, axis_name, sync_batch_norm)


def with_tiny_net(config):
    """Return ``config`` with the tiny net as its family; for tests with the fixture ``registrations``."""
    models.register_family("tiny", make, fields=("depth", "dropout"))
    config.model.family = "tiny"
    return config
