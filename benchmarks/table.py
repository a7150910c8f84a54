"""The sections of docs/speed.md and docs/scaling.md that are made from the records.

python -m benchmarks.table    # rewrites them
"""

import pathlib
from collections.abc import Callable
from typing import Any

from benchmarks import measure

ROOT = pathlib.Path(__file__).parents[1]
SPEED, SCALING = ROOT / "docs" / "speed.md", ROOT / "docs" / "scaling.md"
# What is not said of a program because most are so.
USUAL = {"step": "training", "mapper": "shard_map"}
BEGIN, END = "<!-- written by benchmarks/table.py from benchmarks/records -->", "<!-- end -->"


def step_rows() -> list[str]:
    """Return the table of step times as lines of Markdown."""
    rows = [
        "| hardware | net | ms a step | images/s | time to that of PyTorch | to the bound |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for record in measure.read("step_time"):
        for net in record["results"]["nets"]:
            peers = f"{net['ours to peer']:.2f}"
            if "ours to compiled peer" in net:
                peers += f"; compiled {net['ours to compiled peer']:.2f}"
            rows.append(
                f"| {measure.short_name(record['hardware'])} | {net['net']}, {net['dtype']} | "
                f"{net['ms a step']['ours']:.4g} | {net['images a second']:,} | {peers} | {net['ours to bound']:.1f} |"
            )
    return rows


def compile_rows() -> list[str]:
    """Return the table of compile times as lines of Markdown."""
    rows = [
        "| hardware | layers | blocks | first step after | to 20 layers | a step | memory |",
        "|---|--:|---|--:|--:|--:|--:|",
    ]
    for record in measure.read("compile_time"):
        shallow = record["results"]["nets"][0]["first step (s)"]
        for net in record["results"]["nets"]:
            first = net["first step (s)"]
            rows.append(
                f"| {measure.short_name(record['hardware'])} | {net['depth']} | {net['blocks']} | {first:.1f} s | "
                f"{first / shallow:.2f} | {net['step (ms)']:.0f} ms | {net['temporary memory (MiB)']:.0f} MiB |"
            )
    return rows


PROGRAM_COLUMNS = (
    *("net", "images a device", "program", "compiling, core s", "memory", "{unit} a step", "most of them", "MB a step"),
    *("ms a step, estimated", "to the bound", "all-reduced"),
)


def program_rows(programs: list[dict[str, Any]]) -> list[str]:
    """Return the table of what a compiler says of ``programs``, those of one target, as lines of Markdown."""
    unit = "cycles" if any("cycles" in program for program in programs) else "kernels"
    left = ("net", "program", "most of them")
    rows = [
        [column.format(unit=unit) for column in PROGRAM_COLUMNS],
        ["---" if column in left else "--:" for column in PROGRAM_COLUMNS],
    ]
    for program in programs:
        blocks = "unrolled" if program["unrolled"] else "looped"
        form = [blocks, *(program[part] for part, usual in USUAL.items() if program[part] != usual)]
        cells = [program["net"], f"{program['batch']}", ", ".join(form)]
        if unit in program:
            cells += compiled_cells(program, unit)
        else:
            limit = program.get("not compiled within (s)")
            cells.append(f"not within {limit:g} s" if limit else f"fails: {program['error'].replace('|', ' ')[:80]}")
        rows.append(cells + [""] * (len(PROGRAM_COLUMNS) - len(cells)))
    return [f"| {' | '.join(cells)} |" for cells in rows]


def compiled_cells(program: dict[str, Any], unit: str) -> list[str]:
    """Return the last cells of the row of ``program``, which has been compiled and whose work is in ``unit``."""
    kinds = sorted(program["kinds"], key=lambda kind: -program["kinds"][kind][unit])[:3]
    shares = {kind: 100 * program["kinds"][kind][unit] / program[unit] for kind in kinds}
    exchange = program["collectives"].get("all-reduce")
    reduced = f"{exchange['number']:g}, {exchange['bytes'] / 1e6:.3g} MB" if exchange else ""
    if exchange and exchange["meanwhile"]:
        reduced += f", {exchange['meanwhile']:g} run meanwhile"
    return [
        f"{program['compiling (core s)']:.0f}",
        f"{program['memory']['all'] / 1e9:.2f} GB" + ("" if program["memory"]["fits"] else ", **too much**"),
        f"{program[unit]:,.0f}" if unit == "kernels" else f"{program[unit] / 1e6:.2f} M",
        ", ".join(f"`{kind}` {share:.0f} %" for kind, share in shares.items() if share >= 1),
        f"{program['bytes'] / 1e6:,.0f}",
        f"{program['estimated ms']:.2f}",
        f"{program['estimated ms'] / program['bound ms']:.1f}",
        reduced,
    ]


def programs_section() -> str:
    """Return the section of docs/scaling.md on compiled programs as Markdown, without the marks around it."""
    parts, compiled = [], []
    for record in measure.read("programs"):
        target, chip, programs = record["results"].values()
        devices = max(program["devices"] for program in programs)
        parts.append(f"`{target}`, {devices} x {chip}, **by the compiler, not measured**:")
        parts.append("\n".join(program_rows(programs)))
        compiled += [program for program in programs if "collectives" in program]

    def number(holds: Callable[[dict[str, Any]], bool]) -> int | str:
        return sum(map(holds, compiled)) or "none"

    transferring = number(lambda program: program["host transfers"] > 0)
    others = number(lambda program: bool(program["collectives"].keys() - {"all-reduce"}))
    unknown = number(lambda program: program["loops of unknown length"] > 0)
    parts.append(
        f"Of these {len(compiled)} programs {transferring} exchange anything with the host within a step, {others} use "
        f"collectives other than all-reduces, and {unknown} have loops of a length that the compiler does not know."
    )
    return "\n\n".join(parts)


def speed_section() -> str:
    """Return the section of docs/speed.md as Markdown, without the marks around it."""
    parts = [
        "A training step of batch 128, images in memory, augmentation and update included, beside the same net in "
        "PyTorch (eager; on accelerators with autocast and channels-last, and compiled with CUDA graphs). The bound is "
        "what the hardware could do at best.",
        "\n".join(step_rows()),
        "Time to the first step, compiling included, of residual nets on the digits, batch 32:",
        "\n".join(compile_rows()),
    ]
    return "\n\n".join(parts)


def with_section(text: str, section: str) -> str:
    """Return ``text``, that of a page, with its marked section replaced by ``section``."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{section}\n\n{END}{after}"


if __name__ == "__main__":
    for page, section in ((SPEED, speed_section()), (SCALING, programs_section())):
        page.write_text(with_section(page.read_text(), section))
        print(f"Wrote the section of {page}")
