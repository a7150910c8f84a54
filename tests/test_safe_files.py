"""Files of run directories are read and written whole, in their folder, and in JSON of a known shape."""

import os
import re

import pytest

from resnet_jax import archive, safe_files
from resnet_jax.errors import UserError


def test_json_goes_there_and_back(tmp_path):
    content = {"status": "finished", "final": {"test": 0.5}}
    safe_files.write_json(tmp_path / "a.json", content)
    assert safe_files.read_json(tmp_path / "a.json") == content
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert safe_files.read_json(tmp_path / "b.json") is None


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    safe_files.write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        safe_files.write_json(tmp_path / "a.json", {1, 2})
    assert safe_files.read_json(tmp_path / "a.json") == 1


@pytest.mark.parametrize(
    "message",
    [
        "Failed to write 13127 bytes to file 9: No space left on device [os_error_code='28']",
        'Failed to write: No space left on device [spec=\'{"path":"a","sync":true}\'] [os_error_code=\'28\']',
        'Failed to write: No space left on device [os_error_code=\'28\'; spec=\'{"path":"a","sync":true}\']',
    ],
)
def test_an_error_of_tensorstore_on_a_full_disk_becomes_an_error_in_the_words_of_the_system(message, tmp_path):
    expected = f"^{re.escape(str(tmp_path))} cannot be written \\(No space left on device\\); correct that and"
    with pytest.raises(UserError, match=expected), safe_files.writing(tmp_path):
        raise ValueError(message)


def test_other_errors_than_of_storage_are_left_as_they_are(tmp_path):
    with pytest.raises(ValueError, match="a shape"), safe_files.writing(tmp_path):
        raise ValueError("a shape")


def test_damaged_json_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.json is not valid JSON"):
        safe_files.read_json(tmp_path / "a.json")


def test_a_link_is_followed_within_its_folder_and_through_the_folder_itself(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.json").write_text("1")
    (tmp_path / "run" / "b.json").symlink_to("a.json")
    (tmp_path / "named").symlink_to("run")
    assert safe_files.read_json(tmp_path / "named" / "b.json") == 1


def test_nothing_is_written_through_a_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("a.json", "a.json.partial", "lock"):
        (tmp_path / name).symlink_to(victim)
    safe_files.write_json(tmp_path / "a.json", 1)
    assert safe_files.read_json(tmp_path / "a.json") == 1
    for mode in ("a", "a+", "ab+", "wb"):
        with pytest.raises(
            UserError, match="lock is a link or no regular file, to which nothing is written; remove it"
        ):
            safe_files.open_own(tmp_path / "lock", mode)
    assert victim.read_text() == "mine"


def test_nothing_is_written_to_a_pipe_a_file_of_another_name_or_a_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "other name").hardlink_to(tmp_path / "victim")
    (tmp_path / "device").symlink_to(os.devnull)
    for name in ("pipe", "other name", "device"):
        for mode in ("a", "a+", "wb"):
            with pytest.raises(UserError, match=f"{name} is a link or no regular file"):
                safe_files.open_own(tmp_path / name, mode)
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_file_is_opened_as_by_open_itself(tmp_path):
    with safe_files.open_own(tmp_path / "a", "a") as file:
        file.write("é")
    with safe_files.open_own(tmp_path / "a", "ab+") as file:
        file.write(b"b")
        file.seek(0)
        assert file.read() == "éb".encode()
    with safe_files.open_own(tmp_path / "a", "wb"):
        pass
    assert (tmp_path / "a").read_bytes() == b""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("NaN", "NaN is not a finite number"),
        ('{"a": 1e999}', "1e999 is not a finite number"),
        ("[" * 100_000, "it is nested too deeply"),
        ("[" * 60 + "]" * 60, "it is nested too deeply"),
        ("1" * 5000, "integer string conversion"),
        (r'["\ud800"]', "surrogates not allowed"),
        ("", "Expecting value"),
    ],
)
def test_what_no_record_holds_is_not_read(tmp_path, content, reason):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=rf"a\.json is not valid JSON \(.*{reason}.*\); remove it"):
        safe_files.read_json(tmp_path / "a.json")


def test_other_text_than_utf_8_is_refused(tmp_path):
    (tmp_path / "a.json").write_bytes(b'"caf\xe9"')
    with pytest.raises(UserError, match=r"a\.json is not valid JSON \('utf-8' codec can't decode"):
        safe_files.read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"a\.json is not text in UTF-8"):
        safe_files.read_text(tmp_path / "a.json")


def test_null_is_not_taken_for_a_missing_file(tmp_path):
    (tmp_path / "a.json").write_text("null")
    with pytest.raises(UserError, match=r"a\.json has no content"):
        safe_files.read_json(tmp_path / "a.json")


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    files = {"sweep.json": b"1", "run/config.json": b"2", "run/diagnosis/probes.jsonl": b"3"}
    (folder / "records.tar.xz").write_bytes(archive.packed(files))
    return folder


def test_files_in_an_archive_are_read_as_if_they_lay_in_its_folder(study):
    assert safe_files.read_bytes(study / "sweep.json") == b"1"
    assert safe_files.read_json(study / "run" / "config.json") == 2
    assert safe_files.read_bytes(study / "run" / "diagnosis" / "probes.jsonl") == b"3"
    assert safe_files.read_bytes(study / "run" / "summary.json") is None
    assert safe_files.read_bytes(study / "other" / "config.json") is None
    (study / "run").mkdir()
    (study / "run" / "config.json").write_text("4")
    assert safe_files.read_json(study / "run" / "config.json") == 4


def test_files_of_archives_are_among_the_files_below_a_folder(study):
    names = {"sweep.json", "run/config.json", "run/diagnosis/probes.jsonl"}
    assert set(safe_files.files_below(study)) == {study / name for name in names | {"records.tar.xz"}}
    assert set(safe_files.files_below(study.parent)) == set(safe_files.files_below(study))
    assert set(safe_files.files_below(study / "run")) == {
        study / "run/config.json",
        study / "run/diagnosis/probes.jsonl",
    }
    assert list(safe_files.files_below(study / "run" / "diagnosis")) == [study / "run/diagnosis/probes.jsonl"]
    assert list(safe_files.files_below(study / "other")) == []


def test_another_archive_in_its_place_is_read_again(study):
    assert safe_files.read_json(study / "sweep.json") == 1
    (study / "records.tar.xz").write_bytes(archive.packed({"sweep.json": b"100"}))
    assert safe_files.read_json(study / "sweep.json") == 100


def test_a_damaged_archive_is_named(study):
    (study / "records.tar.xz").write_bytes(b"text")
    with pytest.raises(UserError, match=r"study/records\.tar\.xz is damaged: it is not .*; restore"):
        safe_files.read_bytes(study / "sweep.json")
