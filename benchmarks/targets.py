"""The accelerators for which ``benchmarks.programs`` compiles, on a machine that has none of them.

The compilers are wheels (benchmarks/requirements-programs.txt) in a folder of their own: where JAX found them at its
start, it would look for their devices.
"""

import os
import pathlib
import sys
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from resnet_jax.errors import UserError

COMPILERS = pathlib.Path(__file__).parents[1] / ".programs"
_PACKAGES = {"gpu": "jax_plugins/xla_cuda13", "tpu": "libtpu"}


class Chip(NamedTuple):
    """A chip, as its vendor describes it.

    Attributes:
      name: what the vendor calls it.
      flops: floating-point operations a second, dense bfloat16 with float32 sums.
      memory: bytes.
      bandwidth: of the memory, bytes a second.
      clock: cycles a second.
      description: of a GPU, what its compiler asks for besides.
    """

    name: str
    flops: float
    memory: int
    bandwidth: float
    clock: float
    description: str = ""


def _gpu(capability: int, multiprocessors: int, shared_memory: int, l2_cache: int) -> str:
    """Return the part of a GPU's description that is not in ``Chip``.

    Args:
      capability: major compute capability; the minor one is 0.
      multiprocessors: how many it has.
      shared_memory: bytes of a multiprocessor; a block may use all but 1 KiB.
      l2_cache: bytes.
    """
    return (
        f"core_count: {multiprocessors} cuda_compute_capability {{ major: {capability} }} l2_cache_size: {l2_cache} "
        f"shared_memory_per_core: {shared_memory} shared_memory_per_block_optin: {shared_memory - 1024} "
        f"fpus_per_core: {128 if capability == 9 else 64} shared_memory_per_block: 49152 threads_per_warp: 32 "
        "threads_per_block_limit: 1024 threads_per_core_limit: 2048 registers_per_core_limit: 65536 "
        "registers_per_block_limit: 65536 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 "
        "block_dim_limit_z: 65535"
    )


_HOPPER = _gpu(9, 132, 233_472, 52_428_800)
CHIPS = {
    "a100": Chip("NVIDIA A100-SXM4-80GB", 312e12, 85_095_874_560, 2.039e12, 1.41e9, _gpu(8, 108, 167_936, 41_943_040)),
    "h100": Chip("NVIDIA H100 80GB HBM3", 989e12, 84_978_434_048, 3.352e12, 1.98e9, _HOPPER),
    "h200": Chip("NVIDIA H200", 989e12, 150_754_820_096, 4.8e12, 1.98e9, _HOPPER),
    "v4": Chip("TPU v4", 275e12, 32 * 2**30, 1.2e12, 1.05e9),
    "v5e": Chip("TPU v5e", 197e12, 16 * 2**30, 819e9, 1.5e9),
}


class Target(NamedTuple):
    """Devices to compile for.

    Attributes:
      name: such as "tpu:v5e:2x2" or "gpu:h100".
      kind: "gpu" or "tpu".
      chip: of which kind all are.
      topology: how they are arranged; of GPUs slices, hosts and GPUs of a host.
    """

    name: str
    kind: str
    chip: Chip
    topology: str

    def devices(self) -> list[Any]:
        """Return devices that can be compiled for and nothing else.

        Raises:
          UserError: the compiler is not installed.
        """
        if not (COMPILERS / _PACKAGES[self.kind]).exists():
            raise UserError(f"the compiler for {self.name} is not in {COMPILERS}; `make programs` installs it.")
        jax.devices("cpu")  # JAX has looked for devices before it can find those of the compilers.
        if str(COMPILERS) not in sys.path:
            sys.path.append(str(COMPILERS))
        if self.kind == "tpu":
            # libtpu must not ask the cloud in which machine it is.
            os.environ.update(TPU_SKIP_MDS_QUERY="1", TPU_WORKER_HOSTNAMES="localhost")
            name = self.name.removeprefix("tpu:")
            return topologies.get_topology_desc(platform="tpu", topology_name=name).devices
        import jax_plugins.xla_cuda13

        jax_plugins.xla_cuda13.initialize()
        config = (
            f"gpu_device_info {{ {self.chip.description} memory_bandwidth: {self.chip.bandwidth:.0f} "
            f"clock_rate_ghz: {self.chip.clock / 1e9} device_memory_size: {self.chip.memory} }} "
            f'platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 12 }} device_description_str: "{self.chip.name}"'
        )
        return topologies.get_topology_desc(platform="cuda", target_config=config, topology=self.topology).devices

    def compile(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
        """Return ``lowered``, a program for the devices of this target, compiled."""
        # Without a GPU no kernels can be timed, so the compiler must not choose by that.
        return lowered.compile({"xla_gpu_autotune_level": "0"} if self.kind == "gpu" else {})


def target(name: str) -> Target:
    """Return the target called ``name``: ``tpu:CHIP:TOPOLOGY``, as "tpu:v5e:16x16", or ``gpu:CHIP``.

    Raises:
      UserError: there is none.
    """
    kind, chip, *topology = name.split(":")
    known = CHIPS.get(chip)
    if known is None or kind != ("gpu" if known.description else "tpu") or len(topology) != (kind == "tpu"):
        raise UserError(f"{name} is no target; those there are look like gpu:h100, gpu:a100 and tpu:v5e:2x2.")
    return Target(name, kind, known, topology[0] if topology else "1x1x1")
