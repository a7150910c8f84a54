"""Parameters and multiply-adds, against the published counts."""

import pytest
from ml_collections import ConfigDict
from rich.console import Console

from resnet_jax import models
from resnet_jax.models import FAMILIES
from resnet_jax.models.resnet import IMAGENET_STAGES

# He et al. 2015, table 6, in full: 6n+2 layers with option A and ten classes.
CIFAR_PARAMETERS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962, 1202: 19_421_274}
# The same nets in torchvision: option B and 1000 classes.
IMAGENET_PARAMETERS = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}
# He et al. 2015, table 1, last row ("FLOPs").
IMAGENET_MULTIPLY_ADDS = {18: 1.8e9, 34: 3.6e9, 50: 3.8e9, 101: 7.6e9, 152: 11.3e9}


def parts(family, depth, residual=True, shortcut="A"):
    config = ConfigDict(
        {"family": family, "depth": depth, "residual": residual, "shortcut": shortcut, "bottleneck_stride": "first"}
    )
    shape, classes = {"cifar": ((32, 32, 3), 10), "imagenet": ((224, 224, 3), 1000)}[family]
    return models.describe(models.build(config, classes), shape)


def test_every_family_is_counted_here():
    assert FAMILIES.keys() == {"cifar", "imagenet"}
    assert IMAGENET_STAGES.keys() == IMAGENET_PARAMETERS.keys()


@pytest.mark.parametrize(("depth", "parameters"), CIFAR_PARAMETERS.items())
def test_cifar_nets_have_the_published_parameters_plain_or_residual(depth, parameters):
    assert sum(part.parameters for part in parts("cifar", depth)) == parameters
    assert sum(part.parameters for part in parts("cifar", depth, residual=False)) == parameters


@pytest.mark.parametrize(("depth", "parameters"), IMAGENET_PARAMETERS.items())
def test_imagenet_nets_have_the_published_parameters_and_multiply_adds(depth, parameters):
    counted = parts("imagenet", depth, shortcut="B")
    assert sum(part.parameters for part in counted) == parameters
    multiply_adds = sum(part.multiply_adds for part in counted)
    assert multiply_adds == pytest.approx(IMAGENET_MULTIPLY_ADDS[depth], rel=0.02)


def test_the_parts_of_resnet_50_are_those_of_table_1():
    stem, *stages, head = parts("imagenet", 50, shortcut="B")
    assert stem.output_shape == (56, 56, 64)
    assert [stage.output_shape for stage in stages] == [(56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)]
    assert [stage.blocks for stage in stages] == [3, 4, 6, 3]
    assert head.output_shape == (1000,)
    assert stem.multiply_adds == 112 * 112 * 64 * 7 * 7 * 3
    assert head.multiply_adds == 2048 * 1000


def test_the_table_shows_every_part_and_the_sums():
    console = Console(width=120)
    with console.capture() as capture:
        console.print(models.architecture_table(parts("cifar", 20), (32, 32, 3)))
    text = capture.get()
    for word in ("input 32x32x3", "stem", "stage3", "8x8x64", "head", "total", "269,722"):
        assert word in text
