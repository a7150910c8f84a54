"""Evaluation of trained nets as in the papers: crops and scales, mirrored views, ensembles."""

from resnet_jax.evaluation.classify import Classified as Classified
from resnet_jax.evaluation.classify import classify as classify
from resnet_jax.evaluation.classify import image_files as image_files
from resnet_jax.evaluation.nets import ForeignDefaults as ForeignDefaults
from resnet_jax.evaluation.nets import TrainedNet as TrainedNet
from resnet_jax.evaluation.nets import of_run as of_run
from resnet_jax.evaluation.nets import of_weights as of_weights
from resnet_jax.evaluation.nets import open_run as open_run
from resnet_jax.evaluation.nets import recorded_shape as recorded_shape
from resnet_jax.evaluation.nets import write_weights as write_weights
from resnet_jax.evaluation.predict import predict as predict
from resnet_jax.evaluation.sample import sample as sample
from resnet_jax.evaluation.scores import Row as Row
from resnet_jax.evaluation.scores import Scores as Scores
from resnet_jax.evaluation.scores import average as average
from resnet_jax.evaluation.scores import records as records
from resnet_jax.evaluation.scores import score as score
from resnet_jax.evaluation.scores import table as table
from resnet_jax.evaluation.stablehlo import write_stablehlo as write_stablehlo
from resnet_jax.evaluation.views import PROTOCOLS as PROTOCOLS
