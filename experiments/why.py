"""Write the page that explains why nets degrade, from what instruments have measured.

    python -m experiments.why runs/why_digits
    python -m experiments.why runs/why_digits runs/digits_routes runs/digits_identity --out=why
    python -m experiments.why results/why_cifar_weights

Reads what experiments.diagnose has measured in and below the given folders, of runs and of weights, and the runs that
are there: those with other gates or frozen layers give the panel of routes, those that began as another net the panel
of identity layers. Writes why.md, why.html, a single page that needs no network, and each panel as PNG and SVG to
--out, by default the first folder. What was not measured is listed.

Exit status: 0 done, 2 nothing has been measured or the command needs fixing.
"""

import itertools
import pathlib
import shlex
import sys

from experiments import command
from resnet_jax.analysis import diagnosed
from resnet_jax.analysis.runs import Replicates, read_runs, run_directories
from resnet_jax.errors import UserError
from resnet_jax.report import why, why_page
from resnet_jax.report.findings import nets_of_study
from resnet_jax.rundir import read_sweep
from resnet_jax.terminal import say

_OUT = command.define_path("out", "Output folder; by default the first folder.")


def nets_in(folder: pathlib.Path) -> tuple[list[Replicates], list[str]]:
    """Return the nets of the runs in ``folder``, and a sentence on each run that cannot be read; weights have none."""
    try:
        run_directories([folder])
    except UserError:
        if not folder.is_dir():
            raise
        return [], []
    runs, problems = read_runs([folder])
    return nets_of_study(runs, read_sweep(folder)), problems


def main(arguments: list[str]) -> int:
    """Write the page of the folders ``arguments``; return the exit status."""
    if not arguments:
        raise UserError("no folder given; give folders that experiments.diagnose has measured, e.g. runs/why_digits.")
    folders = [pathlib.Path(argument) for argument in arguments]
    studies, problems = zip(*map(nets_in, folders), strict=True)
    measured, unmeasured = diagnosed.read_diagnosed(folders, [net for nets in studies for net in nets])
    diagnosed.check_any(measured, folders)
    out = pathlib.Path(_OUT.value or folders[0])
    words = shlex.join(["python", "-m", "experiments.why", *sys.argv[1:]])
    with command.saving(out):
        out.mkdir(parents=True, exist_ok=True)
        page = why.page(measured, *studies)
        why_page.write(out, page, words)
    for sentence in itertools.chain(*problems, unmeasured):
        say(sentence)
    for panel in page.panels:
        say(f"{panel.title}: {panel.says}")
    for sentence in page.foot:
        say(sentence)
    say(f"The page: {out / 'why.html'}")
    return 0


if __name__ == "__main__":
    command.run(main)
