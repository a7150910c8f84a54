"""What happens to the state in training steps, and how the state is evaluated: the view of one device."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from resnet_jax.data import augment
from resnet_jax.training.optimizer import plateau_scale
from resnet_jax.training.parallel import AXIS

# Addresses the augmentation among the draws made from the same seed.
_AUGMENTATION = 0xA06


@flax.struct.dataclass
class TrainState:
    """All that a step changes; everything else follows from the config, the seed and the step.

    Attributes:
      step: int32 scalar, the steps already made.
      params: float32 parameters.
      batch_stats: float32 running means and variances of the batch norms.
      opt_state: of the optimiser.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any


class DeviceData(NamedTuple):
    """The examples of all splits, on the device; a split is a range of them.

    One array for all makes training and evaluation compile once, however many splits there are.

    Attributes:
      images: uint8 ``[examples, height, width, channels]``.
      labels: int32 ``[examples]``.
      mean: float32 ``[height, width, channels]``, the mean of the training images in units of 255.
      seed: uint32 scalar, of the augmentation; a run with another seed needs no other program.
    """

    images: jax.Array
    labels: jax.Array
    mean: jax.Array
    seed: jax.Array


def training_batch(
    data: DeviceData, indices: jax.Array, step: jax.Array, padding: int, flip: bool
) -> tuple[jax.Array, jax.Array]:
    """Return the normalised, augmented images of ``step``, float32, and their labels; ``AXIS`` is bound.

    Args:
      data: whole on every device.
      indices: int32 ``[batch / devices]``, this device's share of the batch.
      step: the steps already made.
      padding: of the random crops.
      flip: whether images are mirrored at random.
    """
    images = augment.normalise(data.images[indices], data.mean)
    labels = data.labels[indices]
    if padding or flip:
        # Drawn for the whole batch, so that the draws do not depend on the number of devices.
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(data.seed), _AUGMENTATION), step)
        share = indices.shape[0]
        crops = augment.draw_crops(key, share * jax.lax.axis_size(AXIS), padding, flip)
        start = jax.lax.axis_index(AXIS) * share
        crops = jax.tree.map(lambda all_: jax.lax.dynamic_slice(all_, (start,), (share,)), crops)
        images = augment.crop_and_flip(images, crops, padding)
    return images, labels


def train_step(
    state: TrainState,
    data: DeviceData,
    indices: jax.Array,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformationExtraArgs,
    padding: int,
    flip: bool,
    sync_batch_norm: bool,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Make one step of gradient descent; runs on every device, with the axis ``AXIS`` bound.

    Args:
      state: equal on all devices.
      data: whole on every device.
      indices: int32 ``[batch / devices]``, this device's share of the batch.
      model: the net.
      optimizer: of ``state.opt_state``.
      padding: of the random crops.
      flip: whether images are mirrored at random.
      sync_batch_norm: whether ``model`` takes its batch statistics over all devices.

    Returns:
      The next state; the mean "loss" and "error" (a fraction) of the augmented batch before the step, and "lr_scale",
      what plateaus have multiplied the learning rate of the step by.
    """
    images, labels = training_batch(data, indices, state.step, padding, flip)
    # Without this, gradients of parameters that are equal on all devices arrive already summed over the devices.
    params = jax.lax.pcast(state.params, AXIS, to="varying")

    def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, (jnp.mean(jnp.argmax(logits, -1) != labels), updates["batch_stats"])

    (loss, (error, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
    gradients, loss, error = jax.lax.pmean((gradients, loss, error), AXIS)
    if not sync_batch_norm:
        batch_stats = jax.lax.pmean(batch_stats, AXIS)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params, value=loss)
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": loss, "error": error, "lr_scale": plateau_scale(opt_state)}
    return TrainState(state.step + 1, params, batch_stats, opt_state), metrics


def train_steps(
    state: TrainState, data: DeviceData, indices: jax.Array, **settings: Any
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Make ``train_step`` for each row of ``indices``, without the host in between.

    Args:
      state: equal on all devices.
      data: whole on every device.
      indices: int32 ``[steps, batch / devices]``.
      **settings: of ``train_step``.

    Returns:
      The last state, and the "loss", "error" and "lr_scale" of each step, ``[steps]``.
    """
    step: Callable = functools.partial(train_step, **settings)
    return jax.lax.scan(lambda state, batch: step(state, data, batch), state, indices)


def eval_step(
    state: TrainState, data: DeviceData, indices: jax.Array, weights: jax.Array, *, model: nn.Module
) -> dict[str, jax.Array]:
    """Return the sums of "loss" and "error" over a batch of unaugmented examples, from the running statistics.

    Args:
      state: equal on all devices.
      data: whole on every device.
      indices: int32 ``[batch / devices]``, this device's share of the batch.
      weights: float32 ``[batch / devices]``, 0 for examples that do not count, else 1.
      model: the net.
    """
    images = augment.normalise(data.images[indices], data.mean)
    labels = data.labels[indices]
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits: Any = model.apply(variables, images, train=False)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    errors = jnp.argmax(logits, -1) != labels
    sums = {"loss": jnp.sum(losses * weights), "error": jnp.sum(errors * weights)}
    return jax.lax.psum(sums, AXIS)
