"""What is printed never ends a program."""

import contextlib
import io
import os
import pathlib

import pytest

from resnet_jax.terminal import unfailing


@pytest.fixture
def stream_to():
    """Return a function that makes an unfailing stream to a path or a file descriptor."""
    with contextlib.ExitStack() as opened:

        def make(file, encoding="utf-8"):
            descriptor = file if isinstance(file, int) else os.open(file, os.O_WRONLY | os.O_CREAT)
            opened.callback(os.close, descriptor)
            raw = opened.enter_context(io.FileIO(descriptor, "w", closefd=False))
            return opened.enter_context(unfailing(opened.enter_context(io.TextIOWrapper(raw, encoding=encoding))))

        yield make


def test_what_can_be_written_is_written(tmp_path, stream_to):
    stream = stream_to(tmp_path / "out")
    print("error ± 1", file=stream)
    stream.flush()
    assert (tmp_path / "out").read_bytes() == "error ± 1\n".encode()


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="has no full device")
def test_a_full_device_is_no_error(stream_to):
    stream = stream_to("/dev/full")
    print("lost", file=stream, flush=True)


def test_a_reader_that_has_left_is_no_error(stream_to):
    reader, writer = os.pipe()
    stream = stream_to(writer)
    os.close(reader)
    print("lost", file=stream, flush=True)


def test_characters_that_the_encoding_lacks_are_escaped(tmp_path, stream_to):
    stream = stream_to(tmp_path / "out", "ascii")
    print("error ± 1", file=stream, flush=True)
    assert (tmp_path / "out").read_bytes() == b"error \\xb1 1\n"


def test_a_stream_that_was_closed_from_the_start_takes_everything():
    with unfailing(None) as stream:
        print("lost", file=stream)


def test_a_stream_of_a_notebook_is_left_alone():
    stream = io.StringIO()
    assert unfailing(stream) is stream
