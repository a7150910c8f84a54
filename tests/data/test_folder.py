"""Folders of image files: what is found, what is refused, what is split off."""

import collections
import os
import pathlib
import pickle
import shutil
import unicodedata

import numpy as np
import pytest
from ml_collections import ConfigDict

from resnet_jax.data import folder, images, sources
from resnet_jax.errors import UserError

# Two spellings of one word.
NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def write(root, *names):
    """Write files ``names`` under ``root``, each with its own name as content."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def write_classes(root, **counts):
    write(root, *[f"{name}/{index}.jpg" for name, count in counts.items() for index in range(count)])


def contents(source):
    """Return the content and class name of each file of ``source``."""
    return [(encoded.decode(), source.class_names[label]) for encoded, label, _ in source]


def files(source):
    return {(source.class_names[label], name) for label, name in zip(source.labels, source.names, strict=True)}


# What is found.


@pytest.mark.parametrize("test", ["val", "validation", "test"])
def test_two_splits_are_read_as_they_lie(tmp_path, test):
    write(tmp_path, "train/dog/b.jpg", "train/dog/a.JPEG", "train/cat/z.png", f"{test}/cat/1.jpg", f"{test}/dog/1.jpg")
    splits = folder.load(str(tmp_path), test_fraction=0.5)
    assert contents(splits["train"]) == [
        ("train/cat/z.png", "cat"),
        ("train/dog/a.JPEG", "dog"),
        ("train/dog/b.jpg", "dog"),
    ]
    assert contents(splits["test"]) == [(f"{test}/cat/1.jpg", "cat"), (f"{test}/dog/1.jpg", "dog")]
    for source in splits.values():
        assert source.class_names == ("cat", "dog")
        assert source.labels.dtype == np.int32
    assert splits["train"][2] == (b"train/dog/b.jpg", 1, str(tmp_path / "train/dog/b.jpg"))


def test_val_goes_before_a_test_split_without_labels(tmp_path):
    write(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg", "val/dog/1.jpg", "test/1.jpg")
    assert folder.load(str(tmp_path), 0.5)["test"].root == str(tmp_path / "val")


def test_a_class_may_be_called_train(tmp_path):
    write_classes(tmp_path, train=5, car=5)
    assert folder.load(str(tmp_path), 0.2)["train"].class_names == ("car", "train")


def test_images_are_recognised_by_suffix_and_all_else_is_passed_over(tmp_path):
    good = ["a.jpg", "b.JPEG", "c.Png", "d.webp", "e.BMP", "f.gif", "g.tif", "h.jpg.png", "i j.jpg", "ü.jpg", "-.jpg"]
    write(tmp_path, *[f"cat/{name}" for name in good], "dog/1.jpg")
    write(tmp_path, "README.md", "1.jpg", ".git/1.jpg", "__MACOSX/._cat/1.jpg", "cat/deeper/2.txt", "cat/folder.jpg/x")
    write(tmp_path, "cat/Thumbs.db", "cat/.DS_Store", "cat/._a.jpg", "cat/a.jpg.txt", "cat/jpg", "cat/.jpg")
    source = folder.scan(tmp_path)
    assert contents(source) == [(f"cat/{name}", "cat") for name in sorted(good)] + [("dog/1.jpg", "dog")]
    assert source.ignored == {".md": 1, ".jpg": 1, ".txt": 2, ".db": 1, "other": 2}


def test_names_that_are_no_utf8_are_read(tmp_path):
    write(tmp_path, "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "cat" / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    assert contents(folder.scan(tmp_path))[1] == ("x", "cat")


def test_links_are_followed_and_a_broken_one_is_reported(tmp_path):
    write(tmp_path / "else", "dogs/2.jpg", "1.jpg")
    write(tmp_path / "set", "cat/2.jpg")
    (tmp_path / "set/cat/1.jpg").symlink_to(tmp_path / "else/1.jpg")
    (tmp_path / "set/dog").symlink_to(tmp_path / "else/dogs")
    source = folder.scan(tmp_path / "set")
    assert contents(source) == [("1.jpg", "cat"), ("cat/2.jpg", "cat"), ("dogs/2.jpg", "dog")]
    (tmp_path / "else/1.jpg").unlink()
    source = folder.scan(tmp_path / "set")
    with pytest.raises(UserError, match=r"set/cat/1\.jpg cannot be read \(No such file.*\); repair or remove it"):
        source[0]


def test_a_source_is_a_sequence_that_travels_to_other_processes(tmp_path):
    write_classes(tmp_path, cat=3, dog=2)
    source = folder.scan(tmp_path)
    copy = pickle.loads(pickle.dumps(source))
    assert len(copy) == 5
    assert list(copy) == list(source)
    assert copy[-1] == copy[np.int64(4)]
    with pytest.raises(IndexError):
        copy[5]


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_classes(tmp_path / "set", cat=5, dog=5)
    assert len(folder.load("~/set", 0.2)["train"]) == 8


# What is split off.


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.25, 0.5, 0.9])
def test_a_fraction_of_all_files_is_the_test_split(tmp_path, fraction):
    write_classes(tmp_path, cat=70, dog=25, emu=5)
    splits = folder.load(str(tmp_path), fraction)
    train, test = (files(splits[name]) for name in ("train", "test"))
    assert len(splits["test"]) == max(1, 100 * fraction)
    assert not train & test
    assert train | test == files(folder.scan(tmp_path))
    for source in splits.values():
        assert source.class_names == ("cat", "dog", "emu")
        assert all(where.endswith(encoded.decode()) for encoded, _, where in source)
        assert (np.diff(source.labels) >= 0).all()
    assert set(splits["train"].labels) == {0, 1, 2}


def test_the_split_does_not_depend_on_the_machine(tmp_path):
    write_classes(tmp_path / "one", cat=12, dog=8)
    write_classes(tmp_path / "two", dog=8)
    write_classes(tmp_path / "two", cat=12)
    splits = [folder.load(str(tmp_path / name), 0.2)["test"] for name in ("one", "two")]
    assert files(splits[0]) == files(splits[1])
    # As it has always been: a run that is resumed must not test on what it was trained on.
    assert files(splits[0]) == {("cat", b"3.jpg"), ("dog", b"2.jpg"), ("dog", b"4.jpg"), ("dog", b"6.jpg")}


def test_a_new_file_leaves_the_split_of_others_nearly_as_it_was(tmp_path):
    write_classes(tmp_path, cat=100, dog=100)
    before = files(folder.load(str(tmp_path), 0.2)["test"])
    write(tmp_path, "cat/new.jpg", "cat/newer.jpg")
    after = files(folder.load(str(tmp_path), 0.2)["test"])
    assert len(before ^ after) <= 6


def test_every_class_stays_in_training_as_long_as_there_are_other_files(tmp_path):
    write_classes(tmp_path, **{f"c{index}": 1 for index in range(30)}, many=20)
    splits = folder.load(str(tmp_path), 0.3)
    assert len(set(splits["train"].labels)) == 31
    assert collections.Counter(splits["test"].labels) == {30: 15}
    assert len(folder.load(str(tmp_path), 0.38)["test"]) == 19
    with pytest.raises(
        UserError, match=r"^config\.data\.test_fraction=0\.5 leaves the class c\d+ of .* without a training image; add"
    ):
        folder.load(str(tmp_path), 0.5)


def test_one_image_in_each_class_still_makes_two_splits_with_a_warning(tmp_path, caplog):
    write_classes(tmp_path, **{f"c{index}": 1 for index in range(20)})
    splits = folder.load(str(tmp_path), 0.1)
    assert {name: len(source) for name, source in splits.items()} == {"train": 18, "test": 2}
    assert all(len(source.class_names) == 20 for source in splits.values())
    [warning] = caplog.messages
    tested = [splits["test"].class_names[label] for label in splits["test"].labels]
    assert warning == f"{tmp_path}: 2 of 20 classes have no training image, e.g. {tested[0]}"


def test_a_class_that_validation_leaves_without_a_training_image_is_refused(tmp_path):
    write_classes(tmp_path, cat=40, dog=2)
    splits = folder.load(str(tmp_path), 0.1)
    assert len(sources.hold_out_sources({**splits}, 5)["train"]) == 33
    with pytest.raises(UserError, match=r"^config\.data\.validation_examples=37 leaves the class (cat|dog) of "):
        sources.hold_out_sources({**splits}, 37)


# What is refused.


def make(root, *names):
    root.mkdir()
    write(root, *names)


BAD = [
    ("nothing", (), r"has no class folders; it must hold one folder of images per class\."),
    ("images without folders", ("1.jpg", "2.jpg"), r"has no class folders; it must"),
    ("one class", ("cat/1.jpg",), r"has only one class folder, cat; add another, or set config\.data\.data_dir"),
    ("one too high", ("set/cat/1.jpg", "set/dog/1.jpg"), r"has only one class folder, set;"),
    (
        "a class without images",
        ("cat/1.jpg", "dog/.1"),
        r"/dog has no images \(\.jpg, .*\); add some or remove the class",
    ),
    (
        "a class of other files",
        ("cat/1.jpg", "dog/1.heic", "dog/2.HEIC", "dog/3.txt"),
        r"/dog has no images \(.*\), only 2 \.heic, 1 \.txt; add some, convert these or remove the class folder",
    ),
    (
        "nested classes",
        ("cat/1.jpg", "dog/deep/1.jpg"),
        r"/dog has images in its subfolder deep, .*; move them into .*/dog if that is a class, rename .*/dog to train",
    ),
    ("deeply nested images", ("cat/1.jpg", "dog/1.jpg", "dog/a/b/1.jpg"), r"/dog has images in its subfolder a, but"),
    ("names that differ in case", ("Dog/1.jpg", "cat/1.jpg", "dog/1.jpg"), r"has classes Dog and dog, which differ"),
    (
        "names of two normal forms",
        (f"{NFC}/1.jpg", f"{NFD}/1.jpg", "tea/1.jpg"),
        r" has two class folders café, 'cafe\\u0301' and 'caf\\xe9', which differ only in Unicode's normal form",
    ),
    ("names that differ in both", (f"{NFD.upper()}/1.jpg", f"{NFC}/1.jpg"), r", which differ only in case"),
    (
        "names that differ in case between splits",
        ("train/cat/1.jpg", "train/Dog/1.jpg", "val/cat/1.jpg", "val/dog/1.jpg"),
        r"/train has the class folder Dog, but .*/val has dog; rename one of them",
    ),
    (
        "Tiny ImageNet",
        ("train/n01/images/1.JPEG", "train/n02/images/1.JPEG", "val/images/1.JPEG", "val/val_annotations.txt"),
        r"/val has the images of all classes in one folder, images; move each into a folder of its class, .*/val/CLASS "
        r"\(val_annotations\.txt lists .*\), and the images in .*/train/CLASS/images up into .*/train/CLASS\.$",
    ),
    (
        "a test split that is not sorted",
        ("train/cat/1.jpg", "train/dog/1.jpg", "val/all/1.jpg"),
        r"/val has the images of all classes in one folder, all; move each into a folder of its class, .*/val/CLASS\.$",
    ),
    ("no test split", ("train/cat/1.jpg", "train/dog/1.jpg"), r"has a folder train but no folder val or validation"),
    ("flat splits", ("train/1.jpg", "val/1.jpg"), r"/train has no class folders; it must hold"),
    ("a flat test split", ("train/cat/1.jpg", "train/dog/1.jpg", "val/1.jpg"), r"/val has no class folders; it must"),
    (
        "a class that the test split lacks",
        ("train/cat/1.jpg", "train/dog/1.jpg", "train/emu/1.jpg", "val/cat/1.jpg", "val/emu/1.jpg"),
        r"/val lacks the class folder dog of .*/train; both need the same classes, so add it there or",
    ),
    (
        "a class that the training split lacks",
        ("train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg", "val/dog/1.jpg", "val/emu/1.jpg"),
        r"/train lacks the class folder emu of .*/val;",
    ),
    (
        "a class without test images",
        ("train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg", "val/dog/notes"),
        r"/val/dog has no images",
    ),
]


@pytest.mark.parametrize(("names", "sentence"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_folder_is_refused_in_one_sentence_that_names_it(tmp_path, names, sentence):
    root = tmp_path / "set"
    make(root, *names)
    with pytest.raises(UserError, match=f"^{root}.*{sentence}") as raised:
        folder.load(str(root), 0.5)
    assert "\n" not in str(raised.value)


TWO = ("cat/1.jpg", "dog/1.jpg")


@pytest.mark.parametrize(
    ("train", "test", "advice"),
    [
        ("Train", "val", "rename Train to train, so that"),
        ("training", "validation", "rename training to train, so that"),
        ("train", "Val", "rename Val to val, so that"),
        ("train", "valid", "rename valid to val, so that"),
        ("TRAIN", "TEST", "rename TRAIN to train and TEST to test, so that"),
        ("Training", "Testing", "rename Training to train and Testing to test, so that"),
        ("train_dataset2", "test-images", "rename train_dataset2 to train and test-images to test, so that"),
    ],
)
@pytest.mark.parametrize("names", [TWO, ("1.jpg",)], ids=["with classes", "flat"])
def test_splits_of_other_names_are_never_taken_for_classes(tmp_path, train, test, advice, names):
    write(tmp_path, *[f"{split}/{name}" for split in (train, test) for name in names])
    with pytest.raises(UserError, match=f"^{tmp_path} has the folders {train} and {test}; {advice}"):
        folder.load(str(tmp_path), 0.5)


@pytest.mark.parametrize(
    ("split", "advice"),
    [
        ("Train", "has a folder Train but no folder val or validation or test; rename Train to train and add one"),
        (
            "val",
            "has a folder val but no folder train; put the class folders of the training split into train, or move",
        ),
        ("Testing", "has a folder Testing but no folder train; put .* into train and rename Testing to test, or move"),
    ],
)
def test_one_split_without_the_other_is_refused(tmp_path, split, advice):
    write(tmp_path, *[f"{split}/{name}" for name in TWO])
    for _ in range(2):
        with pytest.raises(UserError, match=f"^{tmp_path} {advice}"):
            folder.load(str(tmp_path), 0.5)
        write(tmp_path, "cat/1.jpg", "dog/1.jpg")  # Class folders next to it.


def test_names_that_only_begin_like_a_split_are_classes(tmp_path):
    names = ("dev board", "eval" + "1" * 100 + "x", "test tube", "testament", "train" + "1" * 100 + "x", "valley")
    write(tmp_path, *[f"{name}/{index}.jpg" for name in names for index in range(2)])
    assert folder.load(str(tmp_path), 0.1)["train"].class_names == names


def test_a_flat_folder_test_beside_classes_is_not_a_class(tmp_path):
    write(tmp_path, *TWO, "test/1.jpg")
    with pytest.raises(UserError, match=r"has a folder test but no folder train; .*, or move test elsewhere"):
        folder.load(str(tmp_path), 0.5)


@pytest.mark.parametrize("target", ["/not/mounted/bird", "bird"])
@pytest.mark.parametrize("place", ["", "train/", "val/"])
def test_a_broken_link_to_a_class_is_named(tmp_path, place, target):
    write(tmp_path, *[f"{split}{name}" for split in (("train/", "val/") if place else ("",)) for name in TWO])
    (tmp_path / place / "bird").symlink_to(target)
    with pytest.raises(UserError, match=rf"^{tmp_path}/{place}bird is a link to {target}, which does not exist or"):
        folder.load(str(tmp_path), 0.5)


def test_a_broken_link_to_a_split_is_named(tmp_path):
    write(tmp_path, *[f"train/{name}" for name in TWO])
    (tmp_path / "val").symlink_to("/not/mounted/val")
    with pytest.raises(UserError, match=f"^{tmp_path}/val is a link to /not/mounted/val, which does not exist or"):
        folder.load(str(tmp_path), 0.5)


@pytest.mark.parametrize(
    ("names", "link", "target"),
    [
        (("cat/1.jpg", "dog/1.jpg"), "emu", "cat"),
        (("train/cat/1.jpg", "train/dog/1.jpg"), "val", "train"),
        (("train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg"), "val/dog", "../train/dog"),
    ],
)
def test_one_folder_is_never_two_classes_or_in_both_splits(tmp_path, names, link, target):
    write(tmp_path, *names)
    (tmp_path / link).symlink_to(target)
    with pytest.raises(UserError, match=r"/(cat|dog) and .*/(cat|dog|emu) are one folder, because of a link; remove"):
        folder.load(str(tmp_path), 0.5)


SYSTEM = ("@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX", "#recycle", "@Recycle")
HIDDEN = (".git", ".ipynb_checkpoints", ".Trash-1000", ".AppleDouble")


@pytest.mark.parametrize("name", SYSTEM + HIDDEN)
def test_folders_of_the_system_are_no_classes_splits_or_images(tmp_path, name):
    write(tmp_path, *TWO, f"{name}/1.jpg", f"cat/{name}/1.jpg", f"cat/notes/{name}/1.jpg")
    source = folder.scan(tmp_path)
    assert (source.class_names, len(source), source.ignored) == (("cat", "dog"), 2, {})


def test_names_of_one_class_in_two_normal_forms_are_one_class(tmp_path):
    write(tmp_path, f"train/{NFC}/1.jpg", "train/cafz/1.jpg", f"val/{NFD}/1.jpg", "val/cafz/1.jpg")
    splits = folder.load(str(tmp_path), 0.5)
    for name, source in zip(("train", "val"), splits.values(), strict=True):
        assert source.class_names == ("cafz", NFC)
        spelling = {"train": NFC, "val": NFD}[name]
        assert contents(source) == [(f"{name}/cafz/1.jpg", "cafz"), (f"{name}/{spelling}/1.jpg", NFC)]


def opened(root, validation_examples=0):
    """Return the data set of the folders under ``root`` that a run opens."""
    return sources.load(
        ConfigDict(
            {
                "name": "folder",
                "data_dir": str(root),
                "image_size": 32,
                "test_fraction": 0.1,
                "validation_examples": validation_examples,
            }
        )
    )


def test_files_that_are_left_out_are_counted_and_said(tmp_path, caplog):
    write_classes(tmp_path, cat=10, dog=10)
    write(tmp_path, "cat/1.heic", "cat/2.HEIC", "dog/3.avif", "dog/deep/4.txt", "README", "1.jpg", "cat/.DS_Store")
    with caplog.at_level("INFO", logger="absl"):
        dataset = opened(tmp_path, validation_examples=3)
    assert f"{tmp_path}: files that are not used: 1 .avif, 2 .heic, 1 .jpg, 1 .txt, 1 other" in caplog.text
    assert sources.contents(dataset) == "2 classes, 15 training, 3 validation and 2 test images, 6 files ignored"


def test_files_and_folders_beside_two_splits_are_counted_and_said(tmp_path, caplog):
    write(tmp_path, *[f"{split}/{name}" for split in ("train", "val", "test", "extra") for name in TWO])
    write(tmp_path, "train/cat/1.heic", "val/dog/2.heic")
    with caplog.at_level("INFO", logger="absl"):
        dataset = opened(tmp_path)
    assert f"{tmp_path}: files that are not used: 2 .heic" in caplog.text
    assert f"{tmp_path}: folders that are not used: extra, test" in caplog.text
    assert sources.contents(dataset) == "2 classes, 2 training and 2 test images, 2 files ignored"


def test_nothing_is_said_where_nothing_is_left_out(tmp_path, caplog):
    write_classes(tmp_path, cat=1000, dog=200)
    with caplog.at_level("INFO", logger="absl"):
        assert sources.contents(opened(tmp_path)) == "2 classes, 1,080 training and 120 test images"
    assert caplog.text == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    write(tmp_path, *TWO)
    os.mkfifo(tmp_path / "cat/2.jpg")
    source = folder.scan(tmp_path)
    assert (len(source), source.ignored) == (2, {".jpg": 1})


def test_an_empty_file_is_named_when_it_is_decoded(tmp_path):
    write(tmp_path, *TWO)
    (tmp_path / "cat/1.jpg").write_bytes(b"")
    encoded, _, where = folder.scan(tmp_path)[0]
    with pytest.raises(images.BadImage, match=rf"^{tmp_path}/cat/1\.jpg is empty\.$"):
        images.decode(encoded, where)


def test_an_impossible_folder_is_refused(tmp_path):
    write(tmp_path, "file")
    for root, sentence in (
        (tmp_path / "file", r"/file is a file; set config\.data\.data_dir to a folder with one folder of images"),
        (tmp_path / "none", r"/none does not exist; set config\.data\.data_dir to a folder with"),
        (tmp_path / ("x" * 300), r"xxx cannot be read \(.*too long.*\); set config\.data\.data_dir to"),
        ("~nobody here/set", r"~nobody here/set cannot be read \(.*\); set config\.data\.data_dir to"),
        ("a\0b", r"does not exist; set config\.data\.data_dir to"),
    ):
        with pytest.raises(UserError, match=sentence):
            folder.load(str(root), 0.5)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan"), 0.95])
def test_a_fraction_that_leaves_a_split_without_images_is_refused(tmp_path, fraction):
    write_classes(tmp_path, cat=2, dog=3)
    with pytest.raises(
        UserError, match=rf"has 5 images, and config\.data\.test_fraction={fraction} leaves .* between 0 an"
    ):
        folder.load(str(tmp_path), fraction)


# Real images.


@pytest.mark.skipif(
    not pathlib.Path(os.environ.get("IMAGENET_SAMPLE", "/nowhere")).is_dir(),
    reason="IMAGENET_SAMPLE names no folder with folders of ImageNet's images",
)
def test_every_image_of_a_sample_of_imagenet_is_cropped(tmp_path):
    sample = os.environ["IMAGENET_SAMPLE"]
    splits = folder.load(sample, 0.1)
    train, test = len(splits["train"]), len(splits["test"])
    assert test == max(1, round(0.1 * (train + test)))
    random = np.random.default_rng(0)
    for encoded, label, where in splits["train"]:
        assert splits["train"].class_names[label] == pathlib.Path(where).parent.name
        for augmentation in images.AUGMENTATIONS:
            assert images.train_crop(encoded, where, augmentation, random).std() > 1
    means = np.mean([images.central_crop(encoded, where).mean((0, 1)) for encoded, _, where in splits["test"]], 0)
    np.testing.assert_allclose(means / 255, [0.485, 0.456, 0.406], atol=0.15)  # Of ImageNet.
    (tmp_path / "train").symlink_to(pathlib.Path(sample).resolve())
    shutil.copytree(sample, tmp_path / "val")
    assert [len(source) for source in folder.load(str(tmp_path), 0.1).values()] == [train + test] * 2
