"""Nets as training programs save them: under prefixes and keys, next to other things, in twos."""

import logging

import numpy as np
import pytest

from resnet_jax import interop
from resnet_jax.errors import UserError
from resnet_jax.interop import saved

NAMES = ("conv1.weight", "bn1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer2.0.conv1.weight", "fc.bias")


def net(prefix="", value=0.0):
    """Return the tensors of a net whose names begin with ``prefix``."""
    return {prefix + name: np.full((2, 2), value, np.float32) for name in NAMES}


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "net.", "backbone.", "module._orig_mod.", "_orig_mod.module.", "a.b.c."],
)
def test_a_prefix_of_all_names_is_left_out_and_logged(prefix, tmp_path, caplog):
    interop.write(tmp_path / "w.safetensors", net(prefix), {})
    with caplog.at_level(logging.INFO):
        tensors, _ = interop.read(tmp_path / "w.safetensors")
    assert tuple(sorted(tensors)) == tuple(sorted(NAMES))
    assert f"w.safetensors: leaving out the prefix {prefix!r} of all names" in caplog.text


def test_a_prefix_of_some_names_stays():
    tensors = net() | net("module.")
    assert saved.chosen(tensors, None, "w").keys() == tensors.keys()


def test_counters_are_left_out_wherever_they_are(tmp_path):
    counters = {
        "n_averaged": np.array(100),
        "module.bn1.num_batches_tracked": np.array(7),
        "total_ops": np.array([1.0]),
    }
    interop.write(tmp_path / "w.safetensors", net("module.") | counters, {})
    assert sorted(interop.read(tmp_path / "w.safetensors")[0]) == sorted(NAMES)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"net": net("module."), "acc": 91.7, "epoch": 199}, "net"),
        ({"state_dict": net(), "model": "resnet20"}, "state_dict"),
        ({"params": net()}, "params"),
        ({"model": {"state_dict": net()}}, "model.state_dict"),
        ({"nets": [net()]}, "nets.0"),
        (
            {"state_dict": net(), "best_acc1": np.array(91.7), "optimizer": {"state": {0: net("exp_avg_")}}},
            "state_dict",
        ),
        ({"model_ema": net("module.") | {"n_averaged": np.array(3)}}, "model_ema"),
    ],
)
def test_the_only_net_of_a_checkpoint_is_read_and_its_key_logged(content, key, caplog):
    del content.get("optimizer", {"state": {}})["state"]
    with caplog.at_level(logging.INFO):
        assert sorted(saved.chosen(content, None, "w.pth")) == sorted(NAMES)
    assert f"w.pth: reading the net {key!r}" in caplog.text
    assert sorted(saved.chosen(content, key, "w.pth")) == sorted(NAMES)


TWO = [
    ({"state_dict": net(value=1), "state_dict_ema": net(value=2)}, ("state_dict", "state_dict_ema")),
    ({"model": net(value=1), "model_ema": net("module.", 2)}, ("model", "model_ema")),
    ({"params": net(value=1), "params_ema": net(value=2), "iter": 3}, ("params", "params_ema")),
    ({"model": {"state_dict": net(value=1), "ema": net(value=2)}}, ("model.state_dict", "model.ema")),
    ({"nets": [net(value=1), net(value=2)]}, ("nets.0", "nets.1")),
    (net(value=1) | {"ema": net(value=2)}, (".", "ema")),
    (net("model.", 1) | net("ema_model.", 2), ("model", "ema_model")),
    (net("model.", 1) | net("model_ema.module.", 2), ("model", "model_ema")),
    ({"state_dict": net("student.", 1) | net("teacher.", 2)}, ("state_dict.student", "state_dict.teacher")),
]


@pytest.mark.parametrize(("content", "keys"), TWO, ids=lambda value: str(value)[:40])
def test_of_two_nets_none_is_read_unless_chosen(content, keys):
    with pytest.raises(UserError) as caught:
        saved.chosen(content, None, "w.pth")
    for key in keys:
        assert repr(key) in str(caught.value)
    assert "w.pth holds 2 nets: " in str(caught.value)
    assert f"choose one, e.g. --weights_key={keys[1]}" in str(caught.value)
    for key, value in zip(keys, (1, 2), strict=True):
        tensors = saved.chosen(content, key, "w.pth")
        assert sorted(tensors) == sorted(NAMES)
        assert all((tensor == value).all() for tensor in tensors.values())


def test_running_averages_are_named_as_such_also_without_names_of_tensors():
    for content in (
        {"state_dict": net(), "state_dict_ema": net()},
        {"state_dict": net(), "ema": {"decay": 0.999, "shadow_params": list(net().values())}},
        {"state_dict": net(), "EMA": {"conv1weight": np.zeros((2, 2))}},
        {"state_dict": net(), "swa_state": {"a": np.zeros(2)}},
        {"state_dict": net(), "model_avg": net()},
        {"state_dict": net(), "modelEMA": {"conv1weight": np.zeros((2, 2))}},
        {"state_dict": net(), "Polyak": {"conv1weight": np.zeros((2, 2))}},
    ):
        with pytest.raises(UserError, match=r"holds 2 nets: 'state_dict', '\S+' \(a running average\); choose one"):
            saved.chosen(content, None, "w.pth")
        assert sorted(saved.chosen(content, "state_dict", "w.pth")) == sorted(NAMES)


def test_other_words_are_no_running_averages():
    for key in ("schema", "SCHEMA", "demand", "optimizer"):
        assert len(saved.saved_nets({"state_dict": net(), key: {"a": np.zeros(2)}})) == 1


def test_weights_of_a_loss_are_no_net():
    content = {"model": net(), "criterion": {"weight": np.ones(10)}}
    assert [each.key for each in saved.saved_nets(content)] == ["model"]


def test_the_larger_net_is_the_example():
    content = {"generator": net(), "discriminator": {"conv1.weight": np.zeros(2)}}
    with pytest.raises(UserError, match=r"e\.g\. --weights_key=generator"):
        saved.chosen(content, None, "w.pth")


def test_a_key_that_the_file_lacks_is_refused():
    with pytest.raises(
        UserError, match=r"w\.pth holds no net 'ema' but the net 'state_dict'; give another --weights_k"
    ):
        saved.chosen({"state_dict": net()}, "ema", "w.pth")
    with pytest.raises(UserError, match=r"w\.pth holds no net 'ema' but 2 nets: 'a', 'b'; give another --weights_key"):
        saved.chosen({"a": net(), "b": net()}, "ema", "w.pth")


def test_layers_alike_are_not_several_nets():
    layers = {f"layer{number}.0.conv1.weight": np.zeros((2, 2)) for number in (1, 2, 3)}
    assert [each.key for each in saved.saved_nets(layers | {"fc.weight": np.zeros(2)})] == ["."]
    assert [each.key for each in saved.saved_nets({"fc1.weight": np.zeros(2), "fc2.weight": np.zeros(2)})] == ["."]


def test_content_that_refers_to_itself_is_read():
    content = {"state_dict": net()}
    content["again"] = [content, {"deeper": content}]
    assert [each.key for each in saved.saved_nets(content)] == ["state_dict"]


def test_no_control_character_of_a_name_reaches_the_terminal():
    for content in ({"\x1b[2J": net(), "b": net()}, {"ema\x1b[2J": net(), "b\n": net()}):
        with pytest.raises(UserError) as caught:
            saved.chosen(content, None, "w.pth")
        assert str(caught.value).isprintable()
    assert all(name.isprintable() for name in saved.chosen(net() | {"\x1b[2J.weight": np.zeros(2)}, None, "w.pth"))
