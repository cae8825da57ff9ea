"""Fixtures and settings that all tests share."""

import gc
import importlib.util
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from memory_orders import MEMORY_ORDERS
from numpy.typing import NDArray

import fastconv as fc

# Modules of tests, and what they need beside NumPy and pytest; `pip install '.[test]'` brings it.
NEEDS = {
    "hypothesis": ["test_activation.py", "test_pool_properties.py", "test_properties.py"],
    "threadpoolctl": ["test_thread_setting.py"],
}
MISSING = [package for package in NEEDS if importlib.util.find_spec(package) is None]
collect_ignore = [module for package in MISSING for module in NEEDS[package]]

if "hypothesis" not in MISSING:
    import hypothesis

    # The same examples at each run, on each machine; `HYPOTHESIS_PROFILE=explore pytest` looks for new ones.
    hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
    hypothesis.settings.register_profile("explore", deadline=None, max_examples=2000)
    hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_collection_finish() -> None:
    """Python's collector need not look through thousands of tests again and again."""
    gc.freeze()


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> type[np.floating[Any]]:
    """The dtypes that have kernels."""
    return request.param


@pytest.fixture(params=[1, 2, 3, 5], ids="{}-threads".format)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """The test runs with so many threads; more than there are processors, too."""
    with fc.num_threads(request.param):
        yield request.param


@pytest.fixture(params=list(MEMORY_ORDERS))
def memory_order(request: pytest.FixtureRequest) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Copies an array so that it lies in memory in one of many ways."""
    return MEMORY_ORDERS[request.param]


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C is as in a terminal, whoever runs the tests: shells let jobs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240607)
