"""Benchmarks; see benchmarks/README.md."""

from resnet_jax.backend import set_xla_flags

set_xla_flags()
