"""LSUV: after it each layer of the net has outputs of variance 1, on any number of devices, once a run."""

import functools

import jax
import numpy as np
import pytest

from configs import recipes
from resnet_jax import data, models
from resnet_jax.config import check
from resnet_jax.errors import UserError
from resnet_jax.training import feed, loop, lsuv, parallel, program, train
from tests.models.nets import quick_jit

FIELDS = {"depth": 8, "init": "lsuv", "norm": "none"}


pytestmark = pytest.mark.usefixtures("quick_compiling")


def images():
    return np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype(np.float32)


def layer_variances(model, params, x):
    """Return the variance of the output of each convolution and of the head, by their names."""

    def wanted(module, _):
        return module.name.startswith("conv") or module.name == "head" if module.name else False

    apply = functools.partial(model.apply, train=False, mutable=["intermediates"], capture_intermediates=wanted)
    _, found = quick_jit(apply)({"params": params}, x)
    outputs = jax.tree.map(lambda each: each[0], found["intermediates"], is_leaf=lambda each: isinstance(each, tuple))
    return {"/".join(path[:-1]): float(np.var(leaf)) for path, leaf in models.unstack(outputs).items()}


@pytest.mark.parametrize("fields", [{"residual": False}, {"residual": True}, {"residual": False, "activation": "tanh"}])
def test_every_layer_has_outputs_of_variance_1(fields):
    model = models.build(FIELDS | fields, 10)
    start = models.initial_variables(model, 0, (8, 8, 3))["params"]
    before = layer_variances(model, start, images())
    after = layer_variances(model, lsuv.scaled(model, start, images()), images())
    assert len(after) == 8
    assert all(abs(1 - variance) <= lsuv.TOLERANCE for variance in after.values()), after
    assert min(before.values()) < 0.1


def test_kernels_begin_orthonormal_and_keep_their_directions():
    model = models.build(FIELDS | {"residual": False}, 10)
    start = models.initial_variables(model, 0, (8, 8, 3))["params"]
    scaled = lsuv.scaled(model, start, images())
    kernel, after = (params["stage2"]["block0"]["conv2"]["kernel"].reshape(-1, 32) for params in (start, scaled))
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(32), atol=1e-5)
    ratio = after / kernel
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-3)
    assert jax.tree.structure(start) == jax.tree.structure(scaled)
    assert {leaf.dtype for leaf in jax.tree.leaves(scaled)} == {np.dtype("float32")}


def small(config):
    config.model.update({"init": "lsuv", "norm": "none", "residual": False})
    config.optimizer.learning_rate = 1e-4
    config.steps = config.log_every = config.eval_every = config.checkpoint_every = 1
    return config


def start(config, devices):
    """Return the parameters from which a run on so many devices starts."""
    mesh = parallel.device_mesh(jax.devices()[:devices])
    made = program.make_program(config, 10, mesh)
    fed = feed.open_feed(data.load(config.data), config, mesh)
    return jax.device_get(made.init(fed.image_shape, first_batch_images=loop.first_batch_images(fed)).params)


def test_the_start_of_a_run_depends_on_the_seed_and_not_on_the_number_of_devices(config):
    config = small(config)
    one, two = (start(config, devices) for devices in (1, 2))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    config.seed = 1
    assert np.any(start(config, 1)["head"]["kernel"] != one["head"]["kernel"])


def test_a_run_is_scaled_once_and_not_when_it_resumes(config, tmp_path, monkeypatch):
    calls = []
    scaled = lsuv.scaled
    monkeypatch.setattr(lsuv, "scaled", lambda *arguments: calls.append(1) or scaled(*arguments))
    config = small(config)
    assert train(config, tmp_path / "run")["status"] == "finished"
    (tmp_path / "run" / "summary.json").unlink()
    assert train(config, tmp_path / "run")["status"] == "finished"
    assert len(calls) == 1


def test_a_stream_is_refused():
    config = recipes.imagenet(18, residual=False, init="lsuv", norm="none")
    with pytest.raises(UserError, match=r"init='lsuv' scales by a batch .* stream; give another initialisation\."):
        check(config, 1)
