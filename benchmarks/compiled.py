"""What a compiled program does, read from its text: kernels, bytes, estimated cycles, collectives, host transfers.

``compiled.as_text()`` is the program after all of XLA's passes, in the order in which it runs. Loops are multiplied by
their number of turns; of a conditional the branch with the most kernels counts.
"""

import collections
import functools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

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
# Parts of an operation's name that say where it is, not what it is.
_PLACES = re.compile(r"while|body|cond|closed_call|shard_map|branch_\d+_fun|.*[()\[\]].*")


class Array(NamedTuple):
    """An array as the compiler lays it out.

    Attributes:
      dtype: as XLA names it, such as "bf16".
      shape: number of elements along each axis.
      layout: order of axes, tiles and memory space, such as ``3,2,1,0:T(8,128)S(1)``.
    """

    dtype: str
    shape: tuple[int, ...]
    layout: str

    @property
    def bytes(self) -> int:
        """Bytes of the elements."""
        return self._bytes(self.shape)

    @property
    def padded_bytes(self) -> int:
        """Bytes that the array occupies: TPUs round the last axes in memory up to whole tiles."""
        order, _, rest = self.layout.partition(":")
        tile = re.match(r"T\(([\d,]+)\)", rest)
        if not tile or not self.shape:
            return self.bytes
        shape = list(self.shape)
        for axis, size in zip(map(int, order.split(",")), reversed(tile[1].split(",")), strict=False):
            shape[axis] = math.ceil(shape[axis] / int(size)) * int(size)
        return self._bytes(shape)

    def _bytes(self, shape: tuple[int, ...] | list[int]) -> int:
        bits = re.search(r"\d+", self.dtype)  # Of tokens and the like there are none.
        width = 8 if self.dtype == "pred" else int(bits[0]) if bits else 0
        return math.ceil(math.prod(shape) * width / 8)

    @property
    def space(self) -> int:
        """Memory that holds the array: 0 the device's own, 1 the vector memory of a TPU, 5 that of the host."""
        space = re.search(r"S\((\d+)\)", self.layout)
        return int(space[1]) if space else 0


class Instruction(NamedTuple):
    """A line of a program.

    Attributes:
      name: in its computation.
      arrays: of the result, those of a tuple one after the other.
      opcode: such as "fusion".
      operands: names of instructions of the same computation.
      attributes: all that follows the operands.
      literal: text between the parentheses; of a constant its value.
      root: whether its result is that of its computation.
    """

    name: str
    arrays: tuple[Array, ...]
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    literal: str
    root: bool

    def called(self, role: str) -> tuple[str, ...]:
        """Return the names of the computations that ``role`` names, such as "calls" or "body"."""
        names = re.search(rf"\b{role}=(\{{[^}}]*\}}|%?[\w.\-]+)", self.attributes)
        return tuple(re.findall(r"[\w.\-]+", names[1])) if names else ()


Computation = dict[str, Instruction]


class CompiledProgram:
    """A compiled program.

    Attributes:
      computations: instructions by name, in the order of the text, by name of their computation.
      entry: name of the computation that runs.
    """

    def __init__(self, text: str) -> None:
        """Read ``text``, that of ``jax.stages.Compiled.as_text``."""
        self.computations: dict[str, Computation] = {}
        self.entry = ""
        for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
            if header := re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line):
                if header[2] == "HloModule":
                    continue
                computation = self.computations[header[2]] = {}
                self.entry = header[2] if header[1] else self.entry
            elif instruction := _instruction(line):
                computation[instruction.name] = instruction
        if not self.entry:
            raise ValueError("the text is not that of a compiled program: no computation is marked ENTRY")

    def runs(self, name: str | None = None, times: float = 1.0) -> Iterator[tuple[str, Instruction, float]]:
        """Yield all instructions that do work, each with its computation and how often it runs.

        A fusion is one instruction, as is an asynchronous one with the one that waits for it.

        Args:
          name: of the computation, by default that of the whole program.
          times: how often it runs.
        """
        name = name or self.entry
        for instruction in self.computations[name].values():
            yield from self._runs_of(name, instruction, times)

    def _runs_of(self, name: str, instruction: Instruction, times: float) -> Iterator[tuple[str, Instruction, float]]:
        """Yield what ``runs`` yields of ``instruction``."""
        opcode = instruction.opcode
        if opcode == "while":
            turns = self.turns(name, instruction)
            yield from self.runs(instruction.called("body")[0], times * (1 if turns is None else turns))
        elif opcode == "conditional":
            branches = instruction.called("branch_computations")
            branches = branches or instruction.called("true_computation") + instruction.called("false_computation")
            yield from max((list(self.runs(branch, times)) for branch in branches), key=_number)
        elif opcode == "call":
            yield from self.runs((instruction.called("to_apply") or instruction.called("calls"))[0], times)
        elif opcode == "async-start":
            yield from self.runs(instruction.called("calls")[0], times)
        elif opcode not in _NO_WORK and not opcode.endswith(("-update", "-done")) and not _is_note(instruction):
            yield name, instruction, times

    def turns(self, name: str, loop: Instruction) -> int | None:
        """Return how often ``loop`` of the computation ``name`` turns, None where the text does not say."""
        known = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.attributes)
        if known:
            return int(known[1])
        condition = self.computations[loop.called("condition")[0]]
        root = self._root(condition)
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
            self.turns(name, instruction) is None
            for name, computation in self.computations.items()
            for instruction in computation.values()
            if instruction.opcode == "while"
        )

    def kind(self, instruction: Instruction) -> str:
        """Return the operation of JAX that ``instruction`` ends with, or else its opcode."""
        op_name = re.search(r'op_name="((?:[^"\\]|\\.)*)"', instruction.attributes)
        operation = op_name[1].rsplit("/", 1)[-1] if op_name else ""
        if operation and not _PLACES.fullmatch(operation):
            return re.sub(r"\.\d+$", "", operation).replace("-", "_")
        while instruction.opcode == "fusion":
            fused = self.computations[instruction.called("calls")[0]]
            instruction = self._root(fused)
            while instruction.opcode in ("tuple", "bitcast"):
                instruction = fused[instruction.operands[0]]
        return instruction.opcode.removesuffix("-start").replace("-", "_")

    def moved_bytes(self, name: str, instruction: Instruction) -> int:
        """Return the bytes of the device's memory that ``instruction`` of the computation ``name`` reads and writes.

        Of an array of which it takes or replaces a slice, these are the bytes of the slice.
        """
        computation = self.computations[name]
        operands = [computation[operand] for operand in instruction.operands]
        results = self.results(name, instruction)
        if instruction.opcode == "fusion":
            fused = self.computations[instruction.called("calls")[0]]
            parameters = sorted(
                (each for each in fused.values() if each.opcode == "parameter"), key=lambda each: int(each.literal)
            )
            reads = sum(
                self._read(fused, parameter.name)
                for parameter, operand in zip(parameters, operands, strict=True)
                if operand.arrays[0].space == 0
            )
            return reads + self._written(fused, results)
        if instruction.opcode == "dynamic-update-slice":
            update = operands[1].arrays[0]
            return 2 * update.padded_bytes if instruction.arrays[0].space == 0 else 0
        written = sum(array.padded_bytes for array in results if array.space == 0)
        read = {}
        for position, operand in enumerate(operands):
            whole = sum(array.padded_bytes for array in operand.arrays if array.space == 0)
            sliced = position == 0 and instruction.opcode.removesuffix("-start") in _SLICES
            read[operand.name] = min(whole, sum(array.padded_bytes for array in results)) if sliced else whole
        return written + sum(read.values())

    def results(self, name: str, instruction: Instruction) -> tuple[Array, ...]:
        """Return the results of ``instruction`` of the computation ``name``, for which others may have to wait."""
        return self._done(name).get(instruction.name, instruction).arrays

    def meanwhile(self, name: str, instruction: Instruction) -> float:
        """Return how many others run during ``instruction`` of the computation ``name``: none, if it is synchronous."""
        done = self._done(name).get(instruction.name)
        if done is None:
            return 0.0
        computation = self.computations[name]
        names = list(computation)
        between = names[names.index(instruction.name) + 1 : names.index(done.name)]
        runs = (run for other in between for run in self._runs_of(name, computation[other], 1.0))
        return _number([run for run in runs if not run[1].opcode.endswith("-start")])

    def is_host_transfer(self, name: str, instruction: Instruction) -> bool:
        """Return whether ``instruction`` of the computation ``name`` exchanges data with the host, or calls it."""
        arrays = self.results(name, instruction) + tuple(
            array for operand in instruction.operands for array in self.computations[name][operand].arrays
        )
        return (
            instruction.opcode in _HOST_TRANSFERS
            or _HOST_TARGETS.search(instruction.attributes) is not None
            or any(array.space == _HOST_SPACE for array in arrays)
        )

    def _read(self, fused: Computation, name: str) -> int:
        """Return the bytes that the fused computation ``fused`` reads of the array ``name``."""
        whole = fused[name].arrays[0].padded_bytes
        read = 0
        for user in fused.values():
            if name not in user.operands:
                continue
            position = user.operands.index(name)
            if user.opcode == "bitcast":
                read += self._read(fused, user.name)
            elif user.opcode in _SLICES and position == 0:
                read += user.arrays[0].padded_bytes
            elif user.opcode == "fusion":
                inner = self.computations[user.called("calls")[0]]
                parameter = next(
                    each for each in inner.values() if each.opcode == "parameter" and int(each.literal) == position
                )
                read += self._read(inner, parameter.name)
            elif user.opcode != "dynamic-update-slice" or position != 0:
                read += whole
        return min(whole, read)

    def _written(self, fused: Computation, results: tuple[Array, ...]) -> int:
        """Return the bytes that the fused computation ``fused`` writes, whose results are the arrays ``results``."""
        root = self._root(fused)
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

    def _root(self, computation: Computation) -> Instruction:
        return next(each for each in computation.values() if each.root)

    @functools.cache  # noqa: B019  A program lives as long as it is read.
    def _done(self, name: str) -> dict[str, Instruction]:
        """Return the instructions of the computation ``name`` that wait, by the name of what they wait for."""
        waiting = (each for each in self.computations[name].values() if each.opcode.endswith("-done"))
        return {each.operands[0]: each for each in waiting}


def _is_note(instruction: Instruction) -> bool:
    """Return whether ``instruction`` is a custom call by which the compiler notes something for itself."""
    return any(f'"{target}"' in instruction.attributes for target in _NOTES)


def _instruction(line: str) -> Instruction | None:
    """Return the instruction that ``line`` states, None if it states none."""
    start = re.match(r"\s+(ROOT )?%?([\w.\-]+) = ", line)
    if not start:
        return None
    rest = line[start.end() :]
    end = _closing(rest) if rest.startswith("(") else rest.index(" ")
    arrays, rest = rest[:end], rest[end:].lstrip()
    opcode, _, _ = rest.partition("(")
    rest = rest[len(opcode) :]
    end = _closing(rest)
    literal = rest[1 : end - 1]
    return Instruction(
        name=start[2],
        arrays=tuple(
            Array(dtype, tuple(map(int, filter(None, shape.split(",")))), layout)
            for dtype, shape, layout in re.findall(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?", arrays)
        ),
        opcode=opcode,
        operands=tuple(re.findall(r"%([\w.\-]+)", literal)),
        attributes=rest[end:],
        literal=literal,
        root=start[1] is not None,
    )


def _closing(text: str) -> int:
    """Return the position after the parenthesis that closes the one with which ``text`` begins."""
    depth = 0
    for match in re.finditer(r"[()]", text):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.end()
    raise ValueError(f"a line of the program has an open parenthesis: {text[:80]}")


def _number(runs: list[tuple[str, Instruction, float]]) -> float:
    return sum(times for _, _, times in runs)


class Work(NamedTuple):
    """What the instructions of one kind do.

    Attributes:
      kernels: how many run.
      bytes: of the device's memory that they read and write.
      cycles: of the device's clock, as the compiler for TPUs estimates; 0 on others.
    """

    kernels: float
    bytes: float
    cycles: float


def work(program: CompiledProgram) -> dict[str, Work]:
    """Return what ``program`` does by kind of instruction, as ``CompiledProgram.kind``."""
    totals: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0, 0.0])
    for name, instruction, times in program.runs():
        cycles = re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)
        total = totals[program.kind(instruction)]
        total[0] += times
        total[1] += times * program.moved_bytes(name, instruction)
        total[2] += times * int(cycles[1]) if cycles else 0
    return {kind: Work(*total) for kind, total in totals.items()}


class Exchange(NamedTuple):
    """What the collectives of one kind exchange.

    Attributes:
      number: how many run.
      bytes: of their results.
      meanwhile: how many other instructions run while they are under way; none if the devices wait for them.
    """

    number: float
    bytes: float
    meanwhile: float


def collectives(program: CompiledProgram) -> dict[str, Exchange]:
    """Return what the devices exchange in ``program`` by kind of collective."""
    totals: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0, 0.0])
    for name, instruction, times in program.runs():
        kind = instruction.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            total = totals[kind]
            total[0] += times
            total[1] += times * sum(array.bytes for array in program.results(name, instruction))
            total[2] += times * program.meanwhile(name, instruction)
    return {kind: Exchange(*total) for kind, total in totals.items()}


def host_transfers(program: CompiledProgram) -> float:
    """Return how often ``program`` exchanges data with the host, or calls it."""
    return sum(times for name, instruction, times in program.runs() if program.is_host_transfer(name, instruction))
