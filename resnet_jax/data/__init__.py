"""Images and labels: where they come from, in which order a step sees them, how they are augmented."""

from resnet_jax.data.dataset import Dataset as Dataset
from resnet_jax.data.dataset import Split as Split
from resnet_jax.data.identity import identify as identify
from resnet_jax.data.passes import examples as examples
from resnet_jax.data.passes import normalisation as normalisation
from resnet_jax.data.sources import SHAPES as SHAPES
from resnet_jax.data.sources import Facts as Facts
from resnet_jax.data.sources import ImageSource as ImageSource
from resnet_jax.data.sources import Stream as Stream
from resnet_jax.data.sources import contents as contents
from resnet_jax.data.sources import facts as facts
from resnet_jax.data.sources import image_shape as image_shape
from resnet_jax.data.sources import is_prepared as is_prepared
from resnet_jax.data.sources import load as load
from resnet_jax.data.sources import shape as shape
