"""What the races gave: a table in plain text, JSON, and charts.

The ratio of a row is the time of the best peer divided by fastconv's: above 1 fastconv is ahead. Inference
engines pack weights before the first call; so does fastconv's frozen layer, which they are measured against.
Peers that get their weights with each call, as PyTorch does, are measured against the plain call. A row
counts with the smaller of the two ratios.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import matplotlib as mpl
import peak
from peers import INFERENCE_ENGINES
from race import Timing
from rows import ConvRow, PoolRow

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "fastconv"  # the same figures give the same file
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of its back end)

PLAIN, FROZEN = "fastconv", "fastconv frozen"
OURS = (PLAIN, FROZEN)
Statistic = Callable[[Timing], float]


class Named(Protocol):
    """What was raced on: a row, or a network."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Result:
    """All timings of one operation on one row, with the reason of each contender that was left out."""

    family: str
    operation: str
    row: Named
    threads: int
    timings: dict[str, Timing]
    left_out: dict[str, str]

    def best_peer(self, statistic: Statistic) -> str | None:
        peers = [label for label in self.timings if label not in OURS]
        return min(peers, key=lambda label: statistic(self.timings[label]), default=None)

    def ratio(self, statistic: Statistic) -> float | None:
        """Best peer's time / fastconv's, the smaller one of those against engines and against all others."""
        ratios = []
        for prepacks in (False, True):
            choice = (FROZEN, PLAIN) if prepacks else (PLAIN, FROZEN)
            ours = next((self.timings[label] for label in choice if label in self.timings), None)
            peers = [
                statistic(timing)
                for label, timing in self.timings.items()
                if label not in OURS and (label in INFERENCE_ENGINES) == prepacks
            ]
            if ours and peers:
                ratios.append(min(peers) / statistic(ours))
        return min(ratios, default=None)


@dataclass(frozen=True)
class Target:
    mean: float
    worst: float = 1.0


# On 1 and on 2 threads; whole networks have no target but to be ahead.
TARGETS = {"conv-forward": Target(1.3), "conv-backward": Target(1.5), "pool": Target(1.5)}


def median(timing: Timing) -> float:
    return timing.median


def minimum(timing: Timing) -> float:
    return timing.minimum


def processor(timing: Timing) -> float:
    return timing.processor


def machine(modules: dict[str, ModuleType]) -> dict[str, Any]:
    """Where and with what the races are run."""
    return {
        "processor": processor_name(),
        "processors": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "fma_peak_gflops": peak.gflops(),
        "copy_gbytes": peak.copy_gbytes(),
        "versions": {name: module.VERSION for name, module in modules.items()},
    }


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def _geometric_mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))


def _groups(results: Iterable[Result]) -> dict[tuple[str, str, int], list[Result]]:
    groups: dict[tuple[str, str, int], list[Result]] = {}
    for result in results:
        groups.setdefault((result.family, result.operation, result.threads), []).append(result)
    return groups


def _labels(results: Iterable[Result]) -> list[str]:
    return list(dict.fromkeys(label for result in results for label in result.timings))


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.{3 if seconds < 0.01 else 1}f}"


def _efficiency(result: Result, machine: dict[str, Any]) -> dict[str, str]:
    """What fastconv, or else the best peer, makes of the machine: its rate, and percent of the peak."""
    best = PLAIN if PLAIN in result.timings else result.best_peer(median)
    row = result.row
    if isinstance(row, ConvRow):
        work, unit = row.flops * (2 if result.operation == "conv_backward" else 1), "GFLOP/s"
        limit = machine["fma_peak_gflops"]
        limit = limit and limit * result.threads * 4 / row.dtype.itemsize
    elif isinstance(row, PoolRow):
        work, unit, limit = row.bytes_moved, "GB/s", machine["copy_gbytes"]
    else:
        return {}
    rate = work / result.timings[best].median / 1e9
    return {unit: f"{rate:.1f}", "% of peak": f"{100 * rate / limit:.0f}" if limit else "-"}


def _table(results: list[Result], machine: dict[str, Any]) -> str:
    labels = _labels(results)
    rows = []
    for result in results:
        times = {
            label: _milliseconds(result.timings[label].median) if label in result.timings else "-"
            for label in labels
        }
        ratios = {"ratio": result.ratio(median), "of minima": result.ratio(minimum)}
        if result.threads == 1:  # with more, waiting threads take processor time as well
            ratios["of CPU time"] = result.ratio(processor)
        rows.append(
            {"row": result.row.name}
            | times
            | {"best peer": result.best_peer(median) or "-"}
            | {name: f"{ratio:.2f}" if ratio else "-" for name, ratio in ratios.items()}
            | _efficiency(result, machine)
        )
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    lines = [{name: name for name in widths}, *rows]
    return "\n".join(
        "  ".join(
            cell.ljust(widths[name]) if name == "row" else cell.rjust(widths[name])
            for name, cell in line.items()
        )
        for line in lines
    )


def summary(results: list[Result]) -> dict[str, dict[str, Any]]:
    """Geometric mean and worst row of each family and number of threads, beside the target."""
    families: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        families.setdefault((result.family, result.threads), []).append(result)
    summaries = {}
    for (family, threads), members in families.items():
        ratios = {f"{result.row.name} {result.operation}": result.ratio(median) for result in members}
        known = {name: ratio for name, ratio in ratios.items() if ratio}
        if known:
            worst = min(known, key=known.__getitem__)
            summaries[f"{family}, {threads} threads"] = {
                "mean": _geometric_mean(list(known.values())),
                "worst": known[worst],
                "worst_row": worst,
                "behind": sorted(name for name, ratio in known.items() if ratio < 1),
                "target": asdict(TARGETS.get(family, Target(1.0))),
            }
    return summaries


def text(results: list[Result], machine: dict[str, Any]) -> str:
    limit = machine["fma_peak_gflops"]
    parts = [
        f"{machine['processor']}, {machine['processors']} processors; float32 FMA peak of a core "
        f"{f'{limit:.0f} GFLOP/s' if limit else 'unknown'}, copy {machine['copy_gbytes']:.1f} GB/s\n"
        + ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    ]
    for (_, operation, threads), members in _groups(results).items():
        heading = f"{operation.replace('_', ' ')}, {threads} threads, milliseconds (median)"
        parts.append(f"{heading}\n{_table(members, machine)}")
    for name, figures in summary(results).items():
        target = figures["target"]
        parts.append(
            f"{name}: geometric mean {figures['mean']:.2f} (target {target['mean']}), worst row "
            f"{figures['worst']:.2f} (target {target['worst']}): {figures['worst_row']}; "
            f"rows behind: {', '.join(figures['behind']) or 'none'}"
        )
    return "\n\n".join(parts)


def as_json(results: list[Result], machine: dict[str, Any]) -> dict[str, Any]:
    return {
        "machine": machine,
        "summary": summary(results),
        "results": [
            {
                "family": result.family,
                "operation": result.operation,
                "row": result.row.name,
                "threads": result.threads,
                "seconds": {label: asdict(timing) for label, timing in result.timings.items()},
                "best_peer": result.best_peer(median),
                "ratio_of_medians": result.ratio(median),
                "ratio_of_minima": result.ratio(minimum),
                "ratio_of_processor_time": result.ratio(processor),
                "left_out": result.left_out,
            }
            for result in results
        ],
    }


def save(results: list[Result], machine: dict[str, Any], table: str, folder: Path) -> None:
    """Write results.txt, results.json, and a chart (PNG and SVG) for each operation and number of threads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.txt").write_text(table + "\n")
    (folder / "results.json").write_text(json.dumps(as_json(results, machine), indent=1) + "\n")
    for (_, operation, threads), members in _groups(results).items():
        _chart(members, machine, folder / f"{operation.replace('_', '-')}-{threads}-threads")


def _chart(results: list[Result], machine: dict[str, Any], path: Path) -> None:
    """Bars of each contender's speed, relative to the fastest peer of the row, which is 1."""
    labels = _labels(results)
    figure, axes = plt.subplots(figsize=(max(7, 1.1 * len(results) + 2), 5), layout="constrained")
    width = 0.85 / len(labels)
    for index, label in enumerate(labels):
        points = [
            (
                place + (index - (len(labels) - 1) / 2) * width,
                result.timings[best].median / result.timings[label].median,
            )
            for place, result in enumerate(results)
            if label in result.timings and (best := result.best_peer(median))
        ]
        places, speeds = zip(*points, strict=True) if points else ((), ())
        axes.bar(places, speeds, width, label=label, color=f"C{index}", zorder=2)
    axes.axhline(1, color="black", linewidth=0.8, zorder=3)
    axes.set_xticks(range(len(results)), [result.row.name for result in results], rotation=45, ha="right")
    axes.set_ylabel("speed, best peer = 1")
    axes.grid(axis="y", alpha=0.3)
    first = results[0]
    axes.set_title(f"{first.operation.replace('_', ' ')}, {first.threads} threads, {machine['processor']}")
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    for suffix, metadata in ((".png", None), (".svg", {"Date": None})):
        figure.savefig(path.with_suffix(suffix), metadata=metadata)
    plt.close(figure)
