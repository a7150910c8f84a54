"""Records of many runs in one file."""

import io
import lzma
import subprocess
import tarfile

import pytest

from resnet_jax import archive

FILES = {"sweep.json": b"{}", "plain-20/metrics.jsonl": b"1\n2\n", "plain-20/diagnosis/probes.jsonl": b""}


def tar_of(*members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return stream.getvalue()


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_files_go_there_and_back():
    assert archive.unpacked(archive.packed(FILES)) == FILES


def test_the_same_files_give_the_same_bytes_in_any_order():
    assert archive.packed(FILES) == archive.packed(dict(reversed(FILES.items())))


def test_names_may_be_long_and_in_any_script():
    files = {f"plain-20-from_{'größe' * 30}/config.json": b"{}"}
    assert archive.unpacked(archive.packed(files)) == files


def test_tar_unpacks_an_archive(tmp_path):
    (tmp_path / "records.tar.xz").write_bytes(archive.packed(FILES))
    subprocess.run(["tar", "-xf", "records.tar.xz", "plain-20"], cwd=tmp_path, check=True)
    assert (tmp_path / "plain-20" / "metrics.jsonl").read_bytes() == b"1\n2\n"
    assert not (tmp_path / "sweep.json").exists()


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        (member("../config.json"), r"it holds '\.\./config\.json', which is not a file below its folder"),
        (member("/etc/config.json"), "which is not a file below"),
        (member("run/./config.json"), "which is not a file below"),
        (member("run\nname/config.json"), "which is not a file below"),
        (member("run", tarfile.SYMTYPE, "/etc"), "which is not a file below"),
        (member("run/config.json", tarfile.LNKTYPE, "/etc/passwd"), "which is not a file below"),
        (member("run", tarfile.FIFOTYPE), "which is not a file below"),
    ],
)
def test_an_archive_of_something_other_than_files_below_its_folder_is_refused(info, reason):
    with pytest.raises(ValueError, match=reason):
        archive.unpacked(tar_of(info))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cut off"),
        (b"text", "not a compressed archive"),
        (lzma.compress(b"text" * 200), "not a compressed archive"),
        (archive.packed(FILES)[:-20], "cut off"),
    ],
)
def test_a_damaged_archive_is_refused(content, reason):
    with pytest.raises(ValueError, match=reason):
        archive.unpacked(content)


def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused(monkeypatch):
    content = archive.packed({"run/metrics.jsonl": b"0" * 100_000})
    monkeypatch.setattr(archive, "LARGEST", 50_000)
    with pytest.raises(ValueError, match="larger than any published study"):
        archive.unpacked(content)
