"""Nothing silently becomes another result: by its commands, a run is what it was when it started."""

import os
import shutil

import pytest

from resnet_jax.safe_files import read_json
from tests.images import write_folder
from tests.promises.runs import command, finish, free_port, start

STREAM = {
    "data.name": "folder",
    "data.image_size": 32,
    "data.padding": 0,
    "data.workers": 0,
    "batch_size": 8,
    "eval_batch_size": 8,
}


def start_two(workdir, settings, **shared):
    """Start two processes of one run whose commands differ in ``settings``, one dictionary for each."""
    address = f"127.0.0.1:{free_port()}"
    flags = (f"--coordinator={address}", "--num_processes=2")
    return [
        start(command(workdir, *flags, f"--process_id={number}", **shared, **own), devices=1)
        for number, own in enumerate(settings)
    ]


@pytest.mark.slow
@pytest.mark.xdist_group("many_hosts")
def test_processes_of_another_recipe_or_other_data_are_refused_before_anything_is_written(tmp_path):
    one = write_folder(tmp_path / "one", count=6)
    other = shutil.copytree(one, tmp_path / "other")
    shutil.move(other / "ant" / "0.jpg", other / "bee" / "9.jpg")
    cases = {
        "config.seed (0 in process 0, 1 in process 1)": ({}, [{}, {"seed": 1}]),
        "data.examples.train ([0] ": (STREAM, [{"data.data_dir": str(root)} for root in (one, other)]),
    }
    for said, (shared, settings) in cases.items():
        for process in start_two(tmp_path / "run", settings, **shared):
            status, _, stderr = finish(process)
            assert status == 2, stderr
            assert "the processes of this run do not run the same: " in stderr
            assert said in stderr
        assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def streamed(commands, tmp_path_factory):
    """Return the folders of a run that was ended before its last step, and of its images."""
    folder = tmp_path_factory.mktemp("streamed")
    images = write_folder(folder / "images", count=6)
    done = commands(*main(folder / "run", images, steps=4))
    assert done.returncode == 0, done.stderr
    (folder / "run" / "summary.json").unlink()
    return folder / "run", images


def main(workdir, images, **settings):
    """Return the words by which ``commands`` trains on ``images``."""
    _, _, *words = command(workdir, **STREAM, **{"steps": 4, "data.data_dir": str(images)} | settings)
    return "main", *words


def add(images):
    shutil.copy(images / "ant" / "0.jpg", images / "ant" / "new.jpg")


def move(images):
    (images / "ant" / "0.jpg").rename(images / "bee" / "9.jpg")


def rename_a_class(images):
    (images / "cow").rename(images / "dog")


def add_a_class(images):
    shutil.copytree(images / "cow", images / "dog")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (add, "examples.train ([0] "),
        (move, "names (sha256 "),
        (rename_a_class, "class_names ([2] 'cow' there, 'dog' here)"),
        (add_a_class, "class_names (length 3 there, 4 here)"),
    ],
)
def test_a_run_on_changed_images_is_not_resumed_and_changed_classes_are_nowhere_taken_for_its_own(
    commands, streamed, tmp_path, change, said
):
    run, images = (shutil.copytree(folder, tmp_path / folder.name) for folder in streamed)
    change(images)
    done = commands(*main(run, images))
    assert done.returncode == 2
    assert f"{run} was trained on other data, differing in " in done.stderr
    assert said in done.stderr
    if not said.startswith("class_names"):
        return
    there = f"--data_dir={images}"
    for words in (
        ("evaluate", f"--run={run}", f"--config={write_config(tmp_path, images)}"),
        ("diagnose", run, there, "--only=branches", "--examples=8", "--batch=4"),
        ("surgery", "fold_norms", f"--run={run}", f"--out={tmp_path / 'made'}", there),
        main(tmp_path / "from", images, from_run=run),
    ):
        done = commands(*words)
        assert done.returncode == 2, done.stderr
        assert "was trained on other classes than these data have: classes " in done.stdout + done.stderr


def write_config(folder, images):
    """Write a config file of a net on ``images``; return its path."""
    file = folder / "config.py"
    lines = [f"    config.{name} = {value!r}" for name, value in (STREAM | {"data.data_dir": str(images)}).items()]
    text = [
        "from configs import recipes\n\n\ndef get_config():",
        "    config = recipes.digits(8, residual=True)",
        *lines,
    ]
    file.write_text("\n".join([*text, "    return config\n"]))
    return file


@pytest.mark.slow
def test_a_copy_of_the_images_with_other_times_and_bad_images_that_are_skipped_now_resume(commands, streamed, tmp_path):
    run = shutil.copytree(streamed[0], tmp_path / "run")
    images = shutil.copytree(streamed[1], tmp_path / "images", copy_function=shutil.copyfile)
    for file in images.rglob("*.jpg"):
        os.utime(file, (1, 1))
    done = commands(*main(run, images, **{"data.on_bad_image": "skip"}))
    assert done.returncode == 0, done.stderr
    assert read_json(run / "summary.json")["status"] == "finished"
    [warning] = read_json(run / "environment.json")[-1]["warnings"]
    assert warning.startswith("config.data.on_bad_image")


@pytest.mark.slow
def test_a_checkpoint_of_another_seed_is_refused_by_name(commands, streamed, tmp_path):
    run, other = shutil.copytree(streamed[0], tmp_path / "run"), tmp_path / "other"
    assert commands(*main(other, streamed[1], seed=1)).returncode == 0
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(other / "checkpoints", run / "checkpoints")
    for words in (main(run, streamed[1]), ("evaluate", f"--run={run}"), ("export", f"--run={run}")):
        done = commands(*words)
        assert done.returncode == 2
        assert "is of another run, differing in config.seed (1 there, 0 here)" in done.stderr
