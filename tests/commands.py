"""Runs many command lines quickly: a process that has imported all that the commands import forks once for each.

    python -m tests.commands

reads JSON objects, arguments of ``run_as_command``, one a line; answers each with "status", "stdout" and "stderr".
"""

import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback

ROOT = pathlib.Path(__file__).parents[1]
SECONDS = 600  # For one command; more is a hang.


class Commands:
    """The process that runs command lines; a context that ends it."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.commands"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *raised):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __call__(self, name, *words, only_check=False, program=None, **variables):
        """Run ``python -m experiments.NAME`` with ``words``; return the same as ``subprocess.run``.

        Args:
          name: name of the command.
          words: its arguments.
          only_check: check the config of ``experiments.main`` and do no more.
          program: Python program to run instead of a command, as by ``python -c``.
          variables: changes of this process's environment; JAX has read its own when it was imported.
        """
        request = {
            "name": name,
            "words": list(map(str, words)),
            "only_check": only_check,
            "program": program,
            "environment": dict(os.environ) | variables,
        }
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        return subprocess.CompletedProcess([name, *words], answer["status"], answer["stdout"], answer["stderr"])


def serve():
    """Answer until the input ends."""
    # What the commands import, some of it late. Their own modules define flags and so are imported after the fork.
    import tensorflow_datasets

    import resnet_jax.evaluation
    import resnet_jax.report.figures
    import resnet_jax.report.html_page
    import resnet_jax.sweeps.slurm
    import resnet_jax.training  # noqa: F401
    from experiments import command  # noqa: F401
    from resnet_jax.data import prepare

    tensorflow_datasets.decode.SkipDecoding  # noqa: B018 - TFDS imports its parts when they are first named.
    prepare.reachable = lambda host: False  # No test may download.
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def answer(request):
    """Run ``request``; return its output, errors and exit status, less than 0 if a signal ended it."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, pathlib.Path(os.devnull).open() as nothing:
        process = os.fork()
        if process == 0:
            for number, file in enumerate((nothing, out, err)):
                os.dup2(file.fileno(), number)
            signal.alarm(SECONDS)
            os._exit(run_as_command(**request))
        _, code = os.waitpid(process, 0)
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
    return {"status": os.waitstatus_to_exitcode(code), "stdout": said[0], "stderr": said[1]}


def run_as_command(name, words, only_check, program, environment):
    """Run ``experiments.NAME`` as ``python -m`` does; return its exit status."""
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [name, *words]
    status = 1
    try:
        if program:
            exec(program, {"__name__": "__main__"})
            status = 0
        elif only_check:
            check_config()
        else:
            runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def check_config():
    """Check the config of the command line as ``experiments.main`` does, and exit."""
    from experiments import command, main  # noqa: F401 - for its flags.
    from resnet_jax import models
    from resnet_jax.config import check

    def only_check(arguments):
        command.refuse_arguments(arguments)
        config = command.config_from_flags()
        check(config, int(os.environ["JAX_NUM_CPU_DEVICES"]))
        models.build(config.model, num_classes=1)
        return 0

    command.run(only_check)


if __name__ == "__main__":
    serve()
