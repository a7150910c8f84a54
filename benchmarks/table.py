"""The section "How fast" of README.md, from the records.

python -m benchmarks.table    # rewrites it
"""

import pathlib

from benchmarks import measure

README = pathlib.Path(__file__).parents[1] / "README.md"
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


def section() -> str:
    """Return the section as Markdown, without the marks around it."""
    parts = [
        "A training step of batch 128, images in memory, augmentation and update included, beside the same net in "
        "PyTorch (eager; on accelerators with autocast and channels-last, and compiled with CUDA graphs). The bound is "
        "what the hardware could do at best.",
        "\n".join(step_rows()),
        "Time to the first step, compiling included, of residual nets on the digits, batch 32:",
        "\n".join(compile_rows()),
    ]
    return "\n\n".join(parts)


def with_section(text: str) -> str:
    """Return ``text``, that of README.md, with the section rewritten."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{section()}\n\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_section(README.read_text()))
    print(f"Wrote the section of {README}")
