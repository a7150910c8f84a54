"""Small nets of every kind, and the values that tests compute with them."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
import pytest
from flax import traverse_util

from resnet_jax import models
from resnet_jax.fields import BranchScalingName, OrderName, names
from resnet_jax.models.layers import onednn
from resnet_jax.models.resnet import residual_net
from resnet_jax.models.zoo import inception
from resnet_jax.models.zoo.densenet import DenseNet

needs_onednn = pytest.mark.skipif(
    jaxlib.version.__version__ not in onednn.VERSIONS, reason="oneDNN was not tried with this jaxlib"
)
# XLA:CPU compiles four times as fast without these optimisations; for values that are compared with a tolerance.
quick_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
)


@contextlib.contextmanager
def quick_compiling():
    """Compile all programs within twice as fast, to slower ones; where the code under test calls ``jax.jit``."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def small_net(stage_sizes=(3, 2), widths=(4, 8), settings=None, **fields):
    """Return the net of the ``fields`` of ``config.model`` with other stages; ``settings`` are attributes of it."""
    return residual_net(models.complete(fields), stage_sizes, widths, num_classes=10, **(settings or {}))


def images(shape=(8, 8, 3), batch=4, seed=0):
    """Return normal pixels, float32 ``[batch, *shape]``."""
    return np.random.default_rng(seed).normal(size=(batch, *shape)).astype(np.float32)


def flat(tree):
    """Return the leaves of ``tree`` by path, as in "stage1/block0/conv1/kernel"."""
    return traverse_util.flatten_dict(tree, sep="/")


def drawn(model, image_shape=(8, 8, 3), dtype=np.float32):
    """Return variables of ``model`` without special values such as biases of 0."""
    random = np.random.default_rng(1)
    start = models.initial_variables(model, 0, image_shape)

    def draw(path, leaf):
        spread = np.sqrt(2 / np.prod(leaf.shape[-4:-1])) if path[-1].key == "kernel" else 0.3
        return (leaf + spread * random.normal(size=leaf.shape)).astype(dtype)

    return start | {"params": jax.tree.map_with_path(draw, start["params"])}


def float64_logits(fields, x):
    """Return drawn parameters of the net of ``fields`` and its logits in training, float64."""
    with jax.enable_x64(True):
        model = models.build(fields, 10).clone(dtype=jnp.float64)
        variables = drawn(model, x.shape[1:], np.float64)
        logits, _ = quick_jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))(variables, x)
    return variables["params"], logits


def training_loss(model, variables, x, **options):
    """Return the loss of images ``x``, all of class 0, in training mode, and the updated collections."""
    logits, updates = model.apply(variables, x, train=True, mutable=["batch_stats"], **options)
    return -jnp.mean(jax.nn.log_softmax(logits)[:, 0]), updates


def loss_and_gradients(model, variables, x, jit=quick_jit, **options):
    """Return ``((loss, updates), gradients)`` of ``training_loss`` by the parameters."""

    def compute(variables):
        def loss(params):
            return training_loss(model, variables | {"params": params}, x, **options)

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    return jit(compute)(variables)


def evaluated(model, variables, x):
    """Return the logits of ``x`` in evaluation mode."""
    return quick_jit(functools.partial(model.apply, train=False))(variables, x)


def assert_close(tree, other, rtol=1e-3, atol=1e-4):
    """Assert that the leaves of two trees are equal within the tolerances."""
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol), tree, other)


ORDERS = names(OrderName)
residual = functools.partial(small_net, (2, 1), shortcut="B")
plain = functools.partial(small_net, (2, 1), residual=False)
imagenet = {"block": "bottleneck", "bottleneck_stride": "middle", "settings": {"imagenet_stem": True}}
# Dense blocks of two loops, over four layers and one, and of one loop.
dense = functools.partial(DenseNet, (5, 1), 4, growth=3, compression=1.0, bottleneck=False, num_classes=5)
dense_bottleneck = functools.partial(DenseNet, (5, 1), 4, growth=3, compression=0.5, bottleneck=True, num_classes=5)


def inception_net(has_shortcuts):
    """Return a net of two blocks, a reduction and one block."""
    branches = (inception.Conv(4),), (inception.Conv(2), inception.Conv(4, 3))
    reduction = (inception.padded_max_pool,), (inception.Conv(4, 3, 2),)
    stages = inception.Blocks(2, branches, up=8), inception.Blocks(1, branches, up=12, reduction=reduction)
    return inception.Inception(
        inception.Architecture((inception.Conv(8, 3),), stages, up_norm="batch"), 10, has_shortcuts
    )


NETS = {
    **{f"{order} {kind}": functools.partial(residual, order=order, block=kind)
       for kind in ("basic", "bottleneck", "single") for order in ORDERS},
    "option A": functools.partial(residual, shortcut="A"),
    "option C": functools.partial(residual, shortcut="C"),
    "plain basic": plain,
    "plain bottleneck": functools.partial(plain, block="bottleneck"),
    "plain single": functools.partial(plain, block="single"),
    "ImageNet bottleneck": functools.partial(residual, **imagenet),
    "plain ImageNet bottleneck": functools.partial(plain, **imagenet),
    "repvgg": functools.partial(small_net, (2, 1), block="repvgg"),
    "dirac": functools.partial(plain, parametrization="dirac"),
    "standardized": functools.partial(plain, parametrization="standardized", norm="none"),
    **{scaling: functools.partial(residual, branch_scaling=scaling) for scaling in names(BranchScalingName)[1:]},
    "dense": dense,
    "plain dense": functools.partial(dense, residual=False),
    "dense bottleneck": dense_bottleneck,
    "plain dense bottleneck": functools.partial(dense_bottleneck, residual=False),
    "Inception": functools.partial(inception_net, True),
    "plain Inception": functools.partial(inception_net, False),
}  # fmt: skip


@functools.cache
def computed(name):
    """Return net ``name``, its variables, images, and loss, running statistics and gradients of them."""
    model, x = NETS[name](), images((16, 16, 3) if "ImageNet" in name else (8, 8, 3))
    # Scaled branches begin at 0, so their convolutions learn nothing at the very start.
    start = drawn if name in names(BranchScalingName) else functools.partial(models.initial_variables, seed=0)
    variables = start(model, image_shape=x.shape[1:])
    return model, variables, x, jax.device_get(loss_and_gradients(model, variables, x))
