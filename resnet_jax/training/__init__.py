"""Training: the step, the loop around it, and the record it leaves."""

from resnet_jax.training.divergence import first_layer as first_layer
from resnet_jax.training.loop import train as train
from resnet_jax.training.progress import summary_table as summary_table
