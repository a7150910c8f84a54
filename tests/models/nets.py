"""Nets of few narrow blocks, which compile in seconds."""

from resnet_jax import models
from resnet_jax.models.resnet import residual_net


def small_net(stage_sizes=(3, 2), widths=(4, 8), settings=None, **fields):
    """Return the net of the ``fields`` of ``config.model`` with other stages; ``settings`` are attributes of it."""
    return residual_net(models.complete(fields), stage_sizes, widths, num_classes=10, **(settings or {}))
