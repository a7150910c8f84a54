"""Dropout whose draws depend neither on the number of devices nor on how steps are dispatched."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014): in training, activations are zeroed at random and the others scaled up.

    Unlike ``nn.Dropout`` it draws for each example on its own, addressed by the place of the example in the whole
    batch, so that any number of devices zeroes the same activations. Its key is the one named "dropout".

    Attributes:
      rate: share of the activations that are zeroed.
      train: whether to zero any.
      axis_name: device axis over which the batch is divided; None for the whole batch.
    """

    rate: float
    train: bool
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Map ``[batch, ...]`` to the same shape, drawing by ``key``, by default the one named "dropout"."""
        if not self.train or self.rate == 0:
            return x
        key = self.make_rng("dropout") if key is None else key
        share = x.shape[0]
        first = 0 if self.axis_name is None else share * jax.lax.axis_index(self.axis_name)

        def draw(example: jax.Array) -> jax.Array:
            return jax.random.bernoulli(jax.random.fold_in(key, example), 1 - self.rate, x.shape[1:])

        kept = jax.vmap(draw)(first + jnp.arange(share))
        return jnp.where(kept, x / (1 - self.rate), 0).astype(x.dtype)
