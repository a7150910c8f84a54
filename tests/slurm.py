"""A Slurm of one node for tests, with its own daemons, ports, key and folders, apart from any that is installed."""

import contextlib
import os
import shutil
import socket
import subprocess
import time

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "srun", "salloc", "squeue", "scancel", "scontrol", "sinfo")
# Not PATH, which the suite empties of Slurm so that no test submits to the user's.
PLACES = os.pathsep.join(["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"])
CPUS = 8  # The node's, whatever the machine has.
SECONDS = 60  # To start or to end.
SECONDS_OF_CLIENT = 300  # srun and salloc wait for what they run; more is a hang.

# Slurm looks at time limits every 30 seconds, which no setting changes. A job that is queued again starts when
# credentials of its first start have expired: after 120 seconds by default, here after 5, the least.
CONF = """
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
LaunchParameters=use_interactive_step
InteractiveStepOptions="--interactive --preserve-env /bin/sh"
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus}
PartitionName=main Nodes=ALL Default=YES
"""


def missing():
    """Return the reason that this machine cannot run a Slurm of its own, None if it can."""
    absent = [tool for tool in DAEMONS + CLIENTS if shutil.which(tool, path=PLACES) is None]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurm-wlm, munge)"
    return None if os.geteuid() == 0 else "slurmd needs root"


class Slurm:
    """A running Slurm of one node.

    Attributes:
      environment: variables by which clients and jobs find it, and no other.
    """

    def __init__(self, environment):
        self.environment = environment

    def __call__(self, *words, given=""):
        """Run the client ``words``, with ``given`` as input; return its output."""
        words, environment = [str(word) for word in words], os.environ | self.environment
        done = subprocess.run(
            words, env=environment, input=given, capture_output=True, text=True, check=False, timeout=SECONDS_OF_CLIENT
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def jobs(self):
        """Return the state of each unfinished job, such as ``{"3_0": "RUNNING"}``."""
        return dict(line.split() for line in self("squeue", "--array", "--noheader", "--format=%i %T").splitlines())


@contextlib.contextmanager
def slurm(folder):
    """Start a Slurm with its files in ``folder``; its jobs and daemons end with the context."""
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    for tool in CLIENTS:
        (folder / "bin" / tool).symlink_to(shutil.which(tool, path=PLACES))
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, ports=free_ports(2), cpus=CPUS))
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    cluster = Slurm({"SLURM_CONF": str(conf), "PATH": path})
    munge = {"socket": "munge.socket", "log-file": "munged.log", "pid-file": "munged.pid", "seed-file": "munged.seed"}
    files = [f"--{option}={folder / name}" for option, name in munge.items()]
    with contextlib.ExitStack() as daemons:
        # --force: root may use a key that lies in a folder for temporary files.
        daemons.enter_context(daemon(folder, ["munged", "--foreground", "--force", f"--key-file={key}", *files]))
        wait_for((folder / "munge.socket").exists, folder, "munged")
        daemons.enter_context(daemon(folder, ["slurmctld", "-D", "-f", str(conf)]))
        daemons.enter_context(daemon(folder, ["slurmd", "-D", "-N", "localhost", "-f", str(conf)]))
        wait_for(lambda: state_of_node(cluster) == "idle", folder, "slurmd")
        try:
            yield cluster
        finally:
            cluster("scancel", "--state=PENDING", "--user=root")
            cluster("scancel", "--signal=KILL", "--full", "--user=root")
            wait_for(lambda: not cluster.jobs(), folder, "slurmctld")


@contextlib.contextmanager
def daemon(folder, words):
    """Run the daemon ``words`` in the foreground until the context ends."""
    name, *rest = words
    with (folder / f"{name}.out").open("wb") as out:
        process = subprocess.Popen([shutil.which(name, path=PLACES), *rest], stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def state_of_node(cluster):
    try:
        return cluster("sinfo", "--noheader", "--format=%t")
    except RuntimeError:  # slurmctld does not listen yet.
        return None


def wait_for(come, folder, name):
    """Return when ``come()`` is true; after SECONDS raise what daemon ``name`` said."""
    end = time.monotonic() + SECONDS
    while not come():
        if time.monotonic() > end:
            said = "".join(file.read_text(errors="replace") for file in folder.glob(f"{name}.*[gt]"))
            raise RuntimeError(f"{name} is not ready after {SECONDS} s:\n{said}")
        time.sleep(0.1)


def free_ports(count):
    with contextlib.ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]
