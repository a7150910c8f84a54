"""Folders and files as users name them."""

import pytest

from resnet_jax.errors import UserError
from resnet_jax.paths import local_path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~", "/home/me"),
        ("~/runs/a", "/home/me/runs/a"),
        ("runs/~/a", "runs/~/a"),
        ("./~", "./~"),
        ("/data/a:b", "/data/a:b"),
        ("a:b/c", "a:b/c"),
        ("", ""),
    ],
)
def test_a_tilde_is_the_home_folder_and_nothing_else_changes(text, path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert local_path(text) == path


def test_the_home_of_another_user_is_found():
    assert local_path("~root/runs").endswith("/runs")
    assert "~" not in local_path("~root/runs")


def test_an_unknown_user_is_refused():
    with pytest.raises(UserError, match=r"^--out=~no_such_user/a: ~no_such_user has no home folder here; give the who"):
        local_path("~no_such_user/a", "--out")


@pytest.mark.parametrize(
    "url",
    ["gs://bucket/a", "s3://bucket", "hdfs://name/a", "https://host/a", "file:///var/a", "file:/var/a", "S3A://b/c"],
)
def test_urls_are_refused(url):
    with pytest.raises(UserError, match=rf"^--workdir={url} is a URL; give a path on this machine"):
        local_path(url, "--workdir")
    with pytest.raises(UserError, match=rf"^{url} is a URL"):
        local_path(url)
