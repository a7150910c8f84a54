"""Surgery: new nets from trained ones, without training, that compute the same or lack a part."""

from resnet_jax.surgery.check import TOLERANCE as TOLERANCE
from resnet_jax.surgery.check import error_of as error_of
from resnet_jax.surgery.check import logits_of as logits_of
from resnet_jax.surgery.net import Net as Net
from resnet_jax.surgery.net import open_net as open_net
from resnet_jax.surgery.operations import OPERATIONS as OPERATIONS
from resnet_jax.surgery.operations import Outcome as Outcome
from resnet_jax.surgery.record import check_new as check_new
from resnet_jax.surgery.record import config_of as config_of
from resnet_jax.surgery.record import write_run as write_run
