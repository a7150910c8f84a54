"""Networks: from ``config.model`` to a Flax module.

``block.py`` has the equation, ``resnet.py`` the net around the blocks, ``variants/`` what later papers change in a
block, ``zoo/`` other families, ``families.py`` the table of all.
"""

from resnet_jax.models.block import Block as Block
from resnet_jax.models.block import ConvBlock as ConvBlock
from resnet_jax.models.describe import Part as Part
from resnet_jax.models.describe import architecture_table as architecture_table
from resnet_jax.models.describe import describe as describe
from resnet_jax.models.describe import totals as totals
from resnet_jax.models.families import FAMILIES as FAMILIES
from resnet_jax.models.families import REMEDY_FIELDS as REMEDY_FIELDS
from resnet_jax.models.families import Fields as Fields
from resnet_jax.models.families import build as build
from resnet_jax.models.families import complete as complete
from resnet_jax.models.families import fields_read as fields_read
from resnet_jax.models.families import series_title as series_title
from resnet_jax.models.families import title as title
from resnet_jax.models.gates import Gate as Gate
from resnet_jax.models.gates import gate_blocks as gate_blocks
from resnet_jax.models.own import register_block as register_block
from resnet_jax.models.own import register_family as register_family
from resnet_jax.models.stacking import Path as Path
from resnet_jax.models.stacking import stack as stack
from resnet_jax.models.stacking import unstack as unstack
from resnet_jax.models.walk import Layer as Layer
from resnet_jax.models.walk import block_names as block_names
from resnet_jax.models.walk import initial_variables as initial_variables
from resnet_jax.models.walk import template as template
from resnet_jax.models.walk import walk as walk
