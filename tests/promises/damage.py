"""Damage the records of a study at random, and see what a command makes of each damage.

A program of its own, because each command defines its flags when it is imported:

    python -m tests.promises.damage compare SEED COUNT
"""

import collections
import contextlib
import filecmp
import functools
import importlib
import io
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
import traceback

from resnet_jax.errors import UserError
from resnet_jax.rundir import read_config
from tests.analysis.synthetic import write_run

# In the place of a value; some are not JSON.
VALUES = (
    "null",
    "true",
    "-1",
    "0",
    "1.5",
    "-0.5",
    "NaN",
    "-Infinity",
    "1e999",
    "1" * 400,
    "9" * 5000,
    '""',
    '"text"',
    '"0.5"',
    r'"\ud800"',
    "[]",
    "[1]",
    "[[]]",
    "{}",
    '{"a": 1}',
    "[" * 200 + "]" * 200,
    "[" * 20_000 + "]" * 20_000,
)


def study(folder):
    """Make a study of a few runs in ``folder``, with measurements, and return its run directories."""
    names = {"plain-20": (20, False, 0), "plain-56": (56, False, 0), "plain-56-seed1": (56, False, 1)}
    runs = [write_run(folder / name, *words[:2], seed=words[2]) for name, words in names.items()]
    for run, blocks in zip(runs, (9, 27, 27), strict=True):
        (run / "diagnosis").mkdir()
        for instrument, result in results(blocks).items():
            lines = [measurement(run, instrument, blocks, result, step) for step in (0, 300)]
            (run / "diagnosis" / f"{instrument}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    diverged = write_run(folder / "residual-20", 20, True, status="diverged")
    (diverged / "diverged.json").write_text('{"step": 200, "indices": [1, 2]}\n')
    made = write_run(folder / "residual-56", 56, True, status=None)
    (made / "surgery.json").write_text('{"version": 2}\n')
    for run in (*runs, diverged, made):
        (run.parent / f"{run.name}.log").write_text("step 300/300\n")
        (run / "lock").write_text("process 1 on host since today\n")
    sweep = {
        "version": 1,
        "file": "sweep.py",
        "question": "Does it?",
        "command": ["python", "-m", "experiments.sweep"],
        "literature": {"plain": ["degrades", "He et al. 2015"]},
        "tuned": {},
        "runs": {run.name: {"seed": 0} for run in (*runs, diverged, made)},
    }
    (folder / "sweep.json").write_text(json.dumps(sweep))
    (folder / "answer.md").write_text("Yes.\n")
    return [*runs, diverged, made]


def results(blocks):
    """Return a result of each instrument that analysis draws."""
    values = [0.5 + index / 100 for index in range(blocks)]
    errors = {"train": [0.5] * blocks, "test": [0.5] * blocks}
    return {
        "gradients": {"relative": values, "a_layer": 1.1, "cosine_of_net": values},
        "batch_mates": {"sensitivity": values},
        "probes": {"test_error": values},
        "feature_rank": {"rank": values},
        "branches": {"share": values},
        "responses": {"deviation": values},
        "deletions": {
            "error": {"train": 0.1, "test": 0.1},
            "deleted": errors,
            "several": [{"blocks": count, "errors": {"test": [0.3, 0.5]}} for count in (1, 2)],
        },
        "channels": {
            "stem_filters": [[[[0.1]] * 3] * 3] * 4,
            "channel_filters": {"stage1": [[[[0.1] * 3] * 3] * 2] * 2},
        },
    }


def measurement(run, instrument, blocks, result, step):
    """Return a line of ``diagnosis/INSTRUMENT.jsonl``."""
    return {
        "version": 1,
        "instrument": instrument,
        "net": run.name.removesuffix("-seed1"),
        "model": {"residual": False, "depth": 20},
        "run": run.name,
        "seed": 0,
        "data": "digits",
        "step": step,
        "settings": {"examples": 512, "batch": 128, "seed": 0},
        "statistics": "running",
        "blocks": [f"stage1/block{index}" for index in range(blocks)],
        "result": result,
        "seconds": 1.0,
        "command": ["python"],
        "environment": {},
    }


def damage(path, draw):
    """Damage the file ``path`` in a way that ``draw``, a ``random.Random``, chooses; return what was done."""
    kinds = [in_bytes, cut, in_place, permissions] + [in_json] * 6 * (".json" in path.name)
    return draw.choice(kinds)(path, draw)


def in_bytes(path, draw):
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content) + 1)
    new = draw.choice([b"\xff", b"\0" * 100, b"\xe2\x82", b"}", b'"', b"\n", b""])
    content[place : place + draw.randrange(3)] = new
    path.write_bytes(content)
    return f"bytes at {place}"


def cut(path, draw):
    content = path.read_bytes()
    place = draw.choice([0, draw.randrange(len(content) + 1), len(content) - 1])
    path.write_bytes(content[:place] + draw.choice([b"", b"\xff"]))
    return f"cut at {place}"


def in_place(path, draw):
    """Put something else than a file in its place."""
    kind = draw.choice(["nothing", "folder", "pipe", "link to itself", "link to nothing", "device"])
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "nothing":
        path.symlink_to({"device": "/dev/zero", "link to itself": path.name, "link to nothing": "nowhere"}[kind])
    return kind


def permissions(path, draw):
    path.chmod(draw.choice([0, 0o200]))
    return "permissions"


def in_json(path, draw):
    """Exchange, remove or add a value, in one of the lines if it has several."""
    lines = path.read_text().split("\n") if path.suffix == ".jsonl" else [path.read_text()]
    number = draw.randrange(max(1, len(lines) - 1))
    content = [json.loads(lines[number])]
    part, key, where = content, 0, []
    while isinstance(part[key], dict | list) and part[key] and draw.random() < 0.9:
        part = part[key]
        key = draw.choice(sorted(part)) if isinstance(part, dict) else draw.randrange(len(part))
        where.append(key)
    value = draw.choice(VALUES)
    kind = draw.choice(["value", "value", "value", "removed", "added"]) if where else "value"
    if kind == "removed":
        del part[key]
    elif kind == "added" and isinstance(part, dict):
        part["more"] = "@@"
    elif kind == "added":
        part.append("@@")
    else:
        part[key] = "@@"
    lines[number] = json.dumps(content[0]).replace('"@@"', value)
    path.write_text("\n".join(lines))
    return f"{kind} {where} {value[:20] if kind != 'removed' else ''}"


def compare(folder, runs):
    run_command("compare", folder)


def why(folder, runs):
    run_command("why", folder)


def publish(folder, runs):
    run_command("publish", folder)


def run_command(name, folder):
    importlib.import_module(f"experiments.{name}").main([str(folder)])


def watch(folder, runs):
    from resnet_jax.rundir import read_sweep
    from resnet_jax.sweeps import display, plan, watch

    names = (read_sweep(folder) or {"runs": {}})["runs"]
    rows = [watch.row(each, 1.8e9) for each in [folder / name for name in names] or runs]
    display.table("runs", rows, watch.seconds_left(rows, {}))
    watch.file_stamps(runs)
    print([plan.failure(each) for each in runs], [row.name for row in rows if row.state == watch.UNREADABLE])


# As of ``data.identify``.
DATA = {"class_names": ["a", "b"], "image_shape": [8, 8, 1], "examples": {}, "covers": "all", "contents": "d"}


def resume(folder, runs):
    """Do what starting the damaged run again does before it trains, and what it does at its end."""
    from resnet_jax.rundir import read_summary
    from resnet_jax.training import record

    record.environment = lambda: {"time": "", "device_kind": "", "device_count": 1, "packages": {}}
    for each in [each for each in runs if differs(each)]:
        config = config_of(each.name)
        record.check_workdir(each, config)
        read_summary(each)
        with record.RunRecord(each, config, [], DATA) as written:
            written.begin(200, 0.0)
            written.write(300, "train", loss=1.0, error=0.5)
            written.finish("finished", 300, 1, 1)


def differs(run):
    """Return whether the run directory ``run`` has changed."""
    compared = filecmp.dircmp(run, pathlib.Path("whole", run.name))
    return bool(compared.diff_files or compared.funny_files or compared.common_funny or compared.right_only)


@functools.cache
def config_of(name):
    return read_config(pathlib.Path("whole", name)).config


COMMANDS = {"compare": compare, "why": why, "publish": publish, "watch": watch, "resume": resume}


def main(command, seed, count):
    """Print how often ``command`` refused a damage, left something out, did as before, or failed, and how it failed."""
    from absl import flags
    from matplotlib.figure import Figure

    from resnet_jax.report import why_figures

    flags.DEFINE_multi_string("import", [], "As of command.run.")
    flags.FLAGS(["damage"], known_only=True)
    # Drawing takes most of the time.
    why_figures.draw, why_figures.interactive = (lambda *words, **settings: Figure()), (lambda *words, **settings: "")
    Figure.savefig = lambda figure, file, **settings: file.write(b"<svg") if hasattr(file, "write") else None
    outcomes, draw = collections.Counter(), random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        study(pathlib.Path("whole"))
        for number in range(count):
            shutil.rmtree("study", ignore_errors=True)
            shutil.rmtree("results", ignore_errors=True)
            shutil.copytree("whole", "study")
            folder = pathlib.Path("study")
            runs = [folder / each.name for each in sorted(pathlib.Path("whole").iterdir()) if each.is_dir()]
            path = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
            done = f"{number}: {path.relative_to(folder)}, {damage(path, draw)}"
            said = io.StringIO()
            try:
                with contextlib.redirect_stdout(said):
                    COMMANDS[command](folder, runs)
            except UserError as error:
                # The message names the file, or the folder that it makes another run.
                is_named = path.name in str(error) or path.parent.name in str(error)
                outcomes["refused" if is_named else "failed"] += 1
                if not is_named:
                    print(f"{command} does not name {done}\n{error}", file=sys.stderr)
            except Exception:
                outcomes["failed"] += 1
                print(f"{command} failed on {done}\n{traceback.format_exc()}", file=sys.stderr)
            else:
                outcomes["left out" if path.parts[1] in said.getvalue() else "as before"] += 1
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
