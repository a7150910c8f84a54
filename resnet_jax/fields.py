"""The table of fields: what a config consists of, in dotted names, one row a field.

Defaults, checks (``config.py``), the table that ``--fields`` prints, and when two configs are the same run or the same
recipe all follow from the rows. ``configs/recipes.py`` holds the recipes that are built on the defaults.

"Paper" is He, Zhang, Ren and Sun, "Deep residual learning for image recognition", arXiv 1512.03385; without a section,
its section 4.2. A new field needs a default that means "as before": configs recorded earlier are read with it.
"""

import enum
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

# What the devices count steps and compute with.
LARGEST_INT = 2**31 - 1
LARGEST_FLOAT = float(np.finfo(np.float32).max)
# Each is an operation of the program that computes the learning rate.
MOST_MILESTONES = 100


class Role(enum.Enum):
    """What a field changes."""

    NET = "what is learnt, and the title of the net, as plain-56"
    INTERVENTION = "what is learnt, by changing how the net is trained"
    RESULT = "what is learnt"
    SEED = "chance, in what is learnt"
    RECORD = "what is recorded, and how often"
    EXECUTION = "where, how fast and how long it is computed"


class Limits(NamedTuple):
    """The range of a number: closed at ``at_least`` and ``at_most``, open at ``above`` and ``below``."""

    at_least: float = -math.inf
    at_most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def broken_by(self, number: float) -> str | None:
        """Return the limit that ``number`` breaks, as in "at least 1"; None if it keeps all."""
        if number < self.at_least:
            return f"at least {self.at_least}"
        if number > self.at_most:
            return f"at most {self.at_most}"
        if number <= self.above:
            return f"above {self.above}"
        if number >= self.below:
            return f"below {self.below}"
        return None

    def __str__(self) -> str:
        """Return the limits in words, without the limits of the number formats."""
        limits = [f"{name.replace('_', ' ')} {value}" for name, value in self._asdict().items() if math.isfinite(value)]
        return ", ".join(limit for limit in limits if not limit.endswith((f" {LARGEST_INT}", f" {LARGEST_FLOAT}")))


COUNT = Limits(at_least=1, at_most=LARGEST_INT)
COUNT_OR_ZERO = Limits(at_least=0, at_most=LARGEST_INT)
RATE = Limits(at_least=0, at_most=LARGEST_FLOAT)
FRACTION = Limits(above=0, below=1)


class Field(NamedTuple):
    """One field of a config.

    Attributes:
      type: type of the value; an int is accepted for a float, and a tuple is a tuple of numbers.
      default: value unless a recipe sets another. If it is None, None is always allowed.
      meaning: meaning of the value, and of None where that is allowed.
      unit: unit of the value.
      source: where the default comes from.
      limits: limits of the value, or of each number of a tuple.
      choices: possible values, if they can be listed.
      role: what the field changes.
      may_change: whether a run may be resumed with another value, because nothing computed so far depends on it.
    """

    type: type
    default: Any
    meaning: str
    unit: str = ""
    source: str = ""
    limits: Limits = Limits()
    choices: tuple[str, ...] = ()
    role: Role = Role.RESULT
    may_change: bool = False

    @property
    def expected(self) -> str:
        """The type in words, as in "int or None"."""
        words = TYPES[self.type]
        return words if self.default is not None else f"{words.replace(' or ', ', ')} or None"


TYPES = {
    int: "int",
    float: "float",
    bool: "True or False",
    str: "printable text",
    tuple: "a tuple of numbers",
}


class OrderName(enum.StrEnum):
    """Names of the orders of norm, ReLU, convolution and addition in a block."""

    ORIGINAL = enum.auto()
    NORM_AFTER_ADDITION = enum.auto()
    RELU_BEFORE_ADDITION = enum.auto()
    RELU_PREACTIVATION = enum.auto()
    PREACTIVATION = enum.auto()


class ShortcutName(enum.StrEnum):
    """Names of the shortcuts."""

    A = "A"
    B = "B"
    C = "C"
    POOL = enum.auto()
    CONV = enum.auto()
    EXCLUSIVE_GATING = enum.auto()
    SHORTCUT_GATING = enum.auto()
    DROPOUT = enum.auto()


class BlockName(enum.StrEnum):
    """Names of the blocks."""

    BASIC = enum.auto()
    BOTTLENECK = enum.auto()
    SINGLE = enum.auto()
    REPVGG = enum.auto()


class BranchScalingName(enum.StrEnum):
    """Names of the scalings of branches."""

    NONE = enum.auto()
    FIXUP = enum.auto()
    SKIPINIT = enum.auto()
    REZERO = enum.auto()
    NORMALIZER_FREE = enum.auto()


class NormName(enum.StrEnum):
    """Names of the norms."""

    BATCH = enum.auto()
    GROUP = enum.auto()
    NONE = enum.auto()


class ActivationName(enum.StrEnum):
    """Names of the activations."""

    RELU = enum.auto()
    TANH = enum.auto()
    CRELU = enum.auto()
    SWISH = enum.auto()
    GELU = enum.auto()


def names(choices: type[enum.StrEnum]) -> tuple[str, ...]:
    """Return the names of ``choices`` as plain text."""
    return tuple(choice.value for choice in choices)


# Each is a row of ``resnet_jax.models.FAMILIES``, which needs jax; a command that only reads fields does not.
FAMILIES = (
    *("cifar", "imagenet", "wide", "densenet", "imagenet_densenet"),
    *("inception", "inception_v4", "inception_resnet_v1", "inception_resnet_v2", "inception_resnet_v2_paper"),
)

# Choices of gates.without, and their words in titles and names of runs.
WITHOUT = {
    "none": "with all shortcuts",
    "every_second": "without every second shortcut",
    "all_but_first": "with only the first shortcut of each stage",
    "last_stage": "without shortcuts in the last stage",
}

FIELDS: dict[str, Field] = {
    # The run.
    "seed": Field(
        int,
        0,
        "Seed of the initial values, of the order of the examples and of the augmentation.",
        limits=Limits(at_least=0, at_most=2**32 - 1),
        role=Role.SEED,
    ),
    "steps": Field(int, 64_000, "Updates of the parameters (iterations).", "steps", "Paper: 64k", COUNT),
    "batch_size": Field(int, 128, "Examples of one step, over all devices.", "examples", "Paper: 128", COUNT),
    "per_device_batch_size": Field(
        int,
        None,
        "Examples of one step on each device; batch_size, learning rates and lengths in steps then follow by the "
        "linear scaling rule. None: batch_size holds.",
        "examples",
        "Goyal et al. 2017, arXiv 1706.02677",
        COUNT,
        role=Role.EXECUTION,
    ),
    "dtype": Field(
        str,
        "float32",
        "Type of the computation; parameters and statistics are always float32.",
        choices=("float32", "bfloat16"),
    ),
    "deterministic": Field(
        bool,
        False,
        "Whether GPUs use only kernels that give the same bits each time, which are slower.",
        role=Role.EXECUTION,
    ),
    "from_run": Field(
        str,
        None,
        "Run directory from whose newest checkpoint the net starts: its parameters (averaged where it keeps an "
        "average) and running statistics; the optimiser begins in its initial state. {seed} in it stands for "
        "config.seed, so that runs that differ in the seed are replicates. None: initial values are drawn.",
        role=Role.INTERVENTION,
    ),
    # The net.
    "model.family": Field(
        str,
        "cifar",
        "Family of nets; docs/nets.md lists them with their papers.",
        source="Paper: cifar (section 4.2), imagenet (table 1)",
        choices=FAMILIES,
    ),
    "model.depth": Field(
        int,
        20,
        "Weighted layers; which depths a family has is in docs/nets.md.",
        "layers",
        "Paper",
        Limits(at_least=1, at_most=20_000),  # A digit too many is to be refused, not to fill the memory.
        role=Role.NET,
    ),
    "model.residual": Field(
        bool,
        True,
        "Whether blocks have shortcuts, and layers of a DenseNet see all layers before them; False: the plain net.",
        role=Role.NET,
    ),
    "model.shortcut": Field(
        str,
        ShortcutName.A.value,
        "A: identity, zero-padded where shapes change. B: projection where shapes change. C: projection always. "
        "pool: as A, by 2x2 average pooling, zeros at the end. conv: 1x1 convolution always. exclusive_gating, "
        "shortcut_gating: as A, times a learned 1 - g(x), exclusive with the branch times g(x). dropout: as A, with "
        "dropout of 1/2.",
        source="Paper: A on CIFAR-10; stochastic depth: pool; conv, gatings, dropout: He 2016, table 1",
        choices=names(ShortcutName),
    ),
    "model.gating_bias": Field(
        float,
        -6.0,
        "Initial bias of learned gates g(x) on shortcuts.",
        source="He et al. 2016, arXiv 1603.05027, table 1",
        limits=Limits(at_least=-100, at_most=100),
    ),
    "model.block": Field(
        str,
        BlockName.BASIC.value,
        "Block of a cifar net: two 3x3 convolutions (basic), 1x1, 3x3 and 1x1 with four times the width (bottleneck), "
        "a single 3x3 (single), or a 3x3, a 1x1 and the input, each with a norm (repvgg). In an imagenet net it "
        "follows from the depth.",
        source="Paper: basic on CIFAR-10; He et al. 2016: bottleneck for 164 and 1001, section 5.1 for single; "
        "Ding et al. 2021, arXiv 2101.03697: repvgg",
        choices=names(BlockName),
        role=Role.NET,
    ),
    "model.order": Field(
        str,
        OrderName.ORIGINAL.value,
        "Order of norm, ReLU, convolution and addition in a block; preactivation: norm and ReLU before each "
        "convolution, none after the addition.",
        source="Paper: original; the others: He et al. 2016, table 2",
        choices=names(OrderName),
        role=Role.NET,
    ),
    "model.stem_activation": Field(
        bool,
        True,
        "Whether the first activation of a pre-activation net comes right after the first convolution; False: within "
        "the branch of the first block, as in timm.",
        source="He et al. 2016, appendix",
    ),
    "model.bottleneck_stride": Field(
        str,
        "first",
        "Convolution of a bottleneck block that has its stride: the first 1x1 or the middle 3x3 (as in torchvision).",
        source="Paper: first",
        choices=("first", "middle"),
    ),
    "model.widening": Field(
        float,
        1.0,
        "Factor of all widths; in bottleneck blocks only of the 3x3 convolution's.",
        source="Zagoruyko and Komodakis 2016, arXiv 1605.07146",
        limits=Limits(at_least=1, at_most=1024),
        role=Role.NET,
    ),
    "model.norm": Field(
        str,
        NormName.BATCH.value,
        "Norm of plain and residual nets: batch norm, group norm (32 groups or fewer), or none, where a bias is in its "
        "place.",
        source="Paper: batch; group: Wu and He 2018, arXiv 1803.08494",
        choices=names(NormName),
    ),
    "model.reserve": Field(
        bool,
        False,
        "Whether the hidden layer of a basic block has as many more channels as the block's input, room for the input "
        "itself; so a plain net can be any residual one.",
        source="Meng et al. 2021, arXiv 2111.00687",
    ),
    "model.branch_scaling": Field(
        str,
        BranchScalingName.NONE.value,
        "Scaling of the branches of a residual net, with the order and the norm that it is defined for: Fixup, "
        "SkipInit, ReZero (with the norm of the config), or normalizer-free with scaled weight standardisation.",
        source="arXiv 1901.09321; 2002.10444; 2003.04887; 2101.08692",
        choices=names(BranchScalingName),
        role=Role.NET,
    ),
    "model.parametrization": Field(
        str,
        "free",
        "Kernels of plain and residual nets as functions of what is learned: the same (free), the identity plus "
        "normalised weights (dirac), or scaled standardised weights (standardized).",
        source="Paper: free; arXiv 1706.00388: dirac; 2101.08692: standardized",
        choices=("free", "dirac", "standardized"),
        role=Role.NET,
    ),
    "model.init": Field(
        str,
        "he",
        "Initial values of plain and residual nets: He's, delta-orthogonal on tanh's critical line, looks-linear, or "
        "LSUV, which scales each layer by the first batch.",
        source="Paper: he; arXiv 1806.05393: delta_orthogonal; 1702.08591: looks_linear; 1511.06422: lsuv",
        choices=("he", "delta_orthogonal", "looks_linear", "lsuv"),
        role=Role.NET,
    ),
    "model.activation": Field(
        str,
        ActivationName.RELU.value,
        "Activation of plain and residual nets. gelu: the exact one. crelu: relu(x) and relu(-x), of twice the "
        "channels, for plain nets without norms.",
        source="Paper: relu; arXiv 1710.05941: swish; 1606.08415: gelu; 1603.05201: crelu",
        choices=names(ActivationName),
        role=Role.NET,
    ),
    "model.dropout": Field(
        float,
        0.0,
        "Share of activations that dropout zeroes: between the convolutions of a block, after each convolution of a "
        "DenseNet, before the head of an Inception net.",
        source="Wide nets: 0.3; DenseNet without augmentation: 0.2; Inception: 0.2",
        limits=Limits(at_least=0, below=1),
    ),
    "model.survival": Field(
        float,
        1.0,
        "Stochastic depth: probability that the last block's branch is computed in a training step. 1: always. A plain "
        "block that is not computed passes its input on.",
        source="Huang et al. 2016, arXiv 1603.09382: 0.5",
        limits=Limits(above=0, at_most=1),
    ),
    "model.survival_rule": Field(
        str,
        "linear",
        "Survival probabilities of the other blocks: falling linearly from 1 before the first, or all the same.",
        source="Huang et al. 2016: linear",
        choices=("linear", "uniform"),
    ),
    "model.growth": Field(
        int,
        12,
        "Channels that each layer of a DenseNet adds.",
        "channels",
        "Huang et al. 2016, arXiv 1608.06993: 12, 24, 40",
        Limits(at_least=1, at_most=4096),
        role=Role.NET,
    ),
    "model.compression": Field(
        float,
        1.0,
        "Share of the channels that a transition of a DenseNet keeps. Below 1, layers have bottlenecks: DenseNet-BC.",
        source="Huang et al. 2016: 1, and 0.5 for BC",
        limits=Limits(above=0, at_most=1),
        role=Role.NET,
    ),
    "model.residual_scale": Field(
        float,
        1.0,
        "What the branches of a residual Inception net are multiplied by before the addition; on ImageNet on top of "
        "the scales of the released nets, 0.17, 0.10 and 0.20 by stage.",
        source="Szegedy et al. 2016, arXiv 1602.07261: 0.1 to 0.3",
        limits=Limits(above=0, at_most=LARGEST_FLOAT),
    ),
    # Interventions on shortcuts: with shortcut S and branch F, a block is relu(a * S + b * F).
    "gates.route": Field(
        str,
        "both",
        "Where signal and gradient pass: by shortcuts and branches (both); no gradient by shortcuts (stop_gradient); "
        "by shortcuts only the gradient, no signal (mirror); by shortcuts both, by branches no gradient to the blocks "
        "below (shortcut_gradient_only).",
        choices=("both", "stop_gradient", "mirror", "shortcut_gradient_only"),
        role=Role.INTERVENTION,
    ),
    "gates.without": Field(
        str,
        "none",
        "Blocks whose shortcuts are removed, signal and gradient: the 2nd, 4th, ... block of the whole net "
        "(every_second); all blocks but the first of each stage (all_but_first); the blocks of the last stage "
        "(last_stage).",
        choices=tuple(WITHOUT),
        role=Role.INTERVENTION,
    ),
    "gates.shortcut_factor": Field(
        tuple,
        (1.0,),
        "What shortcuts are multiplied by, and so their gradients: one number, one for each stage, or one for each "
        "block in forward order; --describe counts them.",
        source="He et al. 2016, table 1: 0 and 0.5",
        limits=RATE,
        role=Role.INTERVENTION,
    ),
    "gates.shortcut_gradient": Field(
        tuple,
        (1.0,),
        "What only the gradients through shortcuts are multiplied by; as many numbers.",
        limits=RATE,
        role=Role.INTERVENTION,
    ),
    "gates.branch_factor": Field(
        tuple,
        (1.0,),
        "What branches are multiplied by, and so their gradients; as many numbers.",
        source="He et al. 2016, table 1: 0.5",
        limits=RATE,
        role=Role.INTERVENTION,
    ),
    "gates.branch_gradient": Field(
        tuple,
        (1.0,),
        "What only the gradients that branches pass to the blocks below are multiplied by; as many numbers.",
        limits=RATE,
        role=Role.INTERVENTION,
    ),
    "gates.final": Field(
        tuple,
        (1.0, 1.0, 1.0, 1.0),
        "What the four factors above, in this order, are multiplied by at the end of the phase; (0,1,1,1) phases "
        "shortcuts out.",
        limits=RATE,
        role=Role.INTERVENTION,
    ),
    "gates.phase": Field(
        tuple,
        (0.0, 1.0),
        "Begin and end of the phase in which the factors move there linearly.",
        "fractions of steps",
        limits=Limits(at_least=0, at_most=1),
        role=Role.INTERVENTION,
    ),
    # The data.
    "data.name": Field(
        str, "cifar10", 'Data set: "digits" (embedded), "folder" (class folders) or the name of any set of TFDS.'
    ),
    "data.data_dir": Field(
        str,
        None,
        "Folder of the class folders, or of TFDS. None: for TFDS, TFDS_DATA_DIR or else ~/tensorflow_datasets.",
        role=Role.EXECUTION,
        may_change=True,
    ),
    "data.validation_examples": Field(
        int,
        0,
        "Examples held out of the training set, as split validation.",
        "examples",
        "Paper: 5000 to choose the schedule, then 0",
        Limits(at_most=LARGEST_INT),
    ),
    "data.downsample": Field(
        int,
        1,
        "Side k of the squares of pixels that images of one size are averaged over, in all splits and before anything "
        "else is computed from them: rounded to whole grey levels, halves up. It divides height and width. 1: off.",
        "pixels",
        "Chrabaszcz et al. 2017, arXiv 1707.08819: proxies by box filter",
        Limits(at_least=1, at_most=1024),
    ),
    "data.padding": Field(
        int,
        4,
        "Pixels added on each side of a training image before a random crop of the original size.",
        "pixels",
        "Paper: 4",
        COUNT_OR_ZERO,
    ),
    "data.pad": Field(
        str,
        "zero",
        "Value of the added pixels, after normalisation: 0, the mean colour, or the mirror image about the edge pixel "
        "(reflect).",
        source="Paper: zero; wide nets, arXiv 1605.07146: reflect",
        choices=("zero", "reflect"),
    ),
    "data.flip": Field(bool, True, "Whether each training image is mirrored with probability 1/2.", source="Paper"),
    "data.image_size": Field(
        int,
        None,
        "Side of the crops of images of any size, which are streamed. None: all images have one size and lie on the "
        "devices.",
        "pixels",
        "Paper, section 3.4: 224",
        Limits(at_least=32, at_most=4096),
    ),
    "data.augmentation": Field(
        str,
        "paper",
        "Random crops of streamed images: by scale (paper), or by area and aspect ratio (as in torchvision).",
        source="Paper, section 3.4",
        choices=("paper", "random_resized"),
    ),
    "data.color_noise": Field(
        float,
        0.0,
        "Standard deviation of the noise along the principal components of the colours.",
        source="Paper, section 3.4: AlexNet's, 0.1",
        limits=RATE,
    ),
    "data.mean": Field(
        str,
        "pixel",
        "Mean that is subtracted: of each pixel or each channel of the training images, or of each channel of "
        "ImageNet, as most published nets have it for any data set.",
        source="Paper: pixel",
        choices=("pixel", "channel", "imagenet"),
    ),
    "data.std": Field(
        str,
        "none",
        "Standard deviation of the training images by which the difference is divided: none, of each channel, or of "
        "all values together (scalar); or each channel's in ImageNet.",
        source="Paper: none; arXiv 1605.07146, 1608.06993: channel; code of arXiv 1603.09382: scalar",
        choices=("none", "channel", "scalar", "imagenet"),
    ),
    "data.test_fraction": Field(
        float, 0.1, "Share of the files held out as test, of class folders without train/ and val/.", limits=FRACTION
    ),
    "data.train_clean_examples": Field(
        int,
        None,
        "Training examples on which the training error is evaluated, of streams. None: all.",
        "examples",
        limits=COUNT,
    ),
    "data.on_bad_image": Field(
        str,
        "error",
        "What a streamed image that cannot be decoded does: end the run, or be left out.",
        choices=("error", "skip"),
        may_change=True,
    ),
    "data.workers": Field(
        int,
        None,
        "Processes that decode streamed images. None: one for each core.",
        "processes",
        limits=Limits(at_least=0, at_most=1024),
        role=Role.EXECUTION,
        may_change=True,
    ),
    # The optimiser.
    "optimizer.name": Field(
        str,
        "sgd",
        "SGD, or RMSProp in TensorFlow's form: the learning rate within the momentum, epsilon within the root, mean "
        "squares that start at 1.",
        source="Paper: sgd; Inception-ResNet, arXiv 1602.07261, section 4: rmsprop",
        choices=("sgd", "rmsprop"),
    ),
    "optimizer.rmsprop_decay": Field(
        float,
        0.9,
        "Decay of the mean squares of the gradients, of rmsprop.",
        source="arXiv 1602.07261, section 4: 0.9",
        limits=Limits(at_least=0, below=1),
    ),
    "optimizer.rmsprop_epsilon": Field(
        float,
        1.0,
        "What is added to the mean squares, of rmsprop.",
        source="arXiv 1602.07261, section 4: 1",
        limits=Limits(above=0, at_most=LARGEST_FLOAT),
    ),
    "optimizer.learning_rate": Field(
        float, 0.1, "Learning rate before it is first multiplied by the factor.", source="Paper: 0.1", limits=RATE
    ),
    "optimizer.schedule": Field(
        str,
        "step",
        "When the learning rate is multiplied by the factor: at the milestones (step), when the training loss "
        "plateaus, or again and again (exponential).",
        source="Paper: step on CIFAR-10, plateau on ImageNet; arXiv 1602.07261, section 4: exponential",
        choices=("step", "plateau", "exponential"),
    ),
    "optimizer.milestones": Field(
        tuple,
        (0.5, 0.75),
        "When schedule step multiplies the learning rate by the factor.",
        "fractions of steps",
        "Paper: 32k and 48k of 64k",
        FRACTION,
    ),
    "optimizer.plateau_window": Field(
        int, 400, "Steps over which schedule plateau averages the loss: an epoch.", "steps", limits=COUNT
    ),
    "optimizer.plateau_patience": Field(
        int, 5, "Windows in a row without an improvement of the mean loss that make a plateau.", "windows", limits=COUNT
    ),
    "optimizer.decay_steps": Field(
        int,
        782,
        "Steps from one multiplication by the factor to the next, of schedule exponential.",
        "steps",
        "arXiv 1602.07261, section 4: two epochs, with a factor of 0.94",
        COUNT,
    ),
    "optimizer.factor": Field(
        float,
        0.1,
        "What the learning rate is multiplied by.",
        source="Paper: 0.1",
        limits=Limits(above=0, at_most=LARGEST_FLOAT),
    ),
    "optimizer.momentum": Field(
        float, 0.9, "Momentum, in the form that nesterov says.", source="Paper: 0.9", limits=Limits(at_least=0, below=1)
    ),
    "optimizer.nesterov": Field(
        bool,
        False,
        "Whether the momentum is Nesterov's.",
        source="Paper: no; fb.resnet.torch, arXiv 1605.07146, 1608.06993, 1603.09382: yes",
    ),
    "optimizer.weight_decay": Field(
        float, 1e-4, "Weight decay of all parameters, added to the gradient.", source="Paper: 0.0001", limits=RATE
    ),
    "optimizer.decay_vectors": Field(
        bool,
        True,
        "Whether all parameters decay; False: only kernels, not biases, scales and gains.",
        source="Paper: all; arXiv 1706.00388, 2101.03697: only kernels",
    ),
    "optimizer.warmup_learning_rate": Field(
        float, 0.01, "Learning rate of the first steps of very deep nets.", source="Paper: 0.01", limits=RATE
    ),
    "optimizer.warmup_steps": Field(
        int,
        400,
        "Steps at the warm-up learning rate.",
        "steps",
        "Paper: until the training error is below 80 %, about 400",
        COUNT_OR_ZERO,
    ),
    "optimizer.warmup_min_depth": Field(
        int, 110, "Depth from which nets are warmed up.", "layers", "Paper: 110 and 1202", COUNT_OR_ZERO
    ),
    "optimizer.rampup_fraction": Field(
        float,
        1.0,
        "Share of its learning rate that the first step has; per_device_batch_size lowers it. 1: no ramp-up.",
        source="Goyal et al. 2017",
        limits=Limits(at_least=0, at_most=1),
    ),
    "optimizer.rampup_steps": Field(
        int, 1_953, "Steps over which that share rises linearly to 1.", "steps", "Goyal et al. 2017: 5 epochs", COUNT
    ),
    "optimizer.frozen_below": Field(
        str,
        None,
        "Block before which all parameters keep their initial values, without decay, as stage3/block2; running "
        "statistics still move. None: all are trained.",
        role=Role.INTERVENTION,
    ),
    "optimizer.average_decay": Field(
        float,
        0.0,
        "Decay in each step of a running average of the parameters, from their initial values on and without bias "
        "correction. Where it is not 0, whole splits are evaluated with the average, and with the running statistics "
        "as they are; the running training error is always of the parameters themselves.",
        source="Paper: none; arXiv 1602.07261, section 4: an average, in TensorFlow's code of 0.9999",
        limits=Limits(at_least=0, below=1),
    ),
    "batch_norm.sync": Field(
        bool, False, "Whether batch statistics are of the examples of all devices, not of each device's own."
    ),
    # How the run is executed.
    "stop_at_divergence": Field(
        bool, True, "Whether a non-finite loss (inf or NaN) ends the run.", role=Role.EXECUTION, may_change=True
    ),
    "stop_below_loss": Field(
        float,
        None,
        "Running training loss below which the run ends, at the first such record (log_every). None: none ends it.",
        "nats",
        limits=Limits(above=0, at_most=LARGEST_FLOAT),
    ),
    "steps_per_dispatch": Field(
        int,
        None,
        "Steps in one program. None: 100, and 1 on CPUs.",
        "steps",
        limits=Limits(at_least=1, at_most=10_000),  # Their batches are in memory at the same time.
        role=Role.EXECUTION,
        may_change=True,
    ),
    "compile.unroll": Field(
        bool,
        None,
        "Whether the loops over blocks are unrolled: same numbers up to rounding, longer compilation. None: on GPUs in "
        "nets of up to 152 layers, on TPUs of up to 56.",
        role=Role.EXECUTION,
        may_change=True,
    ),
    "compile.convolutions": Field(
        str,
        None,
        "What computes convolutions on CPUs: 'lax', or the faster 'onednn' of jaxlib, whose programs are compiled at "
        "every start; they round differently. None: as the run began; a new one by 'onednn' from images of 16x16 on.",
        choices=("lax", "onednn"),
        role=Role.EXECUTION,
        may_change=True,
    ),
    "compile.remat": Field(
        bool,
        False,
        "Whether blocks are rematerialised in the backward pass: slower, with less memory.",
        role=Role.EXECUTION,
        may_change=True,
    ),
    "parallel.mapper": Field(
        str,
        "shard_map",
        "What maps the step over the devices.",
        choices=("shard_map", "pmap"),
        role=Role.EXECUTION,
        may_change=True,
    ),
    # What is recorded.
    "log_every": Field(
        int,
        100,
        "Steps between records of the running training error.",
        "steps",
        limits=COUNT,
        role=Role.RECORD,
        may_change=True,
    ),
    "eval_every": Field(
        int,
        2_000,
        "Steps between evaluations on whole splits.",
        "steps",
        limits=COUNT,
        role=Role.RECORD,
        may_change=True,
    ),
    "eval_batch_size": Field(
        int,
        500,
        "Examples evaluated at once, over all devices; changes no figure.",
        "examples",
        limits=COUNT,
        role=Role.EXECUTION,
        may_change=True,
    ),
    "checkpoint_every": Field(
        int, 2_000, "Steps between checkpoints.", "steps", limits=COUNT, role=Role.RECORD, may_change=True
    ),
    "keep_checkpoints": Field(
        tuple,
        (),
        "Steps after which the net is kept for good, for experiments.diagnose, and with them each drop of the learning "
        "rate and the end; steps beyond the end do not count. Empty: none is kept.",
        "steps",
        limits=COUNT_OR_ZERO,
        role=Role.RECORD,
        may_change=True,
    ),
}


def bind(field: str, rows: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``rows``, which give each choice of ``field`` its meaning, by the choices as plain text.

    Raises:
      TypeError: a choice has no row, or a row has no choice.
    """
    bound = {str(name): row for name, row in rows.items()}
    if unbound := bound.keys() ^ set(FIELDS[field].choices):
        raise TypeError(
            f"choices and rows of config.{field} differ in {', '.join(sorted(unbound))}; add or remove a row"
        )
    return bound


# Two configs that agree in these are the same run, and each resumes the other.
RUN_FIELDS = tuple(name for name, field in FIELDS.items() if not field.may_change)
# Two runs that agree in these learn the same but for chance: they are replicates.
RECIPE_FIELDS = tuple(
    name for name, field in FIELDS.items() if field.role in (Role.NET, Role.INTERVENTION, Role.RESULT)
)
# With these changed a net differs from its paper's, though its recipe does not.
INTERVENTION_FIELDS = tuple(name for name, field in FIELDS.items() if field.role is Role.INTERVENTION)
# The title of a net says these.
TITLE_FIELDS = tuple(name for name, field in FIELDS.items() if field.role is Role.NET)
# Each net may be given its own best value of one of these: numbers of the optimiser.
TUNABLE_FIELDS = tuple(
    name for name, field in FIELDS.items() if name.startswith("optimizer.") and field.type in (int, float)
)
# Each is a path, in which ~ stands for the home folder.
PATH_FIELDS = ("data.data_dir", "from_run")
