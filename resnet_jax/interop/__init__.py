"""Weights under the names that PyTorch users give them, in and out."""

from resnet_jax.interop.files import read as read
from resnet_jax.interop.files import write as write
from resnet_jax.interop.names import SCHEME_OF_FAMILY as SCHEME_OF_FAMILY
from resnet_jax.interop.names import from_torch as from_torch
from resnet_jax.interop.names import recognise as recognise
from resnet_jax.interop.names import to_torch as to_torch
