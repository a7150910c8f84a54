"""Comparisons of a net with its peer in PyTorch."""

import jax
import numpy as np

# LLVM's optimisations take longer here than the small nets run.
OPTIONS = {"xla_backend_optimization_level": 0}


def quick(function):
    """Return ``function``, to be compiled quickly."""
    return jax.jit(function, compiler_options=OPTIONS)


def quickly(jitted, *arguments):
    """Return the results of ``jitted``, compiled quickly."""
    return jitted.lower(*arguments).compile(OPTIONS)(*arguments)


def assert_same_tensors(ours, theirs, rtol):
    """Compare tensors by name, except running variances: PyTorch's are unbiased, this project's biased."""
    for name in ours:
        if not name.endswith(("running_var", "num_batches_tracked")):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=rtol, atol=1e-4, err_msg=name)
