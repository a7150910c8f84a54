"""The classes of image files: their names and probabilities, without the training data."""

import shutil

import numpy as np
import pytest
import scipy.special
from PIL import Image

from resnet_jax import data, evaluation
from resnet_jax.config import default
from resnet_jax.data import digits
from resnet_jax.errors import UserError
from resnet_jax.evaluation import metadata
from resnet_jax.training import parallel, train
from tests.images import photo, write_folder

MESH = parallel.device_mesh()


@pytest.fixture(scope="module")
def grey(whole):
    """Return the net of a run on the digits, which are grey images of 8x8 pixels."""
    return evaluation.of_run(whole, MESH)


def write_digits(folder, count):
    pixels, _ = digits.load().splits["test"]
    files = [folder / f"{index}.png" for index in range(count)]
    for file, image in zip(files, pixels, strict=False):
        Image.fromarray(image[..., 0]).save(file)
    return files, pixels[:count]


def test_probabilities_are_of_the_logits_by_class_name_the_most_probable_first(grey, tmp_path):
    files, pixels = write_digits(tmp_path, 3)
    found = evaluation.classify(grey, files, MESH)
    logits, _ = evaluation.predict(grey, pixels, MESH)
    assert [each.file for each in found] == files
    for each, of_image in zip(found, scipy.special.softmax(logits.astype(float), axis=1), strict=True):
        assert each.probabilities == pytest.approx(dict(zip("0123456789", of_image, strict=True)), rel=1e-6)
        assert sorted(each.probabilities.values(), reverse=True) == [*each.probabilities.values()]


def test_a_net_that_does_not_name_its_classes_numbers_them(grey, tmp_path):
    files, _ = write_digits(tmp_path, 1)
    unnamed = grey._replace(class_names=None)
    assert evaluation.classify(unnamed, files, MESH) == evaluation.classify(grey, files, MESH)


def test_grey_pixels_in_a_file_in_colour_are_grey_and_others_are_refused(grey, tmp_path):
    (file,), _ = write_digits(tmp_path, 1)
    Image.open(file).convert("RGBA").save(tmp_path / "rgba.png")
    one, other = evaluation.classify(grey, [file, tmp_path / "rgba.png"], MESH)
    assert one.probabilities == other.probabilities
    photo(8, 8).save(tmp_path / "photo.png")
    with pytest.raises(UserError, match=r"photo\.png is in colour, but run takes grey images; convert it"):
        evaluation.classify(grey, [tmp_path / "photo.png"], MESH)


def test_images_of_another_size_are_refused_by_name_where_the_net_takes_one(grey, tmp_path):
    Image.new("L", (9, 8)).save(tmp_path / "wide.png")
    with pytest.raises(UserError, match=r"wide\.png has 8x9 pixels, but run takes images of 8x8; resize it"):
        evaluation.classify(grey, [tmp_path / "wide.png"], MESH)


@pytest.mark.xdist_group("varied")
def test_images_are_downsampled_like_the_runs(varied, tmp_path):
    files, pixels = write_digits(tmp_path, 2)
    net = evaluation.of_run(varied, MESH)
    found = evaluation.classify(net, files, MESH, downsample=2)
    half = np.floor(pixels.reshape(2, 4, 2, 4, 2).mean((2, 4)) + 0.5).astype(np.uint8)[..., None]
    logits, _ = evaluation.predict(net, half, MESH)
    assert [next(iter(each.probabilities)) for each in found] == [str(index) for index in logits.argmax(1)]


def test_bad_images_are_refused_or_skipped_and_missing_files_refused(grey, tmp_path, caplog):
    (file,), _ = write_digits(tmp_path, 1)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"bad\.png .* Leave it out\."):
        evaluation.classify(grey, [file, bad], MESH)
    assert [each.file for each in evaluation.classify(grey, [bad, file], MESH, skip=True)] == [file]
    assert "Skipped" in caplog.text
    with pytest.raises(UserError, match=r"none of 1 images can be decoded"):
        evaluation.classify(grey, [bad], MESH, skip=True)
    with pytest.raises(UserError, match=r"gone\.png cannot be read \(No such file"):
        evaluation.classify(grey, [tmp_path / "gone.png"], MESH)


def test_non_finite_numbers_are_an_error(grey, tmp_path):
    files, _ = write_digits(tmp_path, 1)
    broken = grey._replace(std=np.full_like(grey.std, np.nan))
    with pytest.raises(UserError, match=r"^the logits of run are inf or NaN for 1 of 1 images"):
        evaluation.classify(broken, files, MESH)


def test_folders_stand_for_the_images_in_and_below_them(tmp_path):
    root = write_folder(tmp_path / "images", count=2)
    (root / "ant" / "notes.txt").write_text("")
    (root / "ant" / ".hidden.png").write_text("")
    found = evaluation.image_files([root / "bee", root])
    assert [file.name for file in found[:2]] == ["0.jpg", "1.jpg"]
    assert len(found) == 8
    assert found[:2] == [file for file in found[2:] if file.parent.name == "bee"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty has no images"):
        evaluation.image_files([tmp_path / "empty"])
    with pytest.raises(UserError, match=r"nowhere\.png does not exist"):
        evaluation.image_files([tmp_path / "nowhere.png"])


@pytest.mark.slow
def test_a_net_of_crops_takes_any_size_and_mode_after_its_data_are_gone(tmp_path):
    root = write_folder(tmp_path / "images", count=6)
    config = default()
    config.model.depth, config.steps, config.batch_size = 8, 2, 4
    config.data.name, config.data.data_dir, config.data.image_size = "folder", str(root), 32
    config.data.padding, config.data.workers, config.eval_batch_size = 0, 0, 8
    config.log_every = config.eval_every = config.checkpoint_every = 2
    train(config, tmp_path / "run")
    dataset = data.load(config.data)
    photo(90, 50).convert("P").save(tmp_path / "palette.png")
    _, _, where = dataset.splits["test"][0]
    root.rename(tmp_path / "moved")
    net = evaluation.of_run(tmp_path / "run", MESH)
    files = [tmp_path / "palette.png", tmp_path / "moved" / where.removeprefix(str(root)).lstrip("/")]
    found = evaluation.classify(net, files, MESH)
    assert {name for each in found for name in each.probabilities} == {"ant", "bee", "cow"}
    assert [sum(each.probabilities.values()) for each in found] == pytest.approx([1, 1])


def test_in_folders_links_are_followed_once_and_hidden_and_system_files_left_out(tmp_path):
    root = write_folder(tmp_path / "images", count=1)
    for name in (".hidden", "@eaDir"):
        shutil.copytree(root / "ant", root / name)
    (root / "back").symlink_to(root)
    (root / "dog").symlink_to(write_folder(tmp_path / "others", count=1) / "bee")
    (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
    found = [str(file.relative_to(root)) for file in evaluation.image_files([root])]
    assert found == ["ant/0.jpg", "bee/0.jpg", "cow/0.jpg", "dog/0.jpg", "gone.jpg"]
    with pytest.raises(UserError, match=r"cannot be read \(File name too long\); give another"):
        evaluation.image_files([tmp_path / ("x" * 300)])


def test_recorded_classes_have_a_name_each():
    assert metadata.class_names(["a", "b"], 2) == ("a", "b")
    with pytest.raises(ValueError, match="class_names has a name twice"):
        metadata.class_names(["a", "a"], 2)
