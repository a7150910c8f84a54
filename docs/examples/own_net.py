"""A net of your own, from Flax's own layers: residual or plain blocks of one 3x3 convolution.
python -m experiments.main --import=docs/examples/own_net.py --config=configs/digits_plain20.py \
    --config.model.family=own_net"""

import flax.linen as nn

from resnet_jax import models


class Block(nn.Module):
    residual: bool
    axis_name: str | None

    @nn.compact
    def __call__(self, x, train):
        y = nn.Conv(x.shape[-1], (3, 3))(x)
        y = nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name=self.axis_name)(y)
        return nn.relu(x + y if self.residual else y)


class OwnNet(nn.Module):
    blocks: int
    residual: bool
    num_classes: int
    axis_name: str | None

    @nn.compact
    def __call__(self, images, train):
        x = nn.Conv(32, (3, 3), strides=2)(images)
        for number in range(self.blocks):
            x = Block(self.residual, self.axis_name, name=f"block{number}")(x, train)
        return nn.Dense(self.num_classes)(x.mean((1, 2)))


def make(model, *, num_classes, axis_name, sync_batch_norm, **_):  # Computes in float32, whatever the dtype.
    return OwnNet(model.depth - 2, model.residual, num_classes, axis_name if sync_batch_norm else None)


models.register_family("own_net", make)
