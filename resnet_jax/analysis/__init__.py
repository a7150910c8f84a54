"""Analysis: from run directories to figures."""

from resnet_jax.analysis.curves import draw_curves as draw_curves
from resnet_jax.analysis.runs import Run as Run
from resnet_jax.analysis.runs import read_run as read_run
