"""Accelerators to compile for on a machine that has none of them.

Their compilers are wheels (benchmarks/programs/requirements.txt) in a folder of their own: if JAX found them when it
starts, it would look for the devices.
"""

import functools
import os
import pathlib
import sys
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from resnet_jax.errors import UserError

COMPILERS = pathlib.Path(__file__).parents[2] / ".programs"
_PACKAGES = {"gpu": "jax_plugins/xla_cuda13", "tpu": "libtpu"}


class Chip(NamedTuple):
    """A chip, as its vendor describes it.

    Attributes:
      name: the vendor's.
      peak: floating-point operations a second in bfloat16, without sparsity.
      memory: bytes.
      bandwidth: of the memory, bytes a second.
      clock: cycles a second.
      source: of these figures.
      multiprocessors: further settings that the compiler for a GPU needs.
    """

    name: str
    peak: float
    memory: int
    bandwidth: float
    clock: float
    source: str
    multiprocessors: str = ""


_HOPPER = (
    "core_count: 132 fpus_per_core: 128 cuda_compute_capability { major: 9 } l2_cache_size: 52428800 "
    "shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448"
)
_AMPERE = (
    "core_count: 108 fpus_per_core: 64 cuda_compute_capability { major: 8 } l2_cache_size: 41943040 "
    "shared_memory_per_core: 167936 shared_memory_per_block_optin: 166912"
)
_LIMITS = (
    "threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 shared_memory_per_block: 49152 "
    "registers_per_core_limit: 65536 registers_per_block_limit: 65536 "
    "block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535"
)
# Settings of GPUs are XLA's, from its target_config/specs.
# The clock of TPUs follows from their peak and their 128x128 matrix units: eight in v4, four in v5e.
CHIPS = {
    "h100": Chip("NVIDIA H100 80GB HBM3", 989e12, 84_978_434_048, 3.352e12, 1.98e9, "data sheet H100 SXM", _HOPPER),
    "h200": Chip("NVIDIA H200 141GB HBM3e", 989e12, 151_397_597_184, 4.8e12, 1.98e9, "data sheet H200 SXM", _HOPPER),
    "a100": Chip("NVIDIA A100-SXM4-80GB", 312e12, 85_100_068_864, 2.039e12, 1.41e9, "data sheet A100 SXM", _AMPERE),
    "v4": Chip("TPU v4", 275e12, 32 * 2**30, 1.2e12, 1.05e9, "docs.cloud.google.com/tpu/docs/v4"),
    "v5e": Chip("TPU v5e", 197e12, 16 * 2**30, 819e9, 1.5e9, "docs.cloud.google.com/tpu/docs/v5e"),
}


class Target(NamedTuple):
    """Devices to compile for.

    Attributes:
      name: such as "tpu:v5e:2x2", "gpu:h100" or "gpu:h100:8".
      kind: "gpu" or "tpu".
      chip: that each of the devices is.
      shape: how TPUs are connected, as "2x2"; the number of GPUs of one host.
    """

    name: str
    kind: str
    chip: Chip
    shape: str

    def devices(self) -> list[Any]:
        """Return the devices; programs can be compiled for them, not run.

        Raises:
          UserError: their compiler is not installed, or there are no devices of this shape.
        """
        self.check_installed()
        jax.devices("cpu")  # JAX looks for devices once, and is not to find those compilers when it does.
        if str(COMPILERS) not in sys.path:
            sys.path.append(str(COMPILERS))
        try:
            return (self._tpus() if self.kind == "tpu" else self._gpus()).devices
        except jax.errors.JaxRuntimeError as error:
            raise UserError(f"the compiler knows no target {self.name}: {error}") from error

    def check_installed(self) -> None:
        """Raise a UserError if the compiler for the devices is not installed."""
        if not installed(self.kind):
            raise UserError(f"the compiler for {self.name} is not in {COMPILERS}; `make programs` installs it.")

    def _tpus(self) -> topologies.TopologyDescription:
        # Otherwise libtpu asks the cloud for this host's place in a pod, and admits one process at a time.
        os.environ.update(TPU_SKIP_MDS_QUERY="1", TPU_WORKER_HOSTNAMES="localhost", ALLOW_MULTIPLE_LIBTPU_LOAD="1")
        # JAX treats the two cores of a v4 as one device.
        options = {"chip_config_name": "megacore"} if self.chip is CHIPS["v4"] else {}
        return topologies.get_topology_desc(self.name.removeprefix("tpu:"), "tpu", **options)

    def _gpus(self) -> topologies.TopologyDescription:
        _load_gpu_compiler()
        chip = self.chip
        config = (
            f"gpu_device_info {{ {_LIMITS} {chip.multiprocessors} device_memory_size: {chip.memory} "
            f"memory_bandwidth: {chip.bandwidth:.0f} clock_rate_ghz: {chip.clock / 1e9} }} "
            f'platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 12 }} device_description_str: "{chip.name}"'
        )
        shape = f"1x1x{self.shape}"  # Slices, hosts of a slice and GPUs of a host.
        return topologies.get_topology_desc(platform="cuda", target_config=config, topology=shape)

    def compile(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
        """Return ``lowered``, a program for these devices, compiled."""
        # Autotuning would run kernels.
        return lowered.compile({"xla_gpu_autotune_level": "0"} if self.kind == "gpu" else None)


@functools.cache
def _load_gpu_compiler() -> None:
    """Make the compiler for GPUs known to JAX, which takes it once."""
    from jax_plugins import xla_cuda13

    xla_cuda13.initialize()


def installed(kind: str) -> bool:
    """Return whether the compiler for devices of ``kind``, "gpu" or "tpu", is there."""
    return (COMPILERS / _PACKAGES[kind]).exists()


def target(name: str) -> Target:
    """Return the target called ``name``.

    Raises:
      UserError: it is not of the form ``gpu:CHIP``, ``gpu:CHIP:NUMBER`` or ``tpu:CHIP:SHAPE`` with a chip of ``CHIPS``.
    """
    kind, chip, shape = [*name.split(":"), "", ""][:3]
    known = CHIPS.get(chip)
    if known is None or kind != ("gpu" if known.multiprocessors else "tpu") or (kind == "tpu" and not shape):
        chips = ", ".join(CHIPS)
        raise UserError(f"target {name} must be like gpu:h100, gpu:h100:8 or tpu:v5e:2x2, with a chip of {chips}.")
    return Target(name, kind, known, shape or "1")
