"""A net as instruments observe it: outputs of its blocks, gradients with respect to them, and gates for lesions.

A net is compiled once for all its seeds and steps. Blocks are read by intercepting their calls, so that no module
contains code for instruments; in a loop over alike blocks Flax stacks the recorded arrays.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.models import Gate
from resnet_jax.models.gates import LEAF as GATE
from resnet_jax.models.gates import PLAIN, RESIDUAL, gate_of
from resnet_jax.models.layers.addition import Scaled
from resnet_jax.models.layers.norm import BatchNorm, Bias, GroupNorm
from resnet_jax.models.parts import part_of
from resnet_jax.models.stacking import Path, assemble, is_block, stage_of
from resnet_jax.models.stage import RANDOM
from resnet_jax.models.zoo.densenet import DenseNet

# Name of a block's recorded output and of its perturbation, in Flax's "intermediates" and "perturbations".
LEAF = "output"
# Name of a recorded part of a block, different from all names of layers.
PART = "{} before addition"
RECORDED, PERTURBED = "intermediates", "perturbations"

# Arrays by the names of blocks, such as "stage2/block3", in forward order.
BlockArrays = dict[str, jax.Array]
# ``{"params": ..., "batch_stats": ...}`` and, for a gated net, "gates".
Variables = Mapping[str, Any]


class Block(NamedTuple):
    """A block of a net.

    Attributes:
      name: name of the block, such as "stage2/block3".
      stage: name of its stage, such as "stage2".
      path: path in the variables, where alike blocks are one.
      place: index among the blocks stacked there; None outside of loops.
      shape: shape of its output, ``(height, width, channels)``.
    """

    name: str
    stage: str
    path: Path
    place: int | None
    shape: tuple[int, ...]


class Parts(NamedTuple):
    """The branch and the shortcut of a block, ``[batch, height, width, channels]``."""

    branch: np.ndarray
    shortcut: np.ndarray


class ObservedNet:
    """A net and its compiled functions.

    Attributes:
      config: fields of ``config.model``.
      model: Flax module.
      title: title of the net, such as "plain-56".
      num_classes: width of the head.
      image_shape: shape of its images, ``(height, width, channels)``.
      blocks: blocks in forward order.
      convolutions_per_block: number of convolutions between the outputs of two consecutive blocks.
    """

    def __init__(self, config: ConfigDict, num_classes: int, image_shape: tuple[int, ...], dtype: str) -> None:
        """Build the net of ``config``, which computes in ``dtype``."""
        self.config, self.num_classes, self.image_shape = config, num_classes, image_shape
        # Unrolled, because a loop over the layers of a DenseNet shows none of them.
        is_dense = isinstance(models.build(config, num_classes), DenseNet)
        self.model = models.build(config, num_classes, dtype, unroll=is_dense)
        self.title = models.title(config)
        walked = models.walk(self.model, image_shape)
        layers = [layer for layer in walked if layer.is_block]
        self.blocks = [
            Block(layer.name, stage_of(layer.name), layer.path, layer.block, layer.output_shape) for layer in layers
        ]
        last = layers[-1] if layers else None
        own = [each for each in walked if last and (each.path[:-1], each.block) == (last.path, last.block)]
        # Blocks of parallel branches, such as Inception's, have a share of the depth, which counts the longest branch.
        share = max(config.depth - 2, 1) / max(len(layers), 1)
        self.convolutions_per_block = sum(map(bool, (each.multiply_adds for each in own))) or share
        self.outputs: Callable[..., tuple[jax.Array, BlockArrays]] = jax.jit(self._outputs, static_argnames="train")
        self.output_gradients: Callable[..., tuple[jax.Array, BlockArrays, Any]] = jax.jit(
            self._output_gradients, static_argnames="train"
        )
        self.separated: Callable[..., dict[str, BlockArrays]] = jax.jit(self._separated, static_argnames="train")
        self.cotangent_gradients: Callable[..., BlockArrays] = jax.jit(
            self._cotangent_gradients, static_argnames="train"
        )
        self.loss: Callable[..., jax.Array] = jax.jit(self.loss_of, static_argnames="train")
        self.gradient: Callable[..., tuple[jax.Array, Any]] = jax.jit(
            jax.value_and_grad(self.loss_of), static_argnames="train"
        )

    @property
    def is_residual(self) -> bool:
        """Whether the blocks have shortcuts."""
        return self.config.residual

    def apply(self, variables: Variables, images: jax.Array, train: bool, **options: Any) -> Any:
        """Return the logits of ``images``, and with ``mutable`` also the updated collections.

        In training mode batch norms use the statistics of ``images``; dropout and stochastic depth draw from a constant
        key.
        """
        if not train:
            return self.model.apply(variables, images, train=False, **options)
        mutable = options.pop("mutable", [])
        rngs = dict.fromkeys(RANDOM, jax.random.key(0))
        applied = self.model.apply(
            variables, images, train=True, mutable=["batch_stats", *mutable], rngs=rngs, **options
        )
        return applied if mutable else applied[0]

    def logits_of(self, variables: Variables, images: jax.Array, train: bool) -> jax.Array:
        """Return the logits ``[batch, classes]``."""
        return self.apply(variables, images, train)

    def loss_of(self, params: Any, others: Variables, images: jax.Array, labels: jax.Array, train: bool) -> jax.Array:
        """Return the mean cross entropy of a batch, without weight decay; a function of ``params`` to differentiate.

        Args:
          params: collection "params" of the net.
          others: other collections of the net.
          images: normalised, float32 ``[batch, height, width, channels]``.
          labels: int ``[batch]``.
          train: whether batch norms use the statistics of the batch.
        """
        logits = self.logits_of({**others, "params": params}, images, train)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def _outputs(self, variables: Variables, images: jax.Array, train: bool) -> tuple[jax.Array, BlockArrays]:
        """Return the logits, and the output ``[batch, height, width, channels]`` of each block."""
        with nn.intercept_methods(functools.partial(watch, record=True)):
            logits, updates = self.apply(variables, images, train, mutable=[RECORDED])
        return logits, self.by_block(updates[RECORDED], unwrap=lambda leaf: leaf[0])

    def _output_gradients(
        self, variables: Variables, images: jax.Array, labels: jax.Array, train: bool
    ) -> tuple[jax.Array, BlockArrays, Any]:
        """Return the mean loss, and the gradients of the *sum* of losses by each block's output and by ``params``.

        Gradients of the sum, because one image's do not shrink with the batch. One pass forward and one backward.
        """

        def total(zeros: Any, params: Any) -> jax.Array:
            others = {**variables, PERTURBED: zeros}
            return len(labels) * self.loss_of(params, others, images, labels, train)

        with nn.intercept_methods(functools.partial(watch, record=False)):
            zeros = self.perturbations(variables, images)
            loss, (by_output, by_params) = jax.value_and_grad(total, argnums=(0, 1))(zeros, variables["params"])
        return loss / len(labels), self.by_block(by_output), by_params

    def _cotangent_gradients(
        self, variables: Variables, images: jax.Array, cotangent: jax.Array, train: bool
    ) -> BlockArrays:
        """Return the gradients by each block's output of the sum over images of ``logits @ cotangent``."""

        def total(zeros: Any) -> jax.Array:
            return jnp.sum(self.logits_of({**variables, PERTURBED: zeros}, images, train) @ cotangent)

        with nn.intercept_methods(functools.partial(watch, record=False)):
            return self.by_block(jax.grad(total)(self.perturbations(variables, images)))

    def perturbations(self, variables: Variables, images: jax.Array) -> Any:
        """Return Flax's collection of zeros to add to the outputs of blocks; call it while blocks are intercepted."""
        shapes = jax.eval_shape(lambda: self.model.apply(variables, images, train=False, mutable=[PERTURBED])[1])
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[PERTURBED])

    def by_block(
        self, collection: Any, unwrap: Callable[[Any], jax.Array] = lambda leaf: leaf, name: str = LEAF
    ) -> BlockArrays:
        """Return leaf ``name`` of each block in ``collection``; ``unwrap`` takes the array out of the leaf."""
        leaves = flax.traverse_util.flatten_dict(collection, is_leaf=lambda path, _: path[-1:] == (name,))
        found = {}
        for block in self.blocks:
            leaf = unwrap(leaves[(*block.path, name)])
            found[block.name] = leaf if block.place is None else leaf[block.place]
        return found

    def gated(self, variables: Variables, changed: Mapping[str, Gate]) -> Variables:
        """Return ``variables`` with the gates ``changed``, by names of blocks, and all others unchanged.

        ``DELETED`` makes the output of a block its shortcut, in a plain net its input.

        Raises:
          UserError: the blocks of the net have no gates.
        """
        if not models.FAMILIES[self.config.family].has_gates:
            raise UserError(f"the blocks of {self.title} have no shortcut that could be opened or closed")
        if "gates" in variables:
            leaves = models.unstack(variables["gates"])
            gates = {block.name: Gate(*leaves[(*block.name.split("/"), GATE)]) for block in self.blocks}
        else:
            gates = dict.fromkeys((block.name for block in self.blocks), RESIDUAL if self.is_residual else PLAIN)
        every = {**gates, **changed}
        stacked = [
            ((*block.path, GATE), block.place, np.asarray(every.pop(block.name), np.float32)) for block in self.blocks
        ]
        if every:
            raise ValueError(f"{self.title} has no blocks {', '.join(every)}")
        # Without the walk of ``models.gate_blocks``, which costs more than a forward pass.
        return {**variables, "gates": assemble(stacked)}

    def parts(self, variables: Variables, images: np.ndarray, train: bool) -> Iterator[tuple[Block, Parts]]:
        """Yield the branch and the shortcut of each block before their addition, in one forward pass.

        The branch includes its gain; gates are left out. In a plain net the shortcut is the identity that it lacks
        (option A).

        Raises:
          UserError: the blocks of the net have no gates, a norm after the addition, or are dropped at random.
        """
        self.require_blocks()
        if not models.FAMILIES[self.config.family].has_gates:
            raise UserError(f"the blocks of {self.title} have no shortcut that could be opened or closed")
        if train and self.config.survival < 1:
            raise UserError(f"blocks of {self.title} are dropped at random in training, whatever their gates")
        if self.config.order == "norm_after_addition":
            raise UserError(f"in {self.title} a norm follows the addition, so branch and shortcut cannot be separated")
        try:
            found = self.separated(variables, images, train=train)
        except KeyError as error:
            raise UserError(
                f"blocks of {self.title} add neither by Block.add nor in their last norm, so branch and shortcut "
                "cannot be separated"
            ) from error
        for block in self.blocks:
            yield block, Parts(*(np.asarray(found[part][block.name]) for part in Parts._fields))

    def _separated(self, variables: Variables, images: jax.Array, train: bool) -> dict[str, BlockArrays]:
        """Return "branch" and "shortcut" of each block, ``[batch, height, width, channels]``."""
        with nn.intercept_methods(separate):
            _, updates = self.apply(variables, images, train, mutable=[RECORDED])
        recorded = updates[RECORDED]
        return {part: self.by_block(recorded, lambda leaf: leaf[0], PART.format(part)) for part in Parts._fields}

    def require_blocks(self, least: int = 1) -> None:
        """Raise a UserError unless the net has at least ``least`` blocks."""
        if not self.blocks:
            raise UserError(f'{self.title} has no blocks, which are modules named "block" and a number')
        if len(self.blocks) < least:
            raise UserError(f"{self.title} has fewer than {least} blocks")


def without_params(variables: Variables) -> dict[str, Any]:
    """Return the collections of ``variables`` other than "params", by which nothing is differentiated."""
    return {name: each for name, each in variables.items() if name != "params"}


def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext, record: bool) -> Any:
    """Call a method and, if it is a block's, record its output or let it be perturbed."""
    output = call(*args, **kwargs)
    module = context.module
    if context.method_name != "__call__" or not module.path or not is_block(module.path):
        return output
    if record:
        module.sow(RECORDED, LEAF, output)
        return output
    return module.perturb(LEAF, output)


def separate(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    """Call a method; if it is a block's, record its shortcut and branch without gates, before the addition."""
    part = part_of(args, kwargs, context)
    if part is not None and part.name == "join":
        with nn.intercept_methods(recording_branch(part.block)):
            return call(*args, **kwargs)
    output = call(*args, **kwargs)
    if part is not None and part.name == "shortcut":
        shortcut = output.z if isinstance(output, Scaled) else output
        shortcut = part.block.identity(part.args[0]) if shortcut is None else shortcut
        part.block.sow(RECORDED, PART.format("shortcut"), shortcut)
    return output


def recording_branch(block: models.Block) -> Callable[..., Any]:
    """Return an interceptor that records the branch of ``block`` without its gate, while the block joins its parts.

    Either the block adds, or its last norm does, the only norm that is called with a shortcut, which may be None.
    """
    repeated: set[int] = set()  # Identities of norms that are being called again.

    def ungated(gain: Any) -> Any:
        gate = gate_of(block)
        # The gain of a closed branch cannot be recovered.
        return gain if gate is None else jnp.where(gate.branch == 0, 1, gain / gate.branch)

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module, part = context.module, part_of(args, kwargs, context)
        if part is not None and part.name == "add":
            branch, _, gain = part.args
            block.sow(RECORDED, PART.format("branch"), call(branch, None, ungated(gain)))
        adds = isinstance(module, BatchNorm | GroupNorm | Bias) and (len(args) > 1 or "shortcut" in kwargs)
        if not adds or id(module) in repeated:
            return call(*args, **kwargs)
        repeated.add(id(module))  # Flax lets only whole calls repeat, and those come here again.
        unjoined = kwargs | {"shortcut": None, "activate": False, "gain": ungated(kwargs.get("gain"))}
        block.sow(RECORDED, PART.format("branch"), module(args[0], **unjoined))
        return module(*args, **kwargs)

    return intercept


_NETS: dict[str, ObservedNet] = {}


def net_of(config: ConfigDict, num_classes: int, image_shape: tuple[int, ...], dtype: str = "float32") -> ObservedNet:
    """Return the net of ``config``, the same object for equal arguments, so that it is compiled once."""
    key = json.dumps([config.to_dict(), num_classes, image_shape, dtype], sort_keys=True, default=str)
    if key not in _NETS:
        _NETS[key] = ObservedNet(config, num_classes, image_shape, dtype)
    return _NETS[key]
