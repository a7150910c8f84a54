"""The tables of docs/performance.md, made from the records.

python -m benchmarks.table    # rewrites them
"""

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import measure
from resnet_jax.report.tables import markdown_table

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "performance.md"
MARKED = re.compile(r"(<!-- (\w+): made from the records -->\n).*?(<!-- end -->)", re.DOTALL)
# Not stated in the table, because most programs are so.
USUAL = {"step": "training", "mapper": "shard_map"}


def filled(text: str, tables: Mapping[str, str]) -> str:
    """Return the page ``text`` with each marked table replaced by the one of its name in ``tables``."""
    return MARKED.sub(lambda match: f"{match[1]}\n{tables[match[2]]}\n{match[3]}", text)


def step_time() -> str:
    """Return the table of step times in Markdown."""
    rows = []
    for record in measure.read("step_time"):
        on_one = record["results"].get("one core", [])
        for place, net in enumerate(record["results"]["nets"]):
            compiled = net.get("ours to compiled peer")
            rows.append(
                {
                    "hardware": measure.short_name(record["hardware"]),
                    "net": f"{net['net']}, {net['dtype']}",
                    "ms a step": f"{net['ms a step']['ours']:.4g}",
                    "images/s": f"{net['images a second']:,}",
                    "ratio to PyTorch": f"{net['ours to peer']:.2f}"
                    + (f"; compiled {compiled:.2f}" if compiled else ""),
                    "on one core": f"{on_one[place]['ours to peer']:.2f}" if on_one else "",
                    "to the bound": f"{net['ours to bound']:.1f}",
                }
            )
    return markdown_table(rows, left=("hardware", "net"))


def by_hardware(benchmark: str, rows_of: Callable[[Any], list[dict[str, str]]], left: Sequence[str]) -> str:
    """Return a table in Markdown for each record of ``benchmark``, below its hardware."""
    return "\n".join(
        f"{measure.short_name(record['hardware'])}:\n\n{markdown_table(rows_of(record['results']), left)}"
        for record in measure.read(benchmark)
    )


def zoo_rows(results: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row for each kind of net."""
    return [
        {
            "net": net["net"],
            "images": net["images"].replace(" of ", "x"),
            "ms a step": f"{net['ms a step']['ours']:.0f}",
            "PyTorch": f"{net['ms a step']['peer']:.0f}",
            "ratio": f"{net['ours to peer']:.2f}",
            "on one core": f"{results['one core'][place]['ours to peer']:.2f}",
            "first step (s)": f"{net['first step (s)']:.1f}",
        }
        for place, net in enumerate(results["nets"])
    ]


def profile_rows(results: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return a row for each net that is profiled, with the percentage of each kind of operation."""
    return [
        {"net": net["net"], "ms a step": f"{net['ms a step']:.0f}"}
        | {re.split(r" \(|:", kind)[0]: f"{100 * net['ms'][kind] / net['ms a step']:.0f}" for kind in results[0]["ms"]}
        for net in results
    ]


def compile_rows(results: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row for each depth and form of its blocks."""
    shallow = results["nets"][0]["first step (s)"]
    return [
        {
            "blocks": net["blocks"],
            "layers": f"{net['depth']}",
            "first step (s)": f"{net['first step (s)']:.1f}",
            "ratio to 20 layers": f"{net['first step (s)'] / shallow:.2f}",
            "ms a step": f"{net['step (ms)']:.0f}",
            "memory (MiB)": f"{net['temporary memory (MiB)']:.0f}",
        }
        for net in results["nets"]
    ]


def convolution_rows(results: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row for each shape: milliseconds by XLA and by oneDNN."""
    return [
        {"images": shape["images"], "kernel, stride": shape["kernel"]}
        | {
            each: f"{shape[each]['lax']:.3g} / {shape[each]['onednn']:.3g}"
            for each in ("forward", "by input", "by kernel")
        }
        | {
            "by kernel, rearranged": f"{shape['by kernel']['rearranged']:.3g}",
            "Winograd": f"{shape['forward']['winograd']:.3g}" if "winograd" in shape["forward"] else "",
        }
        for shape in results["shapes"]
    ]


def worker_rows(results: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row for each net: steps a second of all runs together."""

    def way(runs: int) -> str:
        cores = results["cores"] // runs
        return f"{runs} run{'s' * (runs > 1)}, {cores} core{'s' * (cores > 1)} each"

    return [
        {"net": net["net"]}
        | {way(int(runs)): f"{rate:.2f}" for runs, rate in net["steps a second, by runs at a time"].items()}
        for net in results["nets"]
    ]


def pipeline_rows(results: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row for each input pipeline."""
    rows = []
    for pipeline in results["ways"][0]["images a second"]:
        row = {"pipeline": pipeline}
        for way in results["ways"]:
            row[f"{way['augmentation']}, images/s"] = f"{way['images a second'][pipeline]}"
            row[f"{way['augmentation']}, core ms/image"] = f"{way['ms of a core an image'][pipeline]:.2f}"
        rows.append(row)
    return rows


def programs() -> str:
    """Return the tables of compiled programs in Markdown, one for each unit of their work."""
    found = [
        (record["results"]["target"], program)
        for record in measure.read("programs")
        for program in record["results"]["programs"]
    ]
    parts = [
        program_table([each for each in found if each[0].startswith(kind)], unit)
        for kind, unit in (("gpu", "kernels"), ("tpu", "cycles"))
    ]
    compiled = [program for _, program in found if "collectives" in program]

    def number(holds: Callable[[dict[str, Any]], bool]) -> int | str:
        return sum(map(holds, compiled)) or "none"

    transferring = number(lambda program: program["host transfers"] > 0)
    others = number(lambda program: bool(program["collectives"].keys() - {"all-reduce"}))
    unknown = number(lambda program: program["loops of unknown length"] > 0)
    parts.append(
        f"Of these {len(compiled)} programs {transferring} exchange data with the host within a step, {others} use "
        f"collectives other than all-reduces, {unknown} have loops of unknown length.\n"
    )
    return "\n".join(parts)


def program_table(found: list[tuple[str, dict[str, Any]]], unit: str) -> str:
    """Return the table of programs, each with its target, whose work is counted in ``unit``."""
    rows = []
    for target, program in found:
        form = ["unrolled" if program["unrolled"] else "looped"]
        form += [program[part] for part, usual in USUAL.items() if program[part] != usual]
        row = {"target": target, "net": program["net"], "program": ", ".join(form)}
        row |= {"images a device": f"{program['batch']}"}
        row |= dict.fromkeys(("memory (GB)", f"{unit} a step", "MB a step", "ms, estimated", "to the bound"), "")
        row["all-reduced"] = ""
        if unit in program:
            row |= compiled_cells(program, unit)
        else:
            limit = program.get("not compiled within (s)")
            row["memory (GB)"] = f"not within {limit:g} s" if limit else f"fails: {program['error'][:80]}"
        rows.append(row)
    return markdown_table(rows, left=("target", "net", "program"))


def compiled_cells(program: dict[str, Any], unit: str) -> dict[str, str]:
    """Return the cells of ``program``, which has been compiled and whose work is counted in ``unit``."""
    exchange = program["collectives"].get("all-reduce")
    reduced = f"{exchange['number']:g}, {exchange['bytes'] / 1e6:.3g} MB" if exchange else ""
    if exchange and exchange["meanwhile"]:
        reduced += f", {exchange['meanwhile']:g} run meanwhile"
    return {
        "memory (GB)": f"{program['memory']['all'] / 1e9:.2f}" + ("" if program["memory"]["fits"] else ", too much"),
        f"{unit} a step": f"{program[unit]:,.0f}" if unit == "kernels" else f"{program[unit] / 1e6:.2f} M",
        "MB a step": f"{program['bytes'] / 1e6:,.0f}",
        "ms, estimated": f"{program['estimated ms']:.2f}",
        "to the bound": f"{program['estimated ms'] / program['bound ms']:.1f}",
        "all-reduced": reduced,
    }


def tables() -> dict[str, str]:
    """Return the tables of the page in Markdown, by name."""
    return {
        "step_time": step_time(),
        "zoo": by_hardware("zoo", zoo_rows, left=("net",)),
        "convolutions": by_hardware("convolutions", convolution_rows, left=("images", "kernel, stride")),
        "workers": by_hardware("workers", worker_rows, left=("net",)),
        "cpu_profile": by_hardware("cpu_profile", profile_rows, left=("net",)),
        "compile_time": by_hardware("compile_time", compile_rows, left=("blocks",)),
        "input_pipeline": by_hardware("input_pipeline", pipeline_rows, left=("pipeline",)),
        "programs": programs(),
    }


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(), tables()))
    print(f"Wrote the tables of {PAGE}")
