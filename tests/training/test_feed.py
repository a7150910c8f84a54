"""Runs that are fed by a stream: the same trainer, the same promises."""

import time

import jax
import numpy as np
import pytest

from configs import recipes
from resnet_jax import data, evaluation
from resnet_jax.data import images
from resnet_jax.errors import UserError
from resnet_jax.rundir import read_metrics
from resnet_jax.safe_files import read_json
from resnet_jax.training import feed, first_layer, parallel, train
from resnet_jax.training.program import evaluate, make_program
from tests.images import write_folder
from tests.promises.runs import figures
from tests.training.tiny import with_tiny_net

pytestmark = pytest.mark.usefixtures("quick_compiling")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture
def streamed(root):
    """Return a run of seconds: residual-8 on crops of 32x32 pixels, by a thread instead of worker processes."""
    config = recipes.folder(depth=8, residual=True)
    config.model.family = "cifar"
    config.model.shortcut = "A"
    config.data.data_dir = str(root)
    config.data.image_size = 32
    config.data.workers = 0
    config.data.color_noise = 0.1
    config.batch_size = 16
    config.steps = 12
    config.log_every = config.checkpoint_every = 4
    config.eval_every = 6
    config.eval_batch_size = 10
    return config


@pytest.mark.slow
def test_a_streamed_run_learns_and_records_what_others_do(streamed, tmp_path):
    streamed.steps = 40
    streamed.data.validation_examples = 14
    summary = train(streamed, tmp_path)
    assert summary["status"] == "finished"
    assert summary["final"]["train_clean"]["error"] < 0.1
    assert summary["skipped_images"] == {"train": 0, "test": 0, "validation": 0}
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert {line["split"] for line in lines} == {"train", "train_clean", "validation", "test"}
    for line in lines:
        assert (line["data_wait"] is None) == (line["split"] != "train")
    assert lines[0]["epoch"] == 4 * 16 / 40


def test_a_run_on_examples_that_lie_on_the_devices_never_waits_for_them(whole):
    assert read_json(whole / "summary.json")["skipped_images"] is None
    assert {line["data_wait"] for line in read_metrics(whole / "metrics.jsonl")} == {0.0, None}


@pytest.mark.slow
@pytest.mark.devices(8)
def test_the_devices_share_a_batch(streamed, tmp_path, monkeypatch):
    """With synchronised batch norm one device, eight and both mappers are equal but for rounding."""
    streamed.batch_norm.sync = True
    found = []
    for devices, mapper in ((1, "shard_map"), (8, "shard_map"), (8, "pmap")):
        streamed.parallel.mapper = mapper
        mesh = parallel.device_mesh(jax.devices()[:devices])
        with monkeypatch.context() as patch:
            patch.setattr(parallel, "device_mesh", lambda mesh=mesh: mesh)
            train(streamed, tmp_path / f"{mapper}{devices}")
        found.append([line["loss"] for line in figures(tmp_path / f"{mapper}{devices}")])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3)
    np.testing.assert_allclose(found[2], found[1], rtol=1e-5)


def test_evaluation_is_that_of_the_images_themselves(streamed):
    dataset = data.load(streamed.data)
    program = make_program(streamed, 3)
    state = program.init((32, 32, 3))
    stream = feed.open_feed(dataset, streamed, program.mesh)
    found = evaluate(program, state, stream.examples, stream.evaluation("train", 10))
    source = dataset.splits["train"]
    crops = np.stack([images.central_crop(source[i][0], source[i][2], 32) for i in range(len(source))])
    pixels = crops.astype(np.float32) / 255 - data.normalisation(dataset, streamed.data)[0]
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits = np.asarray(program.model.apply(variables, pixels, train=False))
    scores = evaluation.score(logits, source.labels)
    assert found["examples"] == len(source)
    assert found["error"] == pytest.approx(scores.top1_error)
    assert found["loss"] == pytest.approx(scores.loss, rel=1e-5)


def test_some_of_the_training_examples_are_enough_to_evaluate(streamed):
    dataset = data.load(streamed.data)
    streamed.data.train_clean_examples = 13
    program = make_program(streamed, 3)
    stream = feed.open_feed(dataset, streamed, program.mesh)
    labels = np.concatenate(
        [np.asarray(labels)[np.asarray(weights) > 0] for (_, labels), weights in stream.evaluation("train", 10)]
    )
    assert len(labels) == 13
    assert set(labels.tolist()) == {0, 1, 2}  # All classes, though the files lie class by class.
    assert sum(float(weights.sum()) for _, weights in stream.evaluation("test", 10)) == 6


@pytest.mark.slow
def test_skipped_images_are_counted_over_all_starts_of_a_run(streamed, root, tmp_path, caplog):
    copy = write_folder(tmp_path / "images")
    files = [data.load(streamed.data).splits["train"][index][2].replace(str(root), str(copy)) for index in (0, 7, 30)]
    for file in files:
        with open(file, "wb"):  # noqa: PTH123
            pass
    streamed.data.data_dir = str(copy)
    with pytest.raises(UserError, match=r"\.jpg is empty\. .*config\.data\.on_bad_image=skip"):
        train(streamed, tmp_path / "error")
    streamed.data.on_bad_image = "skip"
    summary = train(streamed, tmp_path / "skip")
    assert summary["skipped_images"] == {"train": 3, "test": 0}
    assert sum("cannot be decoded and is skipped" in line for line in caplog.text.splitlines()) == 3

    stream = feed.open_feed(data.load(streamed.data), streamed, parallel.device_mesh())
    stream.remember({"train": [0, 5]})
    assert stream.bad() == {"train": [0, 5], "test": []}


@pytest.mark.slow
def test_a_slow_source_is_seen_in_the_metrics(streamed, tmp_path, monkeypatch):
    decode = images.train_crop

    def slowly(*arguments):
        time.sleep(0.05)
        return decode(*arguments)

    streamed.compile.convolutions = "lax"  # Kept compiled; while the second run compiled, its source would run ahead.
    train(streamed, tmp_path / "quick")
    monkeypatch.setattr(images, "train_crop", slowly)
    train(streamed, tmp_path / "slow")
    quick, slow = (
        [line["data_wait"] for line in read_metrics(tmp_path / name / "metrics.jsonl") if line["split"] == "train"]
        for name in ("quick", "slow")
    )
    assert all(0 <= share <= 1 for share in quick + slow)
    assert min(slow) > 0.5 > min(quick)


@pytest.mark.slow
def test_a_run_that_diverges_is_examined(streamed, registrations, tmp_path):
    with_tiny_net(streamed).optimizer.learning_rate = 1e38
    streamed.stop_at_divergence = True
    assert train(streamed, tmp_path)["status"] == "diverged"
    step = read_json(tmp_path / "diverged.json")["step"]
    assert first_layer(streamed, tmp_path).startswith(f"Step {step}: ") or step > 1


def test_padding_is_for_images_of_one_size(streamed, tmp_path):
    streamed.data.padding = 4
    with pytest.raises(UserError, match=r"config.data.padding=4 is for sets whose images have one size"):
        train(streamed, tmp_path)
    streamed.data.padding = 0
    streamed.batch_size = 56
    with pytest.raises(UserError, match=r"config.batch_size=56 is more than the 54 training examples; give at most"):
        train(streamed, tmp_path)


@pytest.mark.slow
def test_the_net_of_a_streamed_run_is_evaluated_on_its_crops(streamed, tmp_path):
    """By Pillow's resize and crop, where the run decoded, cut and resized at once: a grey level here and there."""
    summary = train(streamed, tmp_path)
    net = evaluation.of_run(tmp_path, parallel.device_mesh())
    assert net.crop == 32
    dataset = data.load(streamed.data)
    count, examples = data.examples(dataset, "train")
    pairs = list(examples)
    assert count == len(pairs)
    logits, _ = evaluation.predict(net, [image for image, _ in pairs], parallel.device_mesh(), batch_size=9)
    scores = evaluation.score(logits, np.array([label for _, label in pairs]))
    assert scores.loss == pytest.approx(summary["final"]["train_clean"]["loss"], rel=0.05)
