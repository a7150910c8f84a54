"""The text of a compiled program, in XLA's language HLO: computations, instructions and arrays."""

import math
import re
from typing import NamedTuple


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
        """Memory that holds the array: 0 the device's own, 1 the vector memory of a TPU, 5 the host's."""
        space = re.search(r"S\((\d+)\)", self.layout)
        return int(space[1]) if space else 0


class Instruction(NamedTuple):
    """A line of a program.

    Attributes:
      name: in its computation.
      arrays: of the result; of a tuple one after the other.
      opcode: such as "fusion".
      operands: names of instructions of the same computation.
      attributes: all that follows the operands.
      literal: text between the parentheses; of a constant its value.
      root: whether its result is its computation's.
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


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """Return the computations of ``text``, the result of ``jax.stages.Compiled.as_text``, by name, and which is run.

    Instructions are in the order of the text, in which they run.

    Raises:
      ValueError: no computation is marked as the one to run.
    """
    computations: dict[str, Computation] = {}
    entry = ""
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        header = re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line)
        if header and header[2] != "HloModule":
            instructions = computations[header[2]] = {}
            entry = header[2] if header[1] else entry
        elif instruction := _instruction(line):
            instructions[instruction.name] = instruction
    if not entry:
        raise ValueError("the text is not a compiled program: no computation is marked ENTRY")
    return computations, entry


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
