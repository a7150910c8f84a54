"""One training step and one evaluation step, as each device computes them.

``parallel.map_over_devices`` maps both over all devices and binds the axis ``AXIS``, over which they average.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from resnet_jax.data import augment
from resnet_jax.models.stage import RANDOM
from resnet_jax.training import vectors
from resnet_jax.training.interventions import GateSchedule, gates_at
from resnet_jax.training.optimizer import evaluated_params, plateau_scale
from resnet_jax.training.parallel import AXIS

# Separate the draws of the augmentation and of the net from other draws from the same seed.
_AUGMENTATION, _NET = 0xA06, 0x4E7


@flax.struct.dataclass
class TrainState:
    """All that a step changes; everything else follows from the config, the seed and the step.

    Attributes:
      step: int32 scalar, the steps already made.
      params: float32 parameters.
      batch_stats: float32 running means and variances of the batch norms.
      opt_state: state of the optimiser.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any


def without_optimizer(state: TrainState) -> TrainState:
    """Return ``state`` without the state of the optimiser, the form in which nets are kept for good."""
    return TrainState(state.step, state.params, state.batch_stats, ())


class StepInputs(NamedTuple):
    """Inputs of every step in addition to the state and its batch: arrays on the device that no step changes.

    The examples of all splits are one array, a split is a range of it and a batch is indices into it, so training and
    evaluation compile once, however many splits there are. A streamed data set has no such arrays; there a batch is the
    images and labels themselves.

    Attributes:
      images: uint8 ``[examples, height * width * channels]``, or None. With more axes a TPU would copy all images into
        another layout in each dispatch.
      labels: int32 ``[examples]``, or None.
      mean: float32 ``[height, width, channels]``, of streamed images ``[1, 1, channels]``: mean of the training images
        scaled to [0, 1].
      seed: uint32 scalar for the augmentation; a run with another seed runs the same program.
      gates: gates of the net over the steps; None for the ungated net. Other values run the same program.
      std: float32 ``[1, 1, channels]``, divisor of the difference from ``mean``; None for no division.
      trainable: as in ``Interventions``.
    """

    images: jax.Array | None
    labels: jax.Array | None
    mean: jax.Array
    seed: jax.Array
    gates: GateSchedule | None = None
    std: jax.Array | None = None
    trainable: Any = None


# One device's share of a batch: int32 indices ``[batch / devices]`` into ``StepInputs``, or for a streamed data set its
# uint8 images and int32 labels.
DeviceBatch = Any


class DeviceAugmentation(NamedTuple):
    """Random changes of a training step to its images.

    Attributes:
      padding: padding of the random crops, in pixels; 0 for no crops.
      flip: whether images are mirrored at random.
      color_noise: standard deviation of the colour noise; 0 for none.
      pad: value of the padding, as ``config.data.pad``.
    """

    padding: int
    flip: bool
    color_noise: float
    pad: str = "zero"

    @classmethod
    def of(cls, config: ConfigDict) -> Self:
        """Return the augmentation of ``config``, the "data" part of a run's config."""
        return cls(config.padding, config.flip, config.color_noise, config.pad)


def loss_fn(
    params: Any,
    batch_stats: Any,
    images: jax.Array,
    labels: jax.Array,
    *,
    model: nn.Module,
    gates: Any = None,
    key: jax.Array | None = None,
    mutable: tuple[str, ...] = ("batch_stats",),
    **apply_options: Any,
) -> tuple[jax.Array, tuple[jax.Array, dict[str, Any]]]:
    """Return the loss of a batch in training mode; everything that differentiates the loss differentiates this.

    Args:
      params: parameters of the net.
      batch_stats: running statistics of the net.
      images: normalised and augmented images, float32 ``[batch, height, width, channels]``.
      labels: int32 ``[batch]``.
      model: the net.
      gates: collection "gates" of the net; None for the ungated net.
      key: key of the draws of dropout and stochastic depth; None for a net without them.
      mutable: collections that the forward pass updates.
      **apply_options: further options of ``model.apply``, such as ``capture_intermediates``.

    Returns:
      The mean cross entropy; the error (a fraction) and the updated collections by name.
    """
    variables = net_variables(params, batch_stats, gates)
    rngs = None if key is None else dict.fromkeys(RANDOM, key)
    applied: Any = model.apply(variables, images, train=True, mutable=list(mutable), rngs=rngs, **apply_options)
    logits, updates = applied
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, (jnp.mean(jnp.argmax(logits, -1) != labels), updates)


def net_variables(params: Any, batch_stats: Any, gates: Any = None) -> dict[str, Any]:
    """Return the variables of a net by collection; a static net has no gates."""
    variables = {"params": params, "batch_stats": batch_stats}
    return variables if gates is None else variables | {"gates": gates}


def labelled_images(examples: StepInputs, batch: DeviceBatch) -> tuple[jax.Array, jax.Array]:
    """Return the normalised images of ``batch``, float32, and their labels."""
    if examples.images is None or examples.labels is None:
        images, labels = batch
    else:
        images = examples.images[batch].reshape(-1, *examples.mean.shape)
        labels = examples.labels[batch]
    return augment.normalise(images, examples.mean, examples.std), labels


def training_batch(
    examples: StepInputs, batch: DeviceBatch, step: jax.Array, augmentation: DeviceAugmentation
) -> tuple[jax.Array, jax.Array]:
    """Return the normalised, augmented images of ``step``, float32, and their labels; ``AXIS`` is bound."""
    images, labels = labelled_images(examples, batch)
    padding, flip, color_noise, pad = augmentation
    # Drawn for the whole batch, so that the draws do not depend on the number of devices.
    key = step_key(examples, _AUGMENTATION, step)
    share = labels.shape[0]
    whole = share * jax.lax.axis_size(AXIS)

    def own(drawn: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(drawn, jax.lax.axis_index(AXIS) * share, share)

    if padding or flip:
        crops = jax.tree.map(own, augment.draw_crops(key, whole, padding, flip))
        images = augment.crop_and_flip(images, crops, padding, pad)
    if color_noise:
        noise = own(augment.draw_color_noise(key, whole, color_noise))
        images = images + (noise if examples.std is None else noise / examples.std[None])
    return images, labels


def step_key(examples: StepInputs, purpose: int, step: jax.Array) -> jax.Array:
    """Return the key of the draws that a step makes for ``purpose``, the same on all devices."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(examples.seed), purpose), step)


def gradients_of(
    state: TrainState,
    examples: StepInputs,
    images: jax.Array,
    labels: jax.Array,
    sync_batch_norm: bool,
    **options: Any,
) -> tuple[tuple[jax.Array, tuple[jax.Array, dict[str, Any]]], Any]:
    """Return the results of ``loss_fn`` in a training step and its gradients, of this device; ``AXIS`` is bound.

    Args:
      state: state before the step.
      examples: inputs of the step.
      images: normalised and augmented images.
      labels: labels of the images.
      sync_batch_norm: as in ``train_step``.
      **options: options of ``loss_fn``.
    """
    # Without this, gradients of parameters that are equal on all devices arrive already summed over the devices.
    params, batch_stats = jax.lax.pcast(state.params, AXIS, to="varying"), state.batch_stats
    if not sync_batch_norm:  # Each device's own until they are averaged, also those that a dropped block passes on.
        batch_stats = jax.lax.pcast(batch_stats, AXIS, to="varying")
    compute = jax.value_and_grad(loss_fn, has_aux=True)
    key = step_key(examples, _NET, state.step)
    return compute(params, batch_stats, images, labels, gates=gates_at(examples.gates, state.step), key=key, **options)


def train_step(
    state: TrainState,
    examples: StepInputs,
    batch: DeviceBatch,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformationExtraArgs,
    augmentation: DeviceAugmentation,
    sync_batch_norm: bool,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Make one step of gradient descent; runs on every device, with the axis ``AXIS`` bound.

    Args:
      state: equal on all devices.
      examples: equal on all devices.
      batch: this device's share.
      model: the net.
      optimizer: the optimiser of ``state.opt_state``.
      augmentation: augmentation of the images.
      sync_batch_norm: whether ``model`` computes its batch statistics over all devices.

    Returns:
      The next state; the mean "loss" and "error" (a fraction) of the augmented batch before the step, and "lr_scale",
      the factor by which plateaus have scaled the learning rate of the step.
    """
    images, labels = training_batch(examples, batch, state.step, augmentation)
    (loss, (error, updated)), gradients = gradients_of(state, examples, images, labels, sync_batch_norm, model=model)
    batch_stats = updated.get("batch_stats", {})  # A net without batch norm has none.
    gradients, loss, error = jax.lax.pmean((gradients, loss, error), AXIS)
    if not sync_batch_norm:
        batch_stats = jax.lax.pmean(batch_stats, AXIS)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params, value=loss)
    if examples.trainable is not None:
        updates = jax.tree.map(lambda update, is_trained: jnp.where(is_trained, update, 0), updates, examples.trainable)
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": loss, "error": error, "lr_scale": plateau_scale(opt_state)}
    return TrainState(state.step + 1, params, batch_stats, opt_state), metrics


def train_steps(
    state: TrainState, examples: StepInputs, batches: DeviceBatch, *, in_vectors: bool = False, **settings: Any
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Make a ``train_step`` for each of ``batches`` without returning to the host in between.

    Args:
      state: equal on all devices.
      examples: equal on all devices.
      batches: this device's shares, with a first axis of steps.
      in_vectors: whether parameters, and each part of the optimiser's state that is like them, are one vector between
        steps, if there are several. GPUs then update all of them in few kernels instead of one or more for each array.
      **settings: settings of ``train_step``.

    Returns:
      The last state, and the "loss", "error" and "lr_scale" of each step, ``[steps]``.
    """
    step: Callable = functools.partial(train_step, **settings)
    steps = len(jax.tree.leaves(batches)[0])
    pack, unpack = vectors.packing(state) if in_vectors and steps > 1 else (vectors.same, vectors.same)

    def packed_step(packed: Any, batch: DeviceBatch) -> tuple[Any, dict[str, jax.Array]]:
        state, metrics = step(unpack(packed), examples, batch)
        return pack(state), metrics

    packed, metrics = jax.lax.scan(packed_step, pack(state), batches)
    return unpack(packed), metrics


def eval_step(
    state: TrainState, examples: StepInputs, batch: DeviceBatch, weights: jax.Array, *, model: nn.Module
) -> dict[str, jax.Array]:
    """Return the sums of "loss", "error" and "weight" over a batch, not augmented and with the running statistics.

    Where a running average of the parameters is kept, the average is evaluated.

    Args:
      state: equal on all devices.
      examples: equal on all devices.
      batch: this device's share.
      weights: float32 ``[batch / devices]``, 0 for examples that do not count, else 1.
      model: the net.
    """
    images, labels = labelled_images(examples, batch)
    params = evaluated_params(state.params, state.opt_state)
    variables = net_variables(params, state.batch_stats, gates_at(examples.gates, state.step))
    logits: Any = model.apply(variables, images, train=False)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    errors = jnp.argmax(logits, -1) != labels
    sums = {"loss": jnp.sum(losses * weights), "error": jnp.sum(errors * weights), "weight": jnp.sum(weights)}
    return jax.lax.psum(sums, AXIS)
