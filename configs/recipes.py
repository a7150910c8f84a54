"""The shared recipes: every field of a config is defined here, once, with its unit and its source.

"Paper" is He, Zhang, Ren and Sun, "Deep residual learning for image recognition", arXiv 1512.03385.
"""

from ml_collections import ConfigDict, config_dict


def base() -> ConfigDict:
    """Return all fields with the values of the paper's CIFAR-10 recipe (section 4.2)."""
    config = ConfigDict()

    config.seed = 0  # Of the initial values, the order of examples and the augmentation; any integer from 0.
    config.steps = 64_000  # Updates of the parameters ("iterations"). Paper: terminated at 64k.
    config.batch_size = 128  # Examples of one step over all devices. Paper: 128, on two GPUs.
    config.per_device_batch_size = config_dict.placeholder(int)  # If set, that of each device, and rates and steps
    # follow by the linear scaling rule (resnet_jax/training/scaling.py).
    config.dtype = "float32"  # Of the computation, or "bfloat16"; parameters and statistics stay float32.

    config.deterministic = False  # Whether GPUs use only kernels that give equal bits each time, which are slower.

    config.model = ConfigDict()
    config.model.family = "cifar"  # "cifar" (section 4.2) or "imagenet" (table 1).
    config.model.depth = 20  # Weighted layers: 6n+2 for cifar; 18, 34, 50, 101 or 152 for imagenet.
    config.model.residual = True  # False leaves the shortcuts out: the plain net.
    config.model.shortcut = "A"  # A: zero-padded identity. B: projection where shapes change. C: projection always.
    config.model.bottleneck_stride = "first"  # On the "first" 1x1 (paper) or the "middle" 3x3 (torchvision).

    config.data = ConfigDict()
    config.data.name = "cifar10"  # "digits" (embedded), "folder" (class folders) or any set of TFDS.
    config.data.data_dir = config_dict.placeholder(str)  # Of class folders, or of TFDS: default ~/tensorflow_datasets.
    config.data.validation_examples = 0  # Held out of the training set. Paper: 5000 to choose the schedule.
    config.data.padding = 4  # Pixels added on each side before a random crop of the old size. Paper: 4.
    config.data.flip = True  # Whether half of the training images are mirrored, at random. Paper: yes.
    # If a number, images of any size are streamed and cropped to that side; if None, they have one size and lie on the
    # devices.
    config.data.image_size = config_dict.placeholder(int)
    config.data.augmentation = "paper"  # Of streams: crops of section 3.4, or "random_resized" as in torchvision.
    config.data.color_noise = 0.0  # Deviation along the colours' principal components. Paper, ImageNet: AlexNet's, 0.1.
    config.data.mean = "pixel"  # Of streams, what is subtracted: the mean of each "pixel" (paper) or "channel".
    config.data.test_fraction = 0.1  # Of "folder" without folders train/ and val/: share of files held out as test.
    config.data.on_bad_image = "error"  # Of streams: an image that cannot be decoded ends the run, or "skip".
    config.data.train_clean_examples = config_dict.placeholder(int)  # Of streams: so many evaluated of train; all.
    config.data.workers = config_dict.placeholder(int)  # Of streams: processes that decode; default one for each core.

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.1  # Until it is first multiplied by the factor. Paper: 0.1.
    config.optimizer.schedule = "step"  # When it is: at the milestones ("step"), or when the training loss plateaus.
    config.optimizer.milestones = (32_000, 48_000)  # Steps of schedule "step". Paper: 32k, 48k.
    config.optimizer.plateau_window = 400  # Steps over which schedule "plateau" averages the loss; here an epoch.
    config.optimizer.plateau_patience = 5  # Windows in a row that are no better than the best one before: a plateau.
    config.optimizer.factor = 0.1  # Paper: divided by 10.
    config.optimizer.momentum = 0.9  # Not Nesterov's. Paper: 0.9.
    config.optimizer.weight_decay = 1e-4  # Of all parameters, added to the gradient. Paper: 0.0001.
    config.optimizer.warmup_learning_rate = 0.01  # Of the first steps of very deep nets. Paper: 0.01.
    config.optimizer.warmup_steps = 400  # Paper: until the training error is below 80 %, "about 400 iterations".
    config.optimizer.warmup_min_depth = 110  # Nets of at least this depth are warmed up. Paper: 110 and 1202.
    config.optimizer.rampup_fraction = 1.0  # Of its rate the first step has; per_device_batch_size lessens it. 1: all.
    config.optimizer.rampup_steps = 1_953  # Over which it rises evenly to 1. Goyal et al. 2017: 5 epochs.

    config.batch_norm = ConfigDict()
    config.batch_norm.sync = False  # Whether batch statistics are of all devices' examples or of each device's.

    config.stop_at_divergence = True  # Whether a loss that is infinite or no number ends the run.
    config.steps_per_dispatch = config_dict.placeholder(int)  # Steps in one program; default 100, on a CPU 1.

    config.compile = ConfigDict()
    config.compile.unroll = False  # Whether the loops over blocks are written out: same numbers, longer compiling.
    config.compile.remat = False  # Whether the backward pass computes blocks anew: slower, less memory.

    config.parallel = ConfigDict()
    config.parallel.mapper = "shard_map"  # What maps the step over the devices: "shard_map" or "pmap".

    config.log_every = 100  # Steps between records of the running training error.
    config.eval_every = 2_000  # Steps between evaluations on whole splits.
    config.eval_batch_size = 500  # Examples evaluated at once over all devices; changes no figure.
    config.checkpoint_every = 2_000  # Steps between checkpoints.
    return config


def cifar(depth: int, residual: bool) -> ConfigDict:
    """Return the paper's recipe for a CIFAR-10 net."""
    config = base()
    config.model.depth = depth
    config.model.residual = residual
    return config


def imagenet(depth: int, residual: bool) -> ConfigDict:
    """Return the paper's recipe for an ImageNet net (section 3.4).

    Shortcuts are identities (A) up to 34 layers, so that twins are equal but for them (table 2), and else B (table 3).

    The paper divides the learning rate "when the error plateaus" and gives no steps; these are a third and two thirds
    of its 600k iterations at most. ``config.optimizer.schedule="plateau"`` divides it when the training loss plateaus.
    """
    config = cifar(depth, residual)
    config.model.family = "imagenet"
    config.model.shortcut = "A" if depth < 50 else "B"
    config.data.name = "imagenet2012"
    config.data.padding = 0
    config.data.image_size = 224
    config.data.train_clean_examples = 50_000  # As many as the test images; all would cost half an epoch.
    config.data.color_noise = 0.1
    config.batch_size = 256
    config.steps = 600_000
    config.optimizer.milestones = (200_000, 400_000)
    config.optimizer.plateau_window = 5_000
    config.optimizer.rampup_steps = 25_023
    config.eval_every = config.checkpoint_every = 10_000
    return config


def folder(depth: int, residual: bool) -> ConfigDict:
    """Return a recipe for a user's own images in class folders: a few thousand of them, on one device.

    Crops are those that most train with today, and shortcuts B as in all published nets of this kind.
    """
    config = imagenet(depth, residual)
    config.model.shortcut = "B"
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


def digits(depth: int, residual: bool) -> ConfigDict:
    """Return an experiment of half a minute on the embedded digits, 17 epochs in the proportions of the CIFAR recipe.

    Mirrored digits are no digits and 8x8 pixels leave no room for crops, so nothing is augmented.
    """
    config = cifar(depth, residual)
    config.data.name = "digits"
    config.data.padding = 0
    config.data.flip = False
    config.steps = 200
    # At 0.1 residual-56 is still at 30 % training error after so few steps, at 0.03 at none.
    config.optimizer.learning_rate = 0.03
    config.optimizer.milestones = (100, 150)
    config.optimizer.plateau_window = 12
    config.optimizer.rampup_steps = 59
    config.log_every = 10
    config.eval_every = 25
    config.checkpoint_every = 100
    return config
