"""Compile our programs for GPUs and TPUs and read the results; nothing is measured and no such device is needed.

    make programs                                                       # installs the compilers
    python -m benchmarks.programs                                       # all programs for all targets: hours
    python -m benchmarks.programs --target=gpu:h100 --net=residual-56 --batch=128

The functions that train and evaluate are compiled as they are, the most important ones first, each in a process of its
own. What is recorded is compiled again only if the program has changed, so the command may be stopped and started.
benchmarks/records has one file for each target; without it everything is compiled again.
``python -m benchmarks.table`` makes the tables of docs/performance.md.

Exit status: 0 each program has a record of what it compiles to, or of why it does not compile. 1 one of them has none,
because its process failed. 2 the command needs fixing, or a compiler is not installed.
"""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
from typing import Any

import jax
from absl import flags

from benchmarks import measure
from benchmarks.programs import targets
from benchmarks.programs.cases import BLOCKS, NETS, Case, cases, lower
from benchmarks.programs.compiled import CompiledProgram, collectives, host_transfers, work
from experiments import command
from resnet_jax.errors import UserError
from resnet_jax.safe_files import write_json
from resnet_jax.training import parallel

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_compilation_cache", False)  # What it gives back was compiled in no time.

TARGETS = ("gpu:h100", "tpu:v5e:2x2", "gpu:h200", "gpu:a100", "gpu:h100:8", "tpu:v4:2x2x1", "tpu:v5e:16x16")
LAUNCH_SECONDS = 2.5e-6  # Assumed: from one small kernel to the next.


def report(compiled: jax.stages.Compiled, facts: dict[str, Any], target: targets.Target) -> dict[str, Any]:
    """Return the record of ``compiled``, a program for ``target``.

    All figures are of one device, and but for memory of one step: kernels of a GPU or estimated cycles of a TPU, and
    bytes that move to and from memory, in total and by kind; collectives; host transfers; and the estimated time of a
    step and its bound, the longer of the times for all operations and all bytes at the chip's best.

    Args:
      compiled: the program.
      facts: of the program, as ``cases.lower`` returns them.
      target: that it is compiled for.
    """
    program = CompiledProgram(compiled.as_text())
    unit, steps, chip = unit_of(target), facts["steps"], target.chip
    kinds = {
        kind: {unit: round(getattr(each, unit) / steps, 1), "bytes": round(each.bytes / steps)}
        for kind, each in work(program).items()
    }
    total = {name: sum(each[name] for each in kinds.values()) for name in (unit, "bytes")}
    seconds = total["cycles"] / chip.clock if target.kind == "tpu" else gpu_seconds(program, chip) / steps
    bounds = {"arithmetic": facts["operations a step"] / chip.peak, "memory": total["bytes"] / chip.bandwidth}
    bound_by = max(bounds, key=lambda name: bounds[name])
    return {
        "memory": memory_of(compiled, chip),
        "collectives": {
            kind: {name: value / steps for name, value in each._asdict().items()}
            for kind, each in collectives(program).items()
        },
        "host transfers": host_transfers(program) / steps,
        "loops of unknown length": program.unknown_loops(),
        **total,
        "kinds": dict(sorted(kinds.items(), key=lambda item: -item[1][unit])),
        "estimated ms": round(1e3 * seconds, 4),
        "bound ms": round(1e3 * bounds[bound_by], 4),
        "bound by": bound_by,
    }


def unit_of(target: targets.Target) -> str:
    """Return the unit of work on ``target``."""
    return "kernels" if target.kind == "gpu" else "cycles"


def memory_of(compiled: jax.stages.Compiled, chip: targets.Chip) -> dict[str, Any]:
    """Return the bytes that ``compiled`` needs on each ``chip``, and whether it has them."""
    memory = compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    needed = memory.argument_size_in_bytes + results + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    return {
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "all": needed,
        "fits": needed <= chip.memory,
    }


def gpu_seconds(program: CompiledProgram, chip: targets.Chip) -> float:
    """Return the seconds ``program`` takes if each kernel takes as long as its launch or, if longer, its bytes."""
    return sum(run.times * max(LAUNCH_SECONDS, program.moved_bytes(run) / chip.bandwidth) for run in program.runs())


def record_path(target: str) -> pathlib.Path:
    """Return the file of the records of ``target``."""
    return measure.RECORDS / f"programs-{target.replace(':', '-')}.json"


def recorded(target: str) -> list[dict[str, Any]]:
    """Return the recorded programs of ``target``."""
    path = record_path(target)
    return json.loads(path.read_text())["results"]["programs"] if path.exists() else []


def record(target: targets.Target, case: Case, result: dict[str, Any]) -> None:
    """Record ``result`` of ``case`` in place of an earlier one."""
    entries = [entry for entry in recorded(target.name) if case_of(entry) != case]
    entries.append({**case._asdict(), **result})
    order = {each: place for place, each in enumerate(cases())}
    entries.sort(key=lambda entry: order.get(case_of(entry), len(order)))
    results = {"target": target.name, "chip": target.chip.name, "programs": entries}
    write_json(record_path(target.name), measure.record("programs", results))


def case_of(entry: dict[str, Any]) -> Case:
    """Return the case of the recorded ``entry``."""
    return Case(*(entry[name] for name in Case._fields))


def is_answered(entry: dict[str, Any], case: Case, key: str, limit: float) -> bool:
    """Return whether ``entry`` is of the program ``key`` of ``case``, and ``limit`` gives no more time than it had."""
    return case_of(entry) == case and entry["key"] == key and entry.get("not compiled within (s)", limit) >= limit


def compile_case(target: targets.Target, case: Case, limit: float, texts: pathlib.Path | None = None) -> None:
    """Compile ``case`` for ``target``, then record and print the result, unless it is recorded.

    Args:
      target: to compile for.
      case: to compile.
      limit: seconds after which the compiler is given up, and this process ends.
      texts: folder for the text of the compiled program.
    """
    devices = target.devices()
    name = ", ".join([target.name, *map(str, case)])
    if case.mapper == "pmap" and len({device.process_index for device in devices}) > 1:
        # It divides a batch among the devices of its own process, and here there is one process for all hosts.
        record(target, case, {"key": "", "devices": len(devices), "error": "pmap needs a process on each host"})
        print(f"{name}: pmap needs a process on each host")
        return
    start = time.process_time()
    lowered, facts = lower(case, parallel.device_mesh(devices))
    tracing = time.process_time() - start
    key = hashlib.sha256(f"{target}{jax.__version__}{lowered.as_text()}".encode()).hexdigest()[:16]
    if any(is_answered(entry, case, key, limit) for entry in recorded(target.name)):
        print(f"{name}: is recorded")
        return
    result = {"key": key, **facts, "tracing (core s)": round(tracing, 1)}

    def give_up() -> None:
        record(target, case, result | {"not compiled within (s)": limit})
        print(f"{name}: not compiled within {limit:g} s", flush=True)
        os._exit(0)  # The compiler cannot be interrupted.

    timer = threading.Timer(limit, give_up)
    timer.start()
    start = time.process_time()
    try:
        compiled = target.compile(lowered)
    except jax.errors.JaxRuntimeError as error:
        result["error"] = str(error).splitlines()[0]
        print(f"{name}: {result['error']}")
    else:
        result["compiling (core s)"] = round(time.process_time() - start, 1)
        result |= report(compiled, facts, target)
        print(f"{name}: {summary(result, unit_of(target))}", flush=True)
        if texts:
            texts.mkdir(parents=True, exist_ok=True)
            (texts / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.txt").write_text(compiled.as_text())
    finally:
        timer.cancel()
    record(target, case, result)


def summary(result: dict[str, Any], unit: str) -> str:
    """Return ``result`` of a compiled program as lines of text."""
    lines = [
        f"compiled in {result['compiling (core s)']} core s, {result['memory']['all'] / 1e9:.2f} GB, estimated "
        f"{result['estimated ms']:.2f} ms a step, bound by {result['bound by']} {result['bound ms']:.2f} ms",
        f"{'a step':28} {unit:>12} {'MB':>10}",
    ]
    for kind, each in {"all": result, **result["kinds"]}.items():
        lines.append(f"{kind:28} {each[unit]:12,.1f} {each['bytes'] / 1e6:10,.2f}")
    return "\n".join(lines)


_TARGET = flags.DEFINE_list("target", list(TARGETS), "Targets, as gpu:h100, gpu:h100:8 or tpu:v5e:2x2.")
_CHOICE = {
    "net": flags.DEFINE_multi_enum("net", None, list(NETS), "Nets; by default all."),
    "batch": flags.DEFINE_multi_integer("batch", None, "Images of each device; by default 128 and 32."),
    "blocks": flags.DEFINE_multi_enum("blocks", None, list(BLOCKS), "By default both."),
    "step": flags.DEFINE_multi_enum("step", None, ["training", "evaluation"], "By default both."),
    "mapper": flags.DEFINE_multi_enum("mapper", None, list(parallel.MAPPERS), "By default both."),
}
_LIMIT = flags.DEFINE_float("limit", 1800.0, "Seconds after which a program is given up.")
_TEXTS = flags.DEFINE_string("texts", None, "Folder for the texts of the compiled programs.")
_CASE = flags.DEFINE_string("case", None, "Fields of a case, in JSON: compile only this one, in this process.")


def chosen() -> list[Case]:
    """Return the cases that the flags choose.

    Raises:
      UserError: there is none.
    """
    asked = {name: flag.value for name, flag in _CHOICE.items() if flag.value}
    found = [case for case in cases() if all(getattr(case, name) in values for name, values in asked.items())]
    if not found:
        raise UserError(f"no program has all of {asked}; leave out one of these flags.")
    return found


def main(arguments: list[str]) -> int:
    """Compile what the flags choose; return the exit status."""
    command.refuse_arguments(arguments)
    chosen_targets = [targets.target(name) for name in _TARGET.value]
    if _CASE.value:
        texts = pathlib.Path(_TEXTS.value) if _TEXTS.value else None
        compile_case(chosen_targets[0], Case(*json.loads(_CASE.value)), _LIMIT.value, texts)
        return 0
    for target in chosen_targets:
        target.check_installed()
    status = 0
    for case in chosen():
        for target in chosen_targets:
            flag_values = {
                "target": target.name,
                "case": json.dumps(case),
                "limit": _LIMIT.value,
                "texts": _TEXTS.value,
            }
            given = [f"--{name}={value}" for name, value in flag_values.items() if value is not None]
            process = subprocess.run([sys.executable, "-m", "benchmarks.programs", *given], check=False)
            if process.returncode in (command.EXIT_USER, command.EXIT_INTERRUPTED):
                return process.returncode
            status = status or int(process.returncode != 0)
    return status


if __name__ == "__main__":
    command.run(main, interrupted="Interrupted; the same command continues with the programs that have no record yet.")
