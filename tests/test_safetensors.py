"""fastconv.save and fastconv.load on .safetensors: dtypes, names, damaged files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastconv.serialization import load, save

pytest.importorskip("safetensors")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.safetensors"


def write(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> Path:
    """A file by the description of the format."""
    header, content = {}, b""
    for name, (kind, shape, data) in tensors.items():
        header[name] = {
            "dtype": kind,
            "shape": shape,
            "data_offsets": [len(content), len(content) + len(data)],
        }
        content += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return path


@pytest.mark.parametrize(
    "kind", ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", ">f4", ">c8"]
)
def test_every_dtype_of_numpy_and_the_format(path: Path, kind: str) -> None:
    array = np.arange(6).reshape(2, 3).T.astype(kind)
    save(path, {"a": array, "empty": array[:0], "one": array[1, 1]})
    loaded = load(path)
    assert {name: each.dtype for name, each in loaded.items()} == dict.fromkeys(
        ("a", "empty", "one"), array.dtype.newbyteorder("=")
    )
    np.testing.assert_array_equal(loaded["a"], array)
    assert loaded["a"].flags.writeable
    assert loaded["empty"].shape == (0, 2)
    assert loaded["one"] == array[1, 1]


def test_bfloat16_becomes_float32(path: Path) -> None:
    halves = np.array([0x3FC0, 0xC000, 0x7F80, 0x8000, 0x0001, 0x7FC0], "<u2")
    loaded = load(write(path, {"w": ("BF16", [2, 3], halves.tobytes()), "b": ("F32", [1], b"\0\0\x80?")}))
    assert loaded["w"].dtype == np.float32
    expected = [[1.5, -2, np.inf], [-0.0, 2.0**-133, np.nan]]
    np.testing.assert_array_equal(loaded["w"], np.array(expected, np.float32), strict=True)
    assert np.signbit(loaded["w"][1, 0])
    np.testing.assert_array_equal(loaded["b"], np.ones(1, np.float32), strict=True)


def test_bfloat16_as_pytorch_has_it(path: Path) -> None:
    torch = pytest.importorskip("torch")
    values = torch.randn(50, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    pytest.importorskip("safetensors.torch").save_file({"w": values}, path)
    np.testing.assert_array_equal(load(path)["w"], values.float().numpy(), strict=True)


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2"])
def test_a_dtype_that_numpy_does_not_have(path: Path, kind: str) -> None:
    write(path, {"w": (kind, [2], b"\0\0")})
    with pytest.raises(
        ValueError, match=f"weights.safetensors: 'w' is of {kind}, and NumPy has none"
    ) as error:
        load(path)
    assert "damaged" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "array", "kind", "message"),
    [
        ("a", np.zeros(2, "c16"), TypeError, r"module\['a'\]: got dtype complex128, needs .*complex64"),
        ("a", np.zeros(2, np.longdouble), TypeError, r"module\['a'\]: got dtype (float128|longdouble)"),
        ("a", np.array("b"), TypeError, r"module\['a'\]: got dtype <U1"),
        ("a", np.array(b"b"), TypeError, r"module\['a'\]: got dtype \|S1"),
        ("a", np.array("2020-01-01", "M8[D]"), TypeError, r"module\['a'\]: got dtype datetime64\[D\]"),
        ("a", np.zeros(2, [("a", "f4"), ("b", "i2")]), TypeError, r"module\['a'\]: got dtype \[\("),
        ("__metadata__", np.zeros(2), ValueError, "module: got the name '__metadata__', needs one"),
        ("\ud800", np.zeros(2), ValueError, r"module: got the name '\\ud800', needs"),
    ],
)
def test_what_the_format_has_no_place_for(path: Path, name: str, array: Any, kind: Any, message: str) -> None:
    save(path, {"a": np.arange(3)})
    before = path.read_bytes()
    with pytest.raises(kind, match=f"^{message}"):
        save(path, {"b": np.arange(2), name: array})
    assert path.read_bytes() == before


def test_damaged_bytes_raise_nothing_else(path: Path) -> None:
    save(path, {"a": np.arange(3), "b": np.ones((2, 3), np.float16)})
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    outcomes = []
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole) - 36)] = random.integers(256)
        path.write_bytes(damaged)
        try:
            load(path)
        except ValueError as error:
            outcomes.append(str(error).startswith(str(path)))
    assert all(outcomes)
    assert len(outcomes) > 150
