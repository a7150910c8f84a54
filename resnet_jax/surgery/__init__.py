"""Surgery: nets made from trained ones without training, which compute the same or lack a part."""

from resnet_jax.surgery.check import logits_of as logits_of
from resnet_jax.surgery.editable import EditableNet as EditableNet
from resnet_jax.surgery.editable import open_net as open_net
from resnet_jax.surgery.operations import OPERATIONS as OPERATIONS
from resnet_jax.surgery.output import require_new_folder as require_new_folder
from resnet_jax.surgery.run import IMAGES as IMAGES
from resnet_jax.surgery.run import Made as Made
from resnet_jax.surgery.run import Original as Original
from resnet_jax.surgery.run import of_run as of_run
from resnet_jax.surgery.run import operate as operate
from resnet_jax.surgery.run import operation_of as operation_of
