"""Flags with which the processes of one run, one per host, find each other."""

import jax
from absl import flags, logging

from resnet_jax import stopping
from resnet_jax.hosts import is_first_process, join_processes
from resnet_jax.terminal import console

_COORDINATOR = flags.DEFINE_string("coordinator", None, "Address and port of process 0, e.g. 10.0.0.1:1234.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes of the run, one per host.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Index of this process, from 0.")


def join() -> bool:
    """Join the other processes, if there are any; return whether this is the first, which prints for all."""
    join_processes(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    if jax.process_count() > 1:
        stopping.wait_for_run()  # They stop at the same step.
    if not is_first_process():
        logging.set_verbosity(logging.WARNING)
        console.quiet = True
    return is_first_process()
