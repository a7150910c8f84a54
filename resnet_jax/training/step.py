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
    """The examples of all splits, on the device; a split is a range of them, and a batch is indices.

    One array for all makes training and evaluation compile once, however many splits there are. Of a stream there are
    none, and a batch is images and labels themselves.

    Attributes:
      images: uint8 ``[examples, height, width, channels]``, or None.
      labels: int32 ``[examples]``, or None.
      mean: float32 ``[height, width, channels]`` or ``[1, 1, channels]``, the mean of the training images in units of
        255.
      seed: uint32 scalar, of the augmentation; a run with another seed needs no other program.
    """

    images: jax.Array | None
    labels: jax.Array | None
    mean: jax.Array
    seed: jax.Array


# This device's share of a batch: int32 indices ``[batch / devices]`` into ``DeviceData``, or of a stream its uint8
# images and int32 labels.
Batch = Any


class Augmentation(NamedTuple):
    """What is done to training images at random, as of ``config.data``.

    Attributes:
      padding: of the random crops; 0 for none.
      flip: whether images are mirrored at random.
      color_noise: deviation of the colour noise; 0 for none.
    """

    padding: int
    flip: bool
    color_noise: float


def examples_of(data: DeviceData, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Return the normalised images of ``batch``, float32, and their labels."""
    if data.images is None or data.labels is None:
        images, labels = batch
    else:
        images, labels = data.images[batch], data.labels[batch]
    return augment.normalise(images, data.mean), labels


def training_batch(
    data: DeviceData, batch: Batch, step: jax.Array, augmentation: Augmentation
) -> tuple[jax.Array, jax.Array]:
    """Return the normalised, augmented images of ``step``, float32, and their labels; ``AXIS`` is bound."""
    images, labels = examples_of(data, batch)
    padding, flip, color_noise = augmentation
    # Drawn for the whole batch, so that the draws do not depend on the number of devices.
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(data.seed), _AUGMENTATION), step)
    share = labels.shape[0]
    whole = share * jax.lax.axis_size(AXIS)

    def own(drawn: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(drawn, jax.lax.axis_index(AXIS) * share, share)

    if padding or flip:
        crops = jax.tree.map(own, augment.draw_crops(key, whole, padding, flip))
        images = augment.crop_and_flip(images, crops, padding)
    if color_noise:
        images = images + own(augment.draw_color_noise(key, whole, color_noise))
    return images, labels


def train_step(
    state: TrainState,
    data: DeviceData,
    batch: Batch,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformationExtraArgs,
    augmentation: Augmentation,
    sync_batch_norm: bool,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Make one step of gradient descent; runs on every device, with the axis ``AXIS`` bound.

    Args:
      state: equal on all devices.
      data: whole on every device.
      batch: this device's share.
      model: the net.
      optimizer: of ``state.opt_state``.
      augmentation: of the images.
      sync_batch_norm: whether ``model`` takes its batch statistics over all devices.

    Returns:
      The next state; the mean "loss" and "error" (a fraction) of the augmented batch before the step, and "lr_scale",
      what plateaus have multiplied the learning rate of the step by.
    """
    images, labels = training_batch(data, batch, state.step, augmentation)
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
    state: TrainState, data: DeviceData, batches: Batch, **settings: Any
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Make ``train_step`` for each of ``batches``, without the host in between.

    Args:
      state: equal on all devices.
      data: whole on every device.
      batches: this device's shares, with a first axis of steps.
      **settings: of ``train_step``.

    Returns:
      The last state, and the "loss", "error" and "lr_scale" of each step, ``[steps]``.
    """
    step: Callable = functools.partial(train_step, **settings)
    return jax.lax.scan(lambda state, batch: step(state, data, batch), state, batches)


def eval_step(
    state: TrainState, data: DeviceData, batch: Batch, weights: jax.Array, *, model: nn.Module
) -> dict[str, jax.Array]:
    """Return the sums of "loss", "error" and "weight" over a batch of unaugmented examples, by the running statistics.

    Args:
      state: equal on all devices.
      data: whole on every device.
      batch: this device's share.
      weights: float32 ``[batch / devices]``, 0 for examples that do not count, else 1.
      model: the net.
    """
    images, labels = examples_of(data, batch)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits: Any = model.apply(variables, images, train=False)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    errors = jnp.argmax(logits, -1) != labels
    sums = {"loss": jnp.sum(losses * weights), "error": jnp.sum(errors * weights), "weight": jnp.sum(weights)}
    return jax.lax.psum(sums, AXIS)
