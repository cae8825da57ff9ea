"""Race fastconv against its peers: a table in the terminal, JSON, and a bar chart a family.

python benchmarks/compare.py [--threads 1,2] [--peers numpy,torch,...] [--rows PATTERN]
                             [--family conv-forward,...] [--other] [--quick] [--output DIR]
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import environment  # noqa: F401  (before NumPy)
import peers
import reference
import report
import rows
from race import QUICK, Contender, WrongResultError, check, race
from report import Result
from tqdm import tqdm

FAMILIES = {
    "conv-forward": ("conv_forward",),
    "conv-backward": ("conv_backward",),
    "pool": ("pool_forward", "pool_backward"),
    "networks": ("training_step", "inference"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    modules, missing = peers.load(["fastconv", *options.peers])
    if "networks" in options.family and "torch" not in modules:
        missing["networks"] = "they are raced against PyTorch"
        options.family.remove("networks")
    for name, reason in missing.items():
        print(f"left out: {name} ({reason})", file=sys.stderr)
    machine = report.machine(modules)
    results = []
    heats = [heat for family in options.family for heat in _heats(family, options)]
    with tqdm(total=len(heats), unit="race", disable=None) as bar:
        for family, operation, row, threads in heats:
            bar.set_description(f"{row.name} {operation}, {threads} threads")
            try:
                results.append(_heat(modules, family, operation, row, threads, quick=options.quick))
            except KeyboardInterrupt:
                break  # and report what there is
            bar.update()
    text = report.text(results, machine)
    print(text)
    if options.output:
        report.save(results, machine, text, options.output)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    def names(known: Sequence[str]) -> Callable[[str], list[str]]:
        def parse(value: str) -> list[str]:
            chosen = [name for name in value.split(",") if name]
            unknown = sorted(set(chosen) - set(known))
            if unknown:
                raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(known)}")
            return chosen

        return parse

    def counts(value: str) -> list[int]:
        return [int(count) for count in value.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every_peer, every_family = list(peers.PEERS), list(FAMILIES)
    parser.add_argument(
        "--threads", type=counts, default=[1], help="numbers of threads, such as 1,2 (default: 1)"
    )
    parser.add_argument(
        "--peers", type=names(every_peer), default=every_peer, help=f"of {','.join(every_peer)}"
    )
    parser.add_argument(
        "--family", type=names(every_family), default=every_family, help=f"of {','.join(every_family)}"
    )
    parser.add_argument(
        "--rows", default="*", help="shell pattern of row names, such as 'res*' (default: all)"
    )
    parser.add_argument("--other", action="store_true", help="other shapes of each kind, without targets")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns: noisy")
    parser.add_argument("--output", type=Path, help="folder for the table, JSON and charts")
    return parser.parse_args(arguments)


def _heats(family: str, options: argparse.Namespace) -> list[tuple[str, str, report.Named, int]]:
    chosen: Sequence[report.Named]
    if family == "networks":
        from networks import NETWORKS  # imports PyTorch

        chosen = () if options.other else NETWORKS
    elif family == "pool":
        chosen = rows.OTHER_POOL_ROWS if options.other else rows.POOL_ROWS
    else:
        chosen = rows.OTHER_CONV_ROWS if options.other else rows.CONV_ROWS
    return [
        (family, operation, row, threads)
        for threads in options.threads
        for operation in FAMILIES[family]
        for row in chosen
        if fnmatch.fnmatch(row.name, options.rows)
    ]


def _heat(
    modules: dict[str, ModuleType],
    family: str,
    operation: str,
    row: report.Named,
    threads: int,
    *,
    quick: bool,
) -> Result:
    if family == "networks":
        import networks

        return networks.heat(row, operation, threads, quick=quick)
    contenders: dict[str, Contender] = {}
    for module in modules.values():
        if prepare := getattr(module, operation, None):
            contenders |= prepare(row, threads)
    expected = getattr(reference, operation)(row)
    left_out = {}
    for label, contender in list(contenders.items()):
        try:
            check(contender, expected, row.tolerances)
        except WrongResultError as error:
            left_out[label] = str(error)
            del contenders[label]
            print(f"left out of {row.name} {operation}: {label} {error}", file=sys.stderr)
    timings = race(contenders, **(QUICK if quick else {}))
    return Result(family, operation, row, threads, timings, left_out)


if __name__ == "__main__":
    main()
