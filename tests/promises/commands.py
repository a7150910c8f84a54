"""Runs many command lines of ``experiments.main`` quickly: a process that has imported all forks once for each.

    python -m tests.promises.commands

reads a JSON object a line, {"words": [...], "only_check": false}, and answers with one: "status", "stdout", "stderr".
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).parents[2]
DEVICES = 2
SECONDS = 100  # Of one command; more is a hang.


class Commands:
    """The process that runs command lines; a context that ends it."""

    def __init__(self, **environment):
        """Start the process with more in its ``environment``."""
        self._environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(DEVICES)} | environment

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.promises.commands"],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *raised):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, *words, only_check=False):
        """Return status, stdout and stderr of the command with ``words``, or of one that only checks the config."""
        print(json.dumps({"words": list(map(str, words)), "only_check": only_check}), file=self._process.stdin)
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["status"], answer["stdout"], answer["stderr"]


def serve():
    """Answer until the input ends."""
    import sklearn.datasets  # noqa: F401 - imported late by the command, so once here for all.
    import tensorflow_datasets

    from experiments import main
    from resnet_jax.data import prepare

    tensorflow_datasets.decode.SkipDecoding  # noqa: B018 - TFDS imports its parts when they are first named.
    prepare.reachable = lambda host: False  # No test may download.
    for line in sys.stdin:
        print(json.dumps(answer(main, **json.loads(line))), flush=True)


def answer(main, words, only_check):
    """Return what the command with ``words`` says and its exit status, less than 0 if a signal ended it."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = os.fork()
        if process == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os._exit(run(main, words, only_check))
        status, end = None, time.monotonic() + SECONDS
        while status is None:
            done, code = os.waitpid(process, os.WNOHANG)
            if done:
                status = os.waitstatus_to_exitcode(code)
            elif time.monotonic() > end:
                os.kill(process, signal.SIGKILL)
                end = float("inf")
            time.sleep(0.005)
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
    return {"status": status, "stdout": said[0], "stderr": said[1]}


def run(main, words, only_check):
    """Run the command as ``python -m experiments.main`` does; return its exit status."""
    from experiments import command
    from resnet_jax import models
    from resnet_jax.config import check

    def only_checked(arguments):
        command.refuse_arguments(arguments)
        config = command.config_from_flags()
        check(config, DEVICES)
        models.build(config.model, num_classes=1)
        return 0

    sys.argv = ["main", *words]
    status = 1
    try:
        command.run(only_checked if only_check else main.main)
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    serve()
