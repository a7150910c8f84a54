"""Parameters and multiply-adds, against the published counts."""

import pytest
from rich.console import Console

from resnet_jax import models
from resnet_jax.models import FAMILIES
from resnet_jax.models.resnet import IMAGENET_STAGES

# He et al. 2015, table 6, in full: 6n+2 layers with option A and ten classes.
CIFAR_PARAMETERS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962, 1202: 19_421_274}
# The same nets in torchvision: option B and 1000 classes.
IMAGENET_PARAMETERS = {
    18: 11_689_512,
    34: 21_797_672,
    50: 25_557_032,
    101: 44_549_160,
    152: 60_192_808,
    200: 64_673_832,
}
# He et al. 2015, table 1, last row ("FLOPs").
IMAGENET_MULTIPLY_ADDS = {18: 1.8e9, 34: 3.6e9, 50: 3.8e9, 101: 7.6e9, 152: 11.3e9}
# Counted in PyTorch, in nets by the authors' code, timm or torchvision: parameters with ten and with a hundred classes,
# and multiply-adds of one image in millions.
PREACTIVATION = {"order": "preactivation"}
BOTTLENECK = PREACTIVATION | {"block": "bottleneck", "shortcut": "B"}
WIDE = {"family": "wide"}
OTHER_CIFAR_NETS = [
    (PREACTIVATION | {"depth": 20}, 269_722, 275_572, 40.6),
    (PREACTIVATION | {"depth": 56}, 853_018, 858_868, 125.5),
    (PREACTIVATION | {"depth": 110}, 1_727_962, 1_733_812, 252.9),
    (PREACTIVATION | {"depth": 110, "shortcut": "B"}, 1_730_522, 1_736_372, None),
    (PREACTIVATION | {"depth": 110, "block": "single"}, 1_727_962, 1_733_812, 252.9),
    (BOTTLENECK | {"depth": 164}, 1_703_258, 1_726_388, 244.5),
    (BOTTLENECK | {"depth": 1001}, 10_327_706, 10_350_836, None),
    ({"depth": 110, "block": "single"}, 1_727_962, 1_733_812, 252.9),
    ({"depth": 110, "shortcut": "C"}, 1_826_202, 1_832_052, None),
    ({"depth": 110, "shortcut": "conv"}, 1_727_962 + 94_208, 1_733_812 + 94_208, None),
    ({"depth": 110, "shortcut": "shortcut_gating"}, 1_727_962 + 96_224, 1_733_812 + 96_224, None),
    ({"depth": 110, "shortcut": "exclusive_gating"}, 1_727_962 + 96_224, 1_733_812 + 96_224, None),
    ({"depth": 110, "shortcut": "pool"}, 1_727_962, 1_733_812, 252.9),
    ({"depth": 110, "shortcut": "dropout"}, 1_727_962, 1_733_812, 252.9),
    (WIDE | {"depth": 16, "widening": 1}, 175_066, 180_916, 26.7),
    (WIDE | {"depth": 16, "widening": 4}, 2_748_890, 2_772_020, 393),
    (WIDE | {"depth": 16, "widening": 8}, 10_961_370, 11_007_540, 1_550),
    (WIDE | {"depth": 22, "widening": 8}, 17_158_106, 17_204_276, 2_450),
    (WIDE | {"depth": 28, "widening": 10}, 36_479_194, 36_536_884, 5_240),
    (WIDE | {"depth": 40, "widening": 4}, 8_949_210, 8_972_340, 1_300),
    (WIDE | {"depth": 40, "widening": 10}, 55_841_754, 55_899_444, 8_070),
]
PREACTIVATION_B = PREACTIVATION | {"family": "imagenet", "shortcut": "B", "bottleneck_stride": "middle"}
WIDE_B = {"family": "imagenet", "shortcut": "B", "bottleneck_stride": "middle", "widening": 2}
OTHER_IMAGENET_NETS = [
    (PREACTIVATION_B | {"depth": 18}, 11_687_720, 1_810),
    (PREACTIVATION_B | {"depth": 34}, 21_795_880, 3_660),
    (PREACTIVATION_B | {"depth": 50}, 25_549_352, 4_090),
    (PREACTIVATION_B | {"depth": 101}, 44_541_480, 7_800),
    (PREACTIVATION_B | {"depth": 152}, 60_185_128, 11_510),
    (PREACTIVATION_B | {"depth": 200}, 64_666_152, 15_010),
    (WIDE_B | {"depth": 50}, 68_883_240, 11_400),
    (WIDE_B | {"depth": 101}, 126_886_696, 22_750),
]


def parts(family, depth, residual=True, shortcut="A"):
    fields = {"family": family, "depth": depth, "residual": residual, "shortcut": shortcut}
    shape, classes = {"cifar": ((32, 32, 3), 10), "imagenet": ((224, 224, 3), 1000)}[family]
    return models.describe(models.build(fields, classes), shape)


def test_every_family_is_counted_here():
    elsewhere = {name for name in FAMILIES if "densenet" in name or "inception" in name}  # In the tests of these.
    assert FAMILIES.keys() - elsewhere == {"cifar", "imagenet", "wide"}
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
    if depth in IMAGENET_MULTIPLY_ADDS:
        assert multiply_adds == pytest.approx(IMAGENET_MULTIPLY_ADDS[depth], rel=0.02)


@pytest.mark.parametrize(("fields", "ten", "hundred", "multiply_adds"), OTHER_CIFAR_NETS, ids=str)
def test_other_residual_nets_have_the_parameters_of_their_authors_code(fields, ten, hundred, multiply_adds):
    parts = models.describe(models.build(fields, 10), (32, 32, 3))
    parameters, counted = models.totals(parts)
    assert (parameters, parameters + 9 * parts[-1].parameters) == (ten, hundred)
    if multiply_adds is not None:
        assert counted / 1e6 == pytest.approx(multiply_adds, rel=5e-3)


@pytest.mark.parametrize(("fields", "parameters", "multiply_adds"), OTHER_IMAGENET_NETS, ids=str)
def test_other_imagenet_nets_have_the_parameters_of_timm_and_torchvision(fields, parameters, multiply_adds):
    counted = models.totals(models.describe(models.build(fields, 1000), (224, 224, 3)))
    assert counted[0] == parameters
    assert counted[1] / 1e6 == pytest.approx(multiply_adds, rel=5e-3)


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
