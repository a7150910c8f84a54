"""The recipes that ``configs/*.py`` choose from: the defaults of ``resnet_jax/fields.py`` and what each sets itself.

Every field of ``config.model`` may be given by name: ``cifar(depth=56, residual=False, shortcut="B")``. The command
``python -m experiments.main --fields`` lists all fields with their meaning.
"""

from typing import Any

from ml_collections import ConfigDict

from resnet_jax.config import default
from resnet_jax.fields import FIELDS


def cifar(depth: int, residual: bool, **model: Any) -> ConfigDict:
    """Return the paper's recipe for a CIFAR-10 net (section 4.2), which the defaults are."""
    config = default()
    for name, value in {"depth": depth, "residual": residual, **model}.items():
        if f"model.{name}" not in FIELDS:
            raise TypeError(f"a recipe was given {name}, but config.model has no such field")
        config.model[name] = value
    return config


def imagenet(depth: int, residual: bool, **model: Any) -> ConfigDict:
    """Return the paper's recipe for an ImageNet net (section 3.4).

    Shortcuts are identities (A) up to 34 layers, so that twins are equal but for them (table 2), and else B (table 3).

    The paper divides the learning rate "when the error plateaus" and gives no steps; these are a third and two thirds
    of its 600k iterations at most. ``config.optimizer.schedule="plateau"`` divides it when the training loss plateaus.
    """
    config = cifar(depth, residual, **{"family": "imagenet", "shortcut": "A" if depth < 50 else "B"} | model)
    config.data.name = "imagenet2012"
    config.data.padding = 0
    config.data.image_size = 224
    config.data.train_clean_examples = 50_000  # As many as the test images; all would cost half an epoch.
    config.data.color_noise = 0.1
    config.batch_size = 256
    config.steps = 600_000
    config.optimizer.milestones = (1 / 3, 2 / 3)
    config.optimizer.plateau_window = 5_000
    config.optimizer.rampup_steps = 25_023
    config.eval_every = config.checkpoint_every = 10_000
    return config


def densenet(depth: int, growth: int = 12, compression: float = 1.0, **model: Any) -> ConfigDict:
    """Return the recipe for a DenseNet on CIFAR-10 with augmentation: 300 epochs of 50,000 images in batches of 64.

    Huang et al. 2016, arXiv 1608.06993, section 4.2. Compression below 1 makes a DenseNet-BC; the paper's is 0.5.
    Without augmentation the paper drops 0.2 of the activations: ``dropout=0.2``.
    """
    fields = {"family": "densenet", "growth": growth, "compression": compression}
    config = cifar(depth, residual=True, **fields | model)
    config.data.mean = config.data.std = "channel"
    config.batch_size = 64
    config.steps = 234_600
    config.optimizer.nesterov = True
    config.optimizer.warmup_steps = 0
    config.optimizer.plateau_window = 782
    config.optimizer.rampup_steps = 3_910
    return config


def imagenet_densenet(depth: int, **model: Any) -> ConfigDict:
    """Return the recipe for a DenseNet-BC on ImageNet (Huang et al. 2016, section 4.2): 90 epochs.

    The growth is the paper's 32, of 161 layers the 48 of the authors' code.
    """
    fields = {"family": "imagenet_densenet", "growth": 48 if depth == 161 else 32, "compression": 0.5}
    return imagenet_modern(depth, **fields | model)


def folder(depth: int, residual: bool, **model: Any) -> ConfigDict:
    """Return a recipe for a user's own images in class folders: a few thousand of them, on one device.

    Crops are those that most train with today, and shortcuts B as in all published nets of this kind.
    """
    config = imagenet(depth, residual, **{"shortcut": "B"} | model)
    config.data.name = "folder"
    config.data.augmentation = "random_resized"
    config.data.color_noise = 0.0
    config.data.mean = "channel"
    config.batch_size = 32
    config.optimizer.learning_rate = 0.0125  # As 0.1 for a batch of 256.
    config.optimizer.milestones = ()
    config.steps = 10_000
    config.log_every = 20
    config.eval_every = config.checkpoint_every = 500
    config.eval_batch_size = 64
    return config


def digits(depth: int, residual: bool, **model: Any) -> ConfigDict:
    """Return an experiment of half a minute on the embedded digits, 17 epochs in the proportions of the CIFAR recipe.

    A mirrored digit is not a digit and 8x8 pixels leave no room for crops, so nothing is augmented.
    """
    config = cifar(depth, residual, **model)
    config.data.name = "digits"
    config.data.padding = 0
    config.data.flip = False
    config.steps = 200
    # After 100 steps residual-56 has tens of per cent training error at 0.1, none at 0.03 (results/digits_routes).
    config.optimizer.learning_rate = 0.03
    config.optimizer.plateau_window = 12
    config.optimizer.rampup_steps = 59
    config.log_every = 10
    config.eval_every = 25
    config.checkpoint_every = 100
    return config


def preact(depth: int, residual: bool = True, **model: Any) -> ConfigDict:
    """Return the recipe of He et al. 2016 (arXiv 1603.05027) for CIFAR-10, pre-activation unless ``model`` says else.

    It is the recipe of 2015, but nets of every depth are warmed up. The paper's 164 and 1001 layers are bottlenecks
    with projections: ``block="bottleneck", shortcut="B"``.
    """
    config = cifar(depth, residual, **{"order": "preactivation"} | model)
    config.optimizer.warmup_min_depth = 0
    return config


def dirac(depth: int, residual: bool = False, **model: Any) -> ConfigDict:
    """Return the recipe of ``cifar`` for a net of Dirac parametrised convolutions, plain unless ``residual``.

    As in its paper (arXiv 1706.00388) nothing but kernels is decayed.
    """
    config = cifar(depth, residual, **{"parametrization": "dirac"} | model)
    config.optimizer.decay_vectors = False
    return config


def repvgg(depth: int, residual: bool = True, **model: Any) -> ConfigDict:
    """Return the recipe of ``cifar`` for RepVGG blocks; as in their paper (arXiv 2101.03697) only kernels decay."""
    config = cifar(depth, residual, **{"block": "repvgg"} | model)
    config.optimizer.decay_vectors = False
    return config


def delta_orthogonal(depth: int, **model: Any) -> ConfigDict:
    """Return a recipe for plain tanh nets with delta-orthogonal initial values (arXiv 1806.05393).

    Learning rate and momentum are from the authors' demonstration; the rest is from ``cifar``.
    """
    fields = {"init": "delta_orthogonal", "activation": "tanh", "norm": "none"}
    config = cifar(depth, False, **fields | model)
    config.optimizer.learning_rate = 0.01
    config.optimizer.momentum = 0.95
    return config


def wide(depth: int, widening: float, residual: bool = True, **model: Any) -> ConfigDict:
    """Return the recipe of Zagoruyko and Komodakis 2016 (arXiv 1605.07146) for CIFAR-10.

    200 epochs of 390 steps, with images divided by the deviation of their channels as in tables 5 and 6; those of
    tables 2 to 4 were whitened (ZCA).
    """
    config = cifar(depth, residual, **{"family": "wide", "widening": widening} | model)
    config.data.mean = config.data.std = "channel"
    config.data.pad = "reflect"
    config.steps = 78_000
    config.optimizer.milestones = (0.3, 0.6, 0.8)
    config.optimizer.factor = 0.2
    config.optimizer.weight_decay = 5e-4
    config.optimizer.nesterov = True
    config.optimizer.warmup_steps = 0
    return config


def stochastic_depth(depth: int, residual: bool = True, **model: Any) -> ConfigDict:
    """Return the recipe of Huang et al. 2016 (arXiv 1603.09382) for CIFAR-10: 500 epochs of 352 steps.

    5,000 training images are held out; the paper reports the test error of the epoch with the best validation error.
    1202 layers are trained for 300 epochs, the first ten at 0.01.
    """
    shortcut = {"survival": 0.5, "shortcut": "pool"} if residual else {}
    config = cifar(depth, residual, **shortcut | model)
    config.data.validation_examples = 5_000
    config.data.std = "scalar"
    config.steps = 105_600 if depth >= 1202 else 176_000
    config.optimizer.warmup_steps = 3_520 if depth >= 1202 else 0
    config.optimizer.nesterov = True
    return config


def imagenet_modern(depth: int, **model: Any) -> ConfigDict:
    """Return the recipe of fb.resnet.torch for ImageNet: 90 epochs, drops after 30 and 60, crops by area and aspect.

    With it the published wide nets and DenseNets were trained. An epoch is 5,005 steps, the last of them completed.
    """
    config = imagenet(depth, True, **{"shortcut": "B"} | model)
    config.data.augmentation = "random_resized"
    config.data.mean = config.data.std = "channel"
    config.steps = 450_450
    config.optimizer.nesterov = True
    config.optimizer.warmup_steps = 0
    return config


def inception(depth: int, residual: bool, **model: Any) -> ConfigDict:
    """Return the recipe of ``cifar`` for an Inception net of 12n+8 layers; both twins have the same."""
    return cifar(depth, residual, family="inception", **model)


def imagenet_inception(family: str, depth: int, residual: bool, **model: Any) -> ConfigDict:
    """Return a recipe for an ImageNet net of ``family`` with the optimiser of its paper (arXiv 1602.07261, section 4).

    The paper trained 20 replicas at once; this is one of them. From its authors' code are the 32 images a step, weight
    decay 4e-5, momentum 0.9 and the decay of the averaged weights, 0.9999. The curves of the paper end near 160 epochs.
    """
    config = imagenet(depth, residual, **{"family": family, "shortcut": "A", "dropout": 0.2} | model)
    config.data.image_size = 299
    config.data.augmentation = "random_resized"
    config.data.color_noise = 0.0
    config.data.mean = "channel"
    epoch = 40_037  # Steps.
    config.batch_size = 32
    config.steps = 160 * epoch
    config.optimizer.name = "rmsprop"
    config.optimizer.rmsprop_decay = 0.9
    config.optimizer.rmsprop_epsilon = 1.0
    config.optimizer.learning_rate = 0.045
    config.optimizer.schedule = "exponential"
    config.optimizer.factor = 0.94
    config.optimizer.decay_steps = 2 * epoch
    config.optimizer.average_decay = 0.9999
    config.optimizer.weight_decay = 4e-5
    config.optimizer.warmup_steps = 0
    config.optimizer.plateau_window = epoch
    config.optimizer.rampup_steps = 5 * epoch
    config.eval_every = config.checkpoint_every = epoch
    config.eval_batch_size = 100
    return config
