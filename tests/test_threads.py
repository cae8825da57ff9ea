"""The number of threads changes how long a call takes, and nothing else."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import programs
import pytest
from cases import PARALLEL_CONV_CASES, ConvCase, conv_arrays, runs, to_nhwc

import fastconv as fc


@pytest.fixture(autouse=True)
def threads_for_the_smallest_call(monkeypatch):
    monkeypatch.setattr("fastconv._threads.WORTH_A_THREAD", 0)


def everything(case: ConvCase, algorithm: str, layout: str, dtype) -> list[bytes]:
    x, weight, bias, grad_output = conv_arrays(case, dtype)
    if layout == "NHWC":
        x, grad_output = to_nhwc(x), to_nhwc(grad_output)
    arguments = {"algorithm": algorithm, "layout": layout, **case.arguments}
    output = fc.conv2d(x, weight, bias, **arguments)
    return [array.tobytes() for array in (output, *fc.conv2d_backward(grad_output, x, weight, **arguments))]


@pytest.mark.parametrize(("algorithm", "case"), runs(PARALLEL_CONV_CASES), ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_same_bits_on_any_number_of_threads(algorithm, case: ConvCase, layout, dtype):
    results = []
    for threads in (1, 2, 3, 5):
        with fc.num_threads(threads):
            results.append(everything(case, algorithm, layout, dtype))
    assert all(result == results[0] for result in results)


def test_calls_from_several_python_threads_at_once(dtype):
    tasks = [(case, algorithm, "NCHW", dtype) for algorithm, case in runs(PARALLEL_CONV_CASES)] * 2
    expected = [everything(*task) for task in tasks]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda task: everything(*task), tasks)) == expected


def test_num_threads_is_restored():
    before = fc.get_num_threads()
    with fc.num_threads(3):
        assert fc.get_num_threads() == programs.granted(3)
        with fc.num_threads(1):
            assert fc.get_num_threads() == 1
        assert fc.get_num_threads() == programs.granted(3)
    assert fc.get_num_threads() == before
    with pytest.raises(KeyError), fc.num_threads(2):
        raise KeyError
    assert fc.get_num_threads() == before


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "2", np.nan])
def test_bad_numbers_of_threads(bad):
    before = fc.get_num_threads()
    with pytest.raises((ValueError, TypeError)):
        fc.set_num_threads(bad)
    with pytest.raises((ValueError, TypeError)), fc.num_threads(bad):
        pass
    assert fc.get_num_threads() == before
