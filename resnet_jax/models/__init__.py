"""Networks: Flax modules, the families they come from, their initial values and their counts."""

from resnet_jax.models.counts import Part as Part
from resnet_jax.models.counts import architecture_table as architecture_table
from resnet_jax.models.counts import describe as describe
from resnet_jax.models.counts import totals as totals
from resnet_jax.models.families import build as build
from resnet_jax.models.families import fields_read as fields_read
from resnet_jax.models.families import series_title as series_title
from resnet_jax.models.families import title as title
from resnet_jax.models.initial import initial_variables as initial_variables
from resnet_jax.models.stacking import template as template
