"""Batches of a stream depend only on seed and step, whoever makes them; files that cannot be decoded."""

import io
import itertools
import os
import pathlib
import pickle
import signal

import numpy as np
import PIL.Image
import psutil
import pytest
from ml_collections import ConfigDict

from configs import recipes
from resnet_jax import data
from resnet_jax.data import folder, images, passes, prepared, sampling, sources, stream
from resnet_jax.errors import UserError
from tests.data.conftest import CLASSES, write_set
from tests.images import write_folder

pytestmark = pytest.mark.xdist_group("stream")  # Worker processes take cores.


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture
def source(root):
    return folder.load(str(root), 0.1)["train"]


def maker(source, share=None, batch_size=8, skip=False, **fields):
    settings = {"seed": 3, "augmentation": "paper"} | fields
    return stream.TrainingBatches(source, 32, share or range(batch_size), batch_size, skip, **settings)


def take(made, numbers, workers):
    batches = stream.Workers(made, numbers, workers)
    try:
        return list(batches)
    finally:
        batches.close()


def assert_equal(one, other):
    for mine, theirs in zip(one, other, strict=True):
        for array, expected in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(array, expected)


def test_a_training_batch_has_the_examples_of_its_step(source):
    batch = maker(source)(5)
    [indices] = sampling.batch_indices(3, range(5, 6), 8, len(source))
    assert batch.images.shape == (8, 32, 32, 3)
    assert batch.images.dtype == np.uint8
    np.testing.assert_array_equal(batch.labels, source.labels[indices])
    # The tint identifies the class, whatever the crop.
    np.testing.assert_array_equal(batch.images.mean(axis=(1, 2)).argmax(axis=1), batch.labels)
    assert batch.weights.tolist() == [1] * 8
    assert batch.bad.tolist() == [-1] * 8


def test_crops_are_determined_by_seed_and_position_in_the_stream(source):
    assert_equal([maker(source)(5)], [maker(source)(5)])
    assert np.any(maker(source)(5).images != maker(source, seed=4)(5).images)
    epochs = -(-len(source) // 8)
    # An example has another crop in another epoch.
    first, later = maker(source), maker(source)
    seen = {int(i): first(0).images[row] for row, i in enumerate(sampling.batch_indices(3, range(1), 8, 54)[0])}
    for step in range(epochs, 2 * epochs + 1):
        for row, index in enumerate(sampling.batch_indices(3, range(step, step + 1), 8, len(source))[0]):
            if int(index) in seen:
                assert np.any(later(step).images[row] != seen[int(index)])
                return
    raise AssertionError("no example came again")


@pytest.mark.parametrize("workers", [0, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 3))])
def test_any_number_of_workers_gives_the_same_batches(source, workers):
    assert_equal(take(maker(source), range(7), workers), map(maker(source), range(7)))


def test_the_shares_of_hosts_are_the_batch(source):
    whole = maker(source)(2)
    shares = [maker(source, range(first, first + 2))(2) for first in range(0, 8, 2)]
    assert_equal([whole], [[np.concatenate(parts) for parts in zip(*shares, strict=True)]])


@pytest.mark.parametrize("batch_size", [1, 7, 54, 60])
def test_evaluation_visits_every_example_once(source, batch_size):
    made = stream.EvaluationBatches(source, 32, range(batch_size), batch_size, False, np.arange(54))
    batches = [made(number) for number in range(len(made))]
    weights = np.concatenate([batch.weights for batch in batches])
    assert weights.sum() == len(source) == 54
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches])[weights > 0], source.labels)
    encoded, _, where = source[3]
    np.testing.assert_array_equal(
        np.concatenate([batch.images for batch in batches])[3], images.central_crop(encoded, where, 32)
    )


class Spoilt:
    """A source with some truncated files."""

    def __init__(self, source, bad):
        self.source, self.bad = source, bad

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        encoded, label, where = self.source[index]
        return (encoded[:200] if index in self.bad else encoded), label, where


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_cannot_be_decoded_ends_the_run_by_name(source, workers):
    with pytest.raises(UserError, match=r"ant/\d+\.jpg cannot be decoded as an image .* or set .*on_bad_image=skip"):
        take(maker(Spoilt(source, range(10))), range(9), workers)


def test_the_next_example_takes_the_place_of_one_that_is_skipped(source):
    bad = [3, 4, 53]
    batches = take(maker(Spoilt(source, bad), skip=True), range(8), 0)
    indices = sampling.batch_indices(3, range(8), 8, len(source))
    assert set(np.concatenate([batch.bad for batch in batches]).tolist()) == {-1, *bad}
    for batch, expected in zip(batches, indices, strict=True):
        replaced = [{3: 5, 4: 5, 53: 0}.get(int(index), int(index)) for index in expected]
        np.testing.assert_array_equal(batch.labels, source.labels[replaced])
        assert batch.weights.all()


def test_in_evaluation_none_takes_its_place(source):
    made = stream.EvaluationBatches(Spoilt(source, [3, 53]), 32, range(54), 54, True, np.arange(54))
    batch = made(0)
    assert np.flatnonzero(batch.weights == 0).tolist() == [3, 53]
    assert batch.bad[[3, 53]].tolist() == [3, 53]


def test_if_nothing_can_be_decoded_skipping_ends(source):
    with pytest.raises(images.BadImage, match="cannot be decoded as an image"):
        maker(Spoilt(source, range(54)), skip=True)(0)


def test_workers_make_the_same_batches_from_any_step_and_report_that_one_was_killed(source):
    batches = stream.Workers(maker(source), range(4, 10**6), 2)
    try:
        assert_equal(list(itertools.islice(batches, 3)), map(maker(source), range(4, 7)))
        workers = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
        assert len(workers) == 2
        os.kill(workers[0].pid, signal.SIGKILL)
        with pytest.raises(UserError, match=r"a worker process that decodes images was killed, .* fewer config"):
            for _ in batches:
                pass
    finally:
        batches.close()
    assert not any(worker.is_running() and worker.status() != "zombie" for worker in workers)


@pytest.mark.slow
def test_memory_stays_flat_over_a_thousand_batches(source):
    """The memory of this process and of its worker, after 200 batches."""
    batches = stream.Workers(maker(source, batch_size=32), range(1000), 1)
    next(batches)
    [worker] = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
    sizes = []
    for number, _ in enumerate(batches):
        if number in (200, 990):
            sizes.append([each.memory_info().rss / 2**20 for each in (psutil.Process(), worker)])
    batches.close()
    batch = 32 * 32 * 32 * 3 / 2**20
    for before, after in zip(*sizes, strict=True):
        assert after - before < 8 < 790 * batch / 4  # MiB; a leak of each batch would be ten times that.


def test_prefetched_items_come_in_order_and_end():
    items = stream.Prefetcher(iter(range(1, 6)), lambda item: 10 * item)
    assert [*items] == [10, 20, 30, 40, 50]
    assert [*items] == []
    items.close()


def test_an_error_while_prefetching_is_raised_where_the_item_is_used():
    def fail(item):
        raise ValueError(f"item {item}")

    items = stream.Prefetcher(iter([1, 2]), fail)
    with pytest.raises(ValueError, match="item 1"):
        next(items)
    items.close()


def config(root, **fields):
    settings = recipes.folder(18, True).data
    settings.data_dir = str(root)
    settings.image_size = 32
    settings.update(ConfigDict(fields))
    return settings


def test_the_mean_is_that_of_central_crops(root, source):
    crops = np.stack([images.central_crop(*[source[i][0], source[i][2]], 32) for i in range(len(source))])
    expected = crops.astype(np.float64).mean(axis=0) / 255
    np.testing.assert_allclose(passes.crop_statistics(source, 32).mean, expected, atol=1e-12)
    np.testing.assert_allclose(passes.crop_statistics(source, 32).variance, (crops / 255).var(axis=(0, 1, 2)))
    dataset = data.load(config(root))
    means = {each: data.normalisation(dataset, config(root, mean=each))[0] for each in ("pixel", "channel")}
    assert {each: mean.shape for each, mean in means.items()} == {"pixel": (32, 32, 3), "channel": (1, 1, 3)}
    np.testing.assert_allclose(means["channel"][0, 0], means["pixel"].mean(axis=(0, 1)), atol=1e-6)


def test_the_mean_passes_over_what_cannot_be_decoded_unless_it_is_all(source):
    whole = passes.crop_statistics(sources.Subset(source, np.arange(4, 54)), 32)
    for found, expected in zip(passes.crop_statistics(Spoilt(source, range(4)), 32), whole, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)
    with pytest.raises(UserError, match="none of 54 images can be decoded"):
        passes.crop_statistics(Spoilt(source, range(54)), 32)


def test_a_folder_is_a_stream_of_crops(root):
    dataset = data.load(config(root))
    assert (dataset.num_classes, dataset.side) == (3, 32)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 54, "test": 6}
    assert data.shape(config(root)) == ((32, 32, 3), 3)
    assert data.image_shape(dataset) == (32, 32, 3)


def test_held_out_examples_are_drawn_from_all_classes(root):
    dataset = data.load(config(root, validation_examples=20))
    train, validation = (dataset.splits[name] for name in ("train", "validation"))
    assert (len(train), len(validation)) == (34, 20)
    files = [{split[i][2] for i in range(len(split))} for split in (train, validation)]
    assert len(files[0] | files[1]) == 54
    assert {validation[i][1] for i in range(20)} == {0, 1, 2}
    again = pickle.loads(pickle.dumps(validation))
    assert [again[i][2] for i in range(20)] == [validation[i][2] for i in range(20)]
    with pytest.raises(UserError, match=r"config\.data\.validation_examples=54 "):
        data.load(config(root, validation_examples=54))


def test_crops_of_another_size_are_another_set(root):
    one, other = (data.identify(data.load(config(root, **fields))) for fields in ({}, {"image_size": 40}))
    assert {name for name in one if one[name] != other[name]} == {"image_shape"}


def test_whole_images_come_in_order_and_in_their_own_size(source):
    found = list(passes.whole_images(source))
    assert [label for _, label in found] == source.labels.tolist()
    for (image, _), index in zip(found, range(3), strict=False):
        np.testing.assert_array_equal(image, np.asarray(PIL.Image.open(source[index][2])))
    spoilt = Spoilt(source, [7])
    with pytest.raises(UserError, match=r"cannot be decoded as an image .* Repair or remove it, or set"):
        list(passes.whole_images(spoilt))
    assert [label for _, label in passes.whole_images(spoilt, skip=True)] == np.delete(source.labels, 7).tolist()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data_dir": None}, "config.data.name=folder needs config.data.data_dir"),
        ({"image_size": None}, "config.data.name=folder needs config.data.image_size"),
        ({"name": "digits"}, "config.data.name=digits has no image files to crop; set config.data.image_size=None"),
    ],
)
def test_mistakes_are_refused(root, fields, message):
    settings = config(root)
    with settings.unlocked():
        for name, value in fields.items():
            setattr(settings, name, value)
    with pytest.raises(UserError, match=message):
        data.load(settings)


def jpeg(image):
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "jpeg")
    return file.getvalue()


def tfds_of_several_sizes(root, splits=("train", "test")):
    random = np.random.default_rng(0)
    made = {}
    for split in splits:
        made[split] = (
            [jpeg(random.integers(0, 256, (*random.integers(20, 60, 2), 3), np.uint8)) for _ in range(30)],
            random.integers(0, 3, 30),
        )
    write_set(root, "sizes", made, shape=(None, None, 3))
    return made


def test_a_tfds_set_of_several_sizes_is_a_stream(tmp_path):
    made = tfds_of_several_sizes(tmp_path)
    dataset = data.load(config(tmp_path, name="sizes"))
    assert dataset.num_classes == len(CLASSES)
    for split, (encoded, labels) in made.items():
        source = dataset.splits[split]
        assert len(source) == 30
        assert [source[i][0] for i in range(30)] == encoded
        assert [source[i][1] for i in range(30)] == labels.tolist()
        assert f"image 3 in split '{split}' of {tmp_path}" in source[3][2]
    sent = pickle.loads(pickle.dumps(maker(dataset.splits["train"])))  # As to a worker.
    assert_equal(map(sent, range(3)), map(maker(dataset.splits["train"]), range(3)))


def test_without_a_test_split_validation_is_taken(tmp_path):
    tfds_of_several_sizes(tmp_path, ("train", "validation"))
    assert set(data.load(config(tmp_path, name="sizes")).splits) == {"train", "test"}


def test_images_of_several_sizes_need_a_size_of_crops(tmp_path):
    tfds_of_several_sizes(tmp_path)
    settings = config(tmp_path, name="sizes")
    settings.image_size = None
    with pytest.raises(UserError, match=r"config\.data\.image_size"):
        data.load(settings)


def test_a_damaged_data_set_is_refused(tmp_path):
    tfds_of_several_sizes(tmp_path)
    for file in pathlib.Path(tmp_path, "sizes").rglob("*.array_record*"):
        file.write_bytes(b"nothing")
    with pytest.raises(UserError, match="is damaged or incomplete"):
        data.load(config(tmp_path, name="sizes"))


def test_a_label_out_of_range_is_refused(tmp_path):
    tfds_of_several_sizes(tmp_path)
    source = prepared.PreparedSource(str(tmp_path / "sizes" / "1.0.0"), "train", ("image", "label"), 30, num_classes=2)
    with pytest.raises(UserError, match=r"image \d+ in split 'train' of .* has label 2, but there are 2 classes"):
        take(maker(source), range(4), 0)


@pytest.mark.parametrize("image_size", [32, None])
def test_a_label_file_that_does_not_fit_is_refused(tmp_path, image_size):
    tfds_of_several_sizes(tmp_path)
    [labels] = pathlib.Path(tmp_path, "sizes").rglob("*.labels.txt")
    labels.write_text("cat\ndog\n")
    settings = config(tmp_path, name="sizes")
    settings.image_size = image_size
    with pytest.raises(
        UserError, match=r"has 3 classes but 2 class names in its labels.txt; prepare the data set again"
    ):
        data.load(settings)
