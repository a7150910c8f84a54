"""Weights under PyTorch names: reading, recognising and writing them."""

from resnet_jax.interop.files import read as read
from resnet_jax.interop.files import write as write
from resnet_jax.interop.names import from_torch as from_torch
from resnet_jax.interop.names import recognise as recognise
from resnet_jax.interop.names import scheme_of_family as scheme_of_family
from resnet_jax.interop.names import to_torch as to_torch
