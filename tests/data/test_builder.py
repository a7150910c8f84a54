"""What a prepared folder may name, and that TFDS imports nothing of its choice."""

import json
import re
import sys

import pytest

from resnet_jax.data import builder, locate, prepared
from resnet_jax.errors import UserError
from tests.data.conftest import tiny_splits, write_set

TEXT = "tensorflow_datasets.core.features.text_feature.Text"
DICTIONARY = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
EVIL = "evil_features.Evil"
# What a feature may look like to TFDS: in the form of today, in snake case, in the older form, and as JSON within JSON.
FORMS = {
    "today": {"pythonClassName": EVIL, "text": {}},
    "snake case": {"python_class_name": EVIL, "text": {}},
    "another module of TFDS": {"pythonClassName": "tensorflow_datasets.testing.test_utils.Evil", "text": {}},
    "within a sequence": {
        "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
        "sequence": {"feature": {"pythonClassName": EVIL, "text": {}}, "length": "-1"},
    },
    "as JSON": {
        "pythonClassName": DICTIONARY,
        "jsonFeature": {"json": json.dumps({"x": {"type": EVIL, "content": {}}})},
    },
    "as JSON of a file of names": {
        "pythonClassName": "tensorflow_datasets.core.features.class_label_feature.ClassLabel",
        "json_feature": {"json": json.dumps({"names_file": "/etc/passwd"})},
    },
}
OLDER = {
    "older": {"type": EVIL, "content": {}},
    "older, a message as text": {
        "type": DICTIONARY,
        "proto_cls": "tensorflow_datasets.FeaturesDict",
        "content": json.dumps({"features": {"x": {"pythonClassName": EVIL, "text": {}}}}),
    },
}


@pytest.fixture
def evil_module(tmp_path, monkeypatch):
    """Make a module importable that leaves a file when it is executed; return that file."""
    executed = tmp_path / "executed"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "evil_features.py").write_text(f"import pathlib; pathlib.Path({str(executed)!r}).touch()\n")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    yield executed
    sys.modules.pop("evil_features", None)


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "tfds", "tiny", tiny_splits())


def change(file, alter):
    content = json.loads(file.read_text())
    file.write_text(json.dumps(alter(content) or content))


@pytest.mark.parametrize("feature", FORMS.values(), ids=FORMS)
def test_a_class_that_is_not_tfds_own_is_refused_wherever_it_is_named(folder, evil_module, feature):
    change(folder / "features.json", lambda content: content["featuresDict"]["features"].update(more=feature))
    for read in (prepared.read, locate.summary):
        with pytest.raises(UserError, match=re.escape(f"{folder / 'features.json'} ")):
            read(folder)
    with pytest.raises(UserError, match=r"features\.json"):
        prepared.PreparedSource(str(folder), "train", ("image", "label"), 40, 3)[0]
    assert not evil_module.exists()


@pytest.mark.parametrize("feature", OLDER.values(), ids=OLDER)
def test_the_older_form_is_refused(folder, evil_module, feature):
    change(folder / "features.json", lambda content: feature)
    with pytest.raises(UserError, match=r"features\.json names the class"):
        prepared.read(folder)
    assert not evil_module.exists()


def test_features_within_dataset_info_are_refused_too(folder, evil_module):
    change(folder / "dataset_info.json", lambda info: info.update(features=FORMS["today"]))
    with pytest.raises(UserError, match=r"dataset_info\.json names the class 'evil_features\.Evil', which is not"):
        prepared.open_sources("tiny", str(folder.parents[1]))
    assert not evil_module.exists()


def test_tfds_itself_would_execute_the_module(folder, evil_module):
    """Else the tests above show nothing."""
    import tensorflow_datasets as tfds

    change(folder / "features.json", lambda content: content["featuresDict"]["features"].update(more=FORMS["today"]))
    with pytest.raises(ValueError, match="Unrecognized"):
        tfds.builder_from_directory(str(folder))
    assert evil_module.exists()


@pytest.mark.parametrize("template", ["../{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "/etc/{SPLIT}{SHARD_INDEX}"])
def test_records_outside_the_folder_are_refused(folder, template):
    change(folder / "dataset_info.json", lambda info: info["splits"][0].update(filepathTemplate=template))
    with pytest.raises(UserError, match="a file elsewhere"):
        prepared.read(folder)


def test_all_features_that_tfds_writes_are_accepted(tmp_path):
    import numpy as np
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(8, 8, 3), doc="an image of a type of json"),
        "type": tfds.features.Text(),
        "json": tfds.features.Sequence({"box": tfds.features.BBoxFeature(), "area": tfds.features.Scalar(np.int64)}),
        "label": tfds.features.ClassLabel(num_classes=3),
        "embedding": tfds.features.Tensor(shape=(3,), dtype=np.float32),
        "mask": tfds.features.LabeledImage(labels=3, shape=(8, 8, 1)),
        "captions": tfds.features.Translation(["en", "de"]),
    }
    tfds.features.FeaturesDict(features).save_config(tmp_path)
    content = json.loads((tmp_path / "features.json").read_text())
    builder.check_features(content, builder.feature_classes(), tmp_path)


def test_a_set_is_prepared_by_tfds_code_not_from_what_lies_in_the_folder(folder, evil_module, monkeypatch):
    """For a version that is named TFDS would open ``emnist/byclass/99.0.0``, where this project looks for no set."""
    from resnet_jax.data import prepare

    hidden = folder.parents[1] / "emnist" / "byclass" / "99.0.0"
    hidden.parent.mkdir(parents=True)
    change(folder / "features.json", lambda content: content["featuresDict"]["features"].update(more=FORMS["today"]))
    folder.rename(hidden)
    monkeypatch.setattr(prepare.logging, "set_verbosity", lambda level: None)  # As it is in a process of its own.
    with pytest.raises(AssertionError, match="cannot be loaded at version"):
        prepare.download_and_prepare("emnist:99.0.0", str(folder.parents[1]))
    assert not evil_module.exists()
