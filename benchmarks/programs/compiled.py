"""Work of a compiled program, read from its text: kernels, bytes, estimated cycles, collectives, host transfers.

``compiled.as_text()`` is the program after all of XLA's passes, in the order in which it runs. Loops are multiplied by
their number of turns; of a conditional the branch with the most kernels counts.
"""

import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.programs import hlo
from benchmarks.programs.hlo import Array, Computation, Instruction

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
# Instructions that name, order or hand on what is there.
_NO_WORK = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "partition-id", "replica-id"),
    *("after-all", "add-dependency", "opt-barrier", "domain"),
)
# Targets of custom calls in which the compiler for TPUs notes something.
_NOTES = ("AllocateBuffer", "AssumeGatherIndicesInBound", "ConcatBitcast", "GatherScatterIndicesBitpacked")
_SLICES = ("slice", "dynamic-slice", "gather")
_HOST_TRANSFERS = ("infeed", "outfeed", "send", "recv")
_HOST_SPACE = 5
_HOST_TARGETS = re.compile(r'custom_call_target="[^"]*(callback|MoveToHost|MoveToDevice)', re.IGNORECASE)
# The last part of an instruction's name, where that is an operation; others say where it is, or name an argument.
_OPERATION = re.compile(r"([a-z][a-z\d_-]*)(\.\d+)?")
_PLACES = re.compile(r"while|body|cond|closed_call|shard_map|branch_\d+_fun")


class Run(NamedTuple):
    """An instruction that does work.

    Attributes:
      instruction: what runs; a fusion is one, as is an asynchronous instruction with the one that waits for it.
      computation: name of the computation that it is in.
      times: how often it runs.
    """

    instruction: Instruction
    computation: str
    times: float


class CompiledProgram:
    """A compiled program.

    Attributes:
      computations: by name.
      entry: name of the computation that is run.
    """

    def __init__(self, text: str) -> None:
        """Read ``text``, the result of ``jax.stages.Compiled.as_text``."""
        self.computations, self.entry = hlo.parse(text)
        # Waiting instructions, by computation and the name of the awaited instruction.
        self._waiting = {
            name: {each.operands[0]: each for each in computation.values() if each.opcode.endswith("-done")}
            for name, computation in self.computations.items()
        }

    def runs(self) -> Iterator[Run]:
        """Yield what runs, in order."""
        yield from self._runs(self.entry, 1.0)

    def _runs(self, name: str, times: float) -> Iterator[Run]:
        """Yield what runs if the computation ``name`` runs ``times``."""
        for instruction in self.computations[name].values():
            yield from self._runs_of(instruction, name, times)

    def _runs_of(self, instruction: Instruction, name: str, times: float) -> Iterator[Run]:
        """Yield what runs if ``instruction`` of the computation ``name`` runs ``times``."""
        opcode = instruction.opcode
        if opcode == "while":
            turns = self.turns(instruction, name)
            yield from self._runs(instruction.called("body")[0], times * (1 if turns is None else turns))
        elif opcode == "conditional":
            branches = instruction.called("branch_computations")
            branches = branches or instruction.called("true_computation") + instruction.called("false_computation")
            yield from max((list(self._runs(branch, times)) for branch in branches), key=_number)
        elif opcode == "call":
            yield from self._runs((instruction.called("to_apply") or instruction.called("calls"))[0], times)
        elif opcode == "async-start":
            yield from self._runs(instruction.called("calls")[0], times)
        elif opcode not in _NO_WORK and not opcode.endswith(("-update", "-done")) and not _is_note(instruction):
            yield Run(instruction, name, times)

    def turns(self, loop: Instruction, name: str) -> int | None:
        """Return how often ``loop`` of the computation ``name`` turns, None where the text does not say."""
        known = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.attributes)
        if known:
            return int(known[1])
        condition = self.computations[loop.called("condition")[0]]
        root = _root(condition)
        if root.opcode != "compare" or "direction=LT" not in root.attributes:
            return None
        counter, end = (condition[operand] for operand in root.operands)
        place = re.search(r"index=(\d+)", counter.attributes)
        begin = self.computations[name][loop.operands[0]]
        if not place or end.opcode != "constant" or begin.opcode != "tuple":
            return None
        start = self.computations[name][begin.operands[int(place[1])]]
        while start.opcode in ("copy", "bitcast", "copy-done", "copy-start"):
            start = self.computations[name][start.operands[0]]
        return int(end.literal) - int(start.literal) if start.opcode == "constant" else None

    def unknown_loops(self) -> int:
        """Return the number of loops whose turns the text does not say; they are counted as one turn."""
        return sum(
            self.turns(instruction, name) is None
            for name, computation in self.computations.items()
            for instruction in computation.values()
            if instruction.opcode == "while"
        )

    def kind(self, instruction: Instruction) -> str:
        """Return the operation of JAX that ``instruction`` ends with, or else its opcode."""
        op_name = re.search(r'op_name="((?:[^"\\]|\\.)*)"', instruction.attributes)
        operation = _OPERATION.fullmatch(op_name[1].rsplit("/", 1)[-1]) if op_name else None
        if operation and not _PLACES.fullmatch(operation[1]):
            return operation[1].replace("-", "_")
        while instruction.opcode == "fusion":
            fused = self.computations[instruction.called("calls")[0]]
            instruction = _root(fused)
            while instruction.opcode in ("tuple", "bitcast"):
                instruction = fused[instruction.operands[0]]
        return instruction.opcode.removesuffix("-start").replace("-", "_")

    def moved_bytes(self, run: Run) -> int:
        """Return the bytes of the device's memory that ``run`` reads and writes at one time, of slices their own."""
        instruction, computation = run.instruction, self.computations[run.computation]
        operands = [computation[operand] for operand in instruction.operands]
        results = self.results(run)
        if instruction.opcode == "fusion":
            fused = self.computations[instruction.called("calls")[0]]
            reads = sum(
                self._read(fused, _parameter(fused, place).name)
                for place, operand in enumerate(operands)
                if operand.arrays[0].space == 0
            )
            return reads + self._written(fused, results)
        if instruction.opcode == "dynamic-update-slice":
            update = operands[1].arrays[0]
            return 2 * update.padded_bytes if instruction.arrays[0].space == 0 else 0
        written = sum(array.padded_bytes for array in results if array.space == 0)
        read = {}
        for place, operand in enumerate(operands):
            whole = sum(array.padded_bytes for array in operand.arrays if array.space == 0)
            sliced = place == 0 and instruction.opcode.removesuffix("-start") in _SLICES
            read[operand.name] = min(whole, sum(array.padded_bytes for array in results)) if sliced else whole
        return written + sum(read.values())

    def results(self, run: Run) -> tuple[Array, ...]:
        """Return the results of ``run``, for which others may have to wait."""
        return self._waiting[run.computation].get(run.instruction.name, run.instruction).arrays

    def meanwhile(self, run: Run) -> float:
        """Return the number of others that run during ``run``: none, if it is synchronous."""
        waiting = self._waiting[run.computation].get(run.instruction.name)
        if waiting is None:
            return 0.0
        computation = self.computations[run.computation]
        names = list(computation)
        between = names[names.index(run.instruction.name) + 1 : names.index(waiting.name)]
        others = (other for name in between for other in self._runs_of(computation[name], run.computation, 1.0))
        return _number([other for other in others if not other.instruction.opcode.endswith("-start")])

    def collectives(self, run: Run) -> list[tuple[str, int]]:
        """Return the kind and the bytes of the results of each collective of ``run``, which may be a fusion of some."""
        kind = run.instruction.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            return [(kind, sum(array.bytes for array in self.results(run)))]
        if kind != "fusion":
            return []
        fused = run.instruction.called("calls")[0]
        inside = (Run(each, fused, run.times) for each in self.computations[fused].values())
        return [collective for each in inside for collective in self.collectives(each)]

    def is_host_transfer(self, run: Run) -> bool:
        """Return whether ``run`` exchanges data with the host, or calls it."""
        operands = (self.computations[run.computation][operand] for operand in run.instruction.operands)
        arrays = itertools.chain(self.results(run), *(operand.arrays for operand in operands))
        return (
            run.instruction.opcode in _HOST_TRANSFERS
            or _HOST_TARGETS.search(run.instruction.attributes) is not None
            or any(array.space == _HOST_SPACE for array in arrays)
        )

    def _read(self, fused: Computation, name: str) -> int:
        """Return the bytes that the fused computation ``fused`` reads of the array ``name``."""
        whole = fused[name].arrays[0].padded_bytes
        read = 0
        for user in fused.values():
            if name not in user.operands:
                continue
            place = user.operands.index(name)
            if user.opcode == "bitcast":
                read += self._read(fused, user.name)
            elif user.opcode in _SLICES and place == 0:
                read += user.arrays[0].padded_bytes
            elif user.opcode == "fusion":
                inner = self.computations[user.called("calls")[0]]
                read += self._read(inner, _parameter(inner, place).name)
            elif user.opcode != "dynamic-update-slice" or place != 0:
                read += whole
        return min(whole, read)

    def _written(self, fused: Computation, results: tuple[Array, ...]) -> int:
        """Return the bytes that the fused computation ``fused`` writes, whose results are the arrays ``results``."""
        root = _root(fused)
        roots = [fused[operand] for operand in root.operands] if root.opcode == "tuple" else [root]
        written = 0
        for each, array in zip(roots, results, strict=False):
            while each.opcode == "bitcast":
                each = fused[each.operands[0]]
            if array.space != 0:
                continue
            if each.opcode == "dynamic-update-slice":
                written += fused[each.operands[1]].arrays[0].padded_bytes
            elif each.opcode == "fusion":
                written += self._written(self.computations[each.called("calls")[0]], (array,))
            else:
                written += array.padded_bytes
        return written


def _root(computation: Computation) -> Instruction:
    return next(each for each in computation.values() if each.root)


def _parameter(computation: Computation, place: int) -> Instruction:
    return next(each for each in computation.values() if each.opcode == "parameter" and int(each.literal) == place)


def _is_note(instruction: Instruction) -> bool:
    """Return whether ``instruction`` is a custom call by which the compiler notes something for itself."""
    return any(f'"{target}"' in instruction.attributes for target in _NOTES)


def _number(runs: list[Run]) -> float:
    return sum(run.times for run in runs)


class Work(NamedTuple):
    """Work of the instructions of one kind.

    Attributes:
      kernels: number that run.
      bytes: of the device's memory that they read and write.
      cycles: of the device's clock, as the compiler for TPUs estimates; 0 on others.
    """

    kernels: float
    bytes: float
    cycles: float


def work(program: CompiledProgram) -> dict[str, Work]:
    """Return the work of ``program`` by kind of instruction, as ``CompiledProgram.kind``."""
    totals: dict[str, Work] = {}
    for run in program.runs():
        cycles = re.search(r'"estimated_cycles":"(\d+)"', run.instruction.attributes)
        each = Work(1.0, program.moved_bytes(run), int(cycles[1]) if cycles else 0)
        _add(totals, program.kind(run.instruction), each, run.times)
    return totals


def _add(totals: dict[str, Any], kind: str, each: Any, times: float) -> None:
    """Add ``times`` ``each``, a named tuple of numbers, to the one of its ``kind`` in ``totals``."""
    total = totals.get(kind, (0.0,) * len(each))
    totals[kind] = type(each)(*(one + times * other for one, other in zip(total, each, strict=True)))


class Exchange(NamedTuple):
    """Exchange by the collectives of one kind.

    Attributes:
      number: collectives that run.
      bytes: of their results.
      meanwhile: number of other instructions that run while they are under way; 0 if the devices wait.
    """

    number: float
    bytes: float
    meanwhile: float


def collectives(program: CompiledProgram) -> dict[str, Exchange]:
    """Return the exchange between devices in ``program`` by kind of collective."""
    totals: dict[str, Exchange] = {}
    for run in program.runs():
        for kind, size in program.collectives(run):
            _add(totals, kind, Exchange(1.0, size, program.meanwhile(run)), run.times)
    return totals


def host_transfers(program: CompiledProgram) -> float:
    """Return how often ``program`` exchanges data with the host, or calls it."""
    return sum(run.times for run in program.runs() if program.is_host_transfer(run))
