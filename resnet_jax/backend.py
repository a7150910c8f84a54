"""Settings that must be made before JAX starts its backend."""

import os

import jaxlib.version

# jaxlib 0.10.2's YNNPACK fusions return a silently wrong sum in one reproduced case (jax issue 39103) and make
# convolutional nets up to 1.35 times slower; an empty list of fusion types turns them off.
_YNN_FLAG = "--xla_cpu_experimental_ynn_fusion_type="
# An XLA flag that a version does not know aborts the process, so the flag goes only to versions known to take it.
_YNN_VERSIONS = ("0.10.1", "0.10.2", "0.11.0", "0.11.1", "0.11.2", "0.12.0", "0.12.0.1")


def set_xla_flags() -> None:
    """Append the flags this project needs to ``XLA_FLAGS``, behind those the user has set."""
    flags = os.environ.get("XLA_FLAGS", "")
    if jaxlib.version.__version__ in _YNN_VERSIONS and _YNN_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_YNN_FLAG}".strip()
