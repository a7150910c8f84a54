"""A laboratory for the degradation problem: plain and residual nets of any depth in JAX and Flax."""

__version__ = "0.1.0"
