"""pytest-benchmark cases: fastconv alone on every row, to compare two versions of it (`pytest benchmarks`).

`compare.py` is what races it against its peers.
"""

from __future__ import annotations

import environment  # noqa: F401  (before NumPy)
import pytest
import reference
import rows
from peers import fastconv as ours
from race import check

CONV_ROWS = rows.CONV_ROWS + rows.OTHER_CONV_ROWS
POOL_ROWS = rows.POOL_ROWS + rows.OTHER_POOL_ROWS
CASES = [
    pytest.param(operation, row, id=f"{operation}-{row.name}")
    for operation, members in (
        ("conv_forward", CONV_ROWS),
        ("conv_backward", CONV_ROWS),
        ("pool_forward", POOL_ROWS),
        ("pool_backward", POOL_ROWS),
    )
    for row in members
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("operation", "row"), CASES)
@pytest.mark.benchmark(max_time=0.2, min_rounds=3, warmup=True, warmup_iterations=2)
def test_row(benchmark, operation, row, threads):
    contender = getattr(ours, operation)(row, threads)[ours.PLAIN]
    check(contender, getattr(reference, operation)(row), row.tolerances)
    benchmark.group = f"{operation} {row.name}"
    benchmark(contender.run)
