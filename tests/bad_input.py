"""What no argument may be, and the check that it is refused."""

import re
from typing import Any

import numpy as np
import pytest

NAN = float("nan")
HUGE = 2**62
F32 = np.float32


def ones(*shape: int, dtype: Any = F32) -> np.ndarray:
    return np.ones(shape, dtype)


def refuses(function, name: str, arguments: dict[str, Any]) -> None:
    """`function` raises an error that starts with the argument's name, and writes to none of the arrays."""
    arrays = {key: value for key, value in arguments.items() if isinstance(value, np.ndarray)}
    copies = {key: value.copy() for key, value in arrays.items()}
    with pytest.raises((ValueError, TypeError)) as caught:
        function(**arguments)
    assert re.match(rf"{name}\b.*: got .+, needs .+", str(caught.value)), str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None  # printed before it
    for key, copy in copies.items():
        np.testing.assert_array_equal(arrays[key], copy)


def case_id(value: Any) -> str | None:
    if isinstance(value, np.ndarray):
        return f"{value.dtype.name}{list(value.shape)}"
    return repr(value).replace(" ", "") if not isinstance(value, dict) else None


NO_NUMBERS = [
    ones(1, 4, 5, 6, dtype=complex),
    ones(1, 4, 5, 6, dtype=object),
    np.full((1, 4, 5, 6), "1"),
    np.zeros((1, 4, 5, 6), "datetime64[s]"),
    None,
    "image",
    [[1, 2], [3]],
]
NO_POSITIVE_PAIRS = [
    0,
    -1,
    (1, 0),
    (-1, 1),
    1.5,
    2.0,
    True,
    (1, True),
    NAN,
    (1, NAN),
    (1,),
    (1, 2, 3),
    "1",
    "same",
]
NO_POSITIVE_PAIRS += [np.float32(2), [[1, 1]], {}]
NO_PADDINGS = [
    -1,
    (0, -1),
    ((0, 0), (0, -1)),
    1.5,
    True,
    NAN,
    (1, NAN),
    (1, 2, 3),
    ((1, 2),),
    ((1, 2, 3), (1, 2)),
]
NO_PADDINGS += ["reflect", "", None, ((1, 1), 1.5), np.float32(1)]
