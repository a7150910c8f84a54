"""Products with the Hessian of the loss and with the Jacobian of the logits, by reverse mode only.

Convolutions and batch norms of the nets have gradients of their own, through which JAX does not differentiate forward.
So H v is the gradient of <dL/dw, v>, and J v, since J^T u is linear in u, the gradient of <J^T u, v> by u.

On a CPU the second derivative of a convolution inside a loop is slow: H v of a 20-layer net takes the time of 35
gradients, with the loops over blocks unrolled of 10, and compiles longer. So they are unrolled on CPUs.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from resnet_jax.instruments.observed import ObservedNet, Variables


def differentiable(net: ObservedNet) -> ObservedNet:
    """Return ``net`` with its loops over blocks in the form with the faster second derivatives on this platform."""
    if not hasattr(net.model, "unroll"):  # A net of the user's own.
        return net
    twin = copy.copy(net)
    twin.model = net.model.clone(unroll=jax.default_backend() == "cpu" or net.model.unroll)
    return twin


@functools.cache
def hessian_product(net: ObservedNet) -> Callable[..., Any]:
    """Return the compiled function from params, other variables, images, labels and a tree v like params to H v.

    H is the second derivative of the mean loss of the batch by all parameters, in training mode.
    """
    twin = differentiable(net)

    def product(params: Any, others: Variables, images: jax.Array, labels: jax.Array, vector: Any) -> Any:
        def slope(params: Any) -> jax.Array:
            return optax.tree.vdot(jax.grad(twin.loss_of)(params, others, images, labels, True), vector)

        return jax.grad(slope)(params)

    return jax.jit(product)


def pull(net: ObservedNet, variables: Variables, images: jax.Array, cotangent: jax.Array, train: bool) -> jax.Array:
    """Return J^T ``cotangent``, of the shape of ``images``; ``cotangent`` has the shape of the logits."""
    return jax.grad(lambda images: jnp.sum(net.logits_of(variables, images, train) * cotangent))(images)


@functools.cache
def transposed_jacobian_product(net: ObservedNet) -> Callable[..., jax.Array]:
    """Return the compiled function from variables, images, u like logits and ``train`` to J^T u."""
    return jax.jit(functools.partial(pull, net), static_argnames="train")


@functools.cache
def jacobian_product(net: ObservedNet) -> Callable[..., jax.Array]:
    """Return the compiled function from variables, images, v like images and ``train`` to J v, like logits."""
    twin = differentiable(net)

    def product(variables: Variables, images: jax.Array, vector: jax.Array, train: bool) -> jax.Array:
        nothing = jnp.zeros((len(images), net.num_classes), images.dtype)
        return jax.grad(lambda u: jnp.vdot(pull(twin, variables, images, u, train), vector))(nothing)

    return jax.jit(product, static_argnames="train")
