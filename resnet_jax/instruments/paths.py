"""How long are the paths by which gradients return through a residual net?

A net of n blocks has C(n, k) paths through k branches and n - k shortcuts (Veit, Wilber and Belongie 2016, arXiv
1605.06431, section 4). Forward the net is whole; backward the gradient passes k random blocks, which are on the path,
only by the branch, and the others only by the shortcut. For each length k in 0..n:

- **norm**: the root mean square over images of the norm of the gradient of the image's own loss by the output of the
  stem, along one path; the mean over random paths.
- **count**: C(n, k); **share**: count times norm over its sum, the expected distribution of gradient over lengths, with
  its **mean_length** and **range**, from the 5 % to the 95 % quantile.
- **slope**: slope of the log of the norm by length, least squares over the lengths with a norm above 0.

The gradient is taken at the stem's output and not at the images, so that data sets with different channels compare and
the stem's kernel is left out.

Traps: gradients of paths add up to the net's gradient, their norms do not, since gradients have signs; so shares show
which lengths can contribute. In nets whose blocks end in a ReLU even the path of length 0 is masked by it. Once
training images are fitted, few of them have any gradient. With batch statistics, the share that batch norm carries over
from batch-mates passes along a branch, never along a shortcut. Cost: four gradients a block.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax import models
from resnet_jax.errors import UserError
from resnet_jax.instruments.gradients import root_mean_square
from resnet_jax.instruments.observed import ObservedNet, Variables, without_params
from resnet_jax.instruments.subject import Subject
from resnet_jax.models import Gate

CHOICE = 1
DRAWS = 4
ON_PATH, OFF_PATH = Gate(1, 0, 1, 1), Gate(1, 1, 1, 0)


def measure(subject: Subject) -> dict[str, Any]:
    """Return "norm", "count" and "share" for each length from 0, "slope", "mean_length" and "range"."""
    net = subject.net
    require_paths(subject)
    lengths = np.arange(len(net.blocks) + 1)
    norms = np.array([mean_norm(subject, length) for length in lengths.tolist()])
    counts = np.array([math.comb(len(net.blocks), length) for length in lengths.tolist()], float)
    shares = counts * norms / np.sum(counts * norms)
    positive = norms > 0
    return {
        "norm": norms,
        "count": counts,
        "share": shares,
        "slope": np.polyfit(lengths[positive], np.log(norms[positive]), 1)[0] if positive.sum() > 1 else None,
        "mean_length": np.sum(lengths * shares),
        "range": [np.searchsorted(np.cumsum(shares), level) for level in (0.05, 0.95)],
    }


def require_paths(subject: Subject) -> None:
    """Raise a UserError unless gates choose the paths of the net of ``subject``."""
    net = subject.net
    if not net.is_residual:
        raise UserError(f"{net.title} has no paths of different lengths")
    if subject.uses_batch_statistics and net.config.survival < 1:
        raise UserError(f"{net.title} drops blocks at random in training mode, and so paths")
    net.gated(subject.variables, {})


def mean_norm(subject: Subject, length: int) -> float:
    """Return the mean norm of the gradient along random paths through ``length`` branches."""
    names = [block.name for block in subject.net.blocks]
    random = np.random.default_rng([*subject.random(CHOICE).integers(2**32, size=2), length])
    # There is one path through no branch and one through all.
    draws = 1 if length in (0, len(names)) else DRAWS
    chosen = [random.choice(names, length, replace=False).tolist() for _ in range(draws)]
    return float(np.mean([root_mean_square(each) for each in path_gradients(subject, chosen)]))


def path_gradients(subject: Subject, paths: Iterable[list[str]]) -> Iterable[jax.Array]:
    """Yield the gradients of the sum of losses by the stem's output, ``[batch, height, width, channels]``.

    Args:
      subject: subject with a residual net.
      paths: names of the blocks whose branches each path passes.
    """
    whole = subject.net.gated(subject.variables, {})
    for path in paths:
        gates = {
            (*block.name.split("/"), "gate"): np.array(ON_PATH if block.name in path else OFF_PATH, np.float32)
            for block in subject.net.blocks
        }
        variables = {**whole, "gates": models.stack(gates, whole["gates"])}
        yield stem_gradient(subject.net)(variables, *subject.batch, train=subject.uses_batch_statistics)


@functools.cache
def stem_gradient(net: ObservedNet) -> Callable[..., jax.Array]:
    """Return the compiled function from variables, images, labels and ``train`` to the gradient at the stem.

    This is the gradient of the sum of losses by the input of the first stage.
    """

    def loss(offset: jax.Array, variables: Variables, images: jax.Array, labels: jax.Array, train: bool) -> jax.Array:
        others = without_params(variables)
        with nn.intercept_methods(functools.partial(at_first_stage, net, lambda x: x + offset)):
            return len(labels) * net.loss_of(variables["params"], others, images, labels, train)

    def gradient(variables: Variables, images: jax.Array, labels: jax.Array, train: bool) -> jax.Array:
        shapes: list[jax.ShapeDtypeStruct] = []

        def note(x: jax.Array) -> jax.Array:
            shapes.append(jax.ShapeDtypeStruct(x.shape, x.dtype))
            return x

        with nn.intercept_methods(functools.partial(at_first_stage, net, note)):
            jax.eval_shape(lambda: net.logits_of(variables, images, train))
        return jax.grad(loss)(jnp.zeros_like(shapes[0]), variables, images, labels, train)

    return jax.jit(gradient, static_argnames="train")


def at_first_stage(
    net: ObservedNet,
    change: Callable[[jax.Array], jax.Array],
    call: Callable[..., Any],
    args: Any,
    kwargs: Any,
    context: nn.module.InterceptorContext,
) -> Any:
    """Call a method; apply ``change`` to its input if it is the first stage's of ``net``."""
    if context.method_name == "__call__" and context.module.path == (net.blocks[0].stage,):
        args = (change(args[0]), *args[1:])
    return call(*args, **kwargs)
