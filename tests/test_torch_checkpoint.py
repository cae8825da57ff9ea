"""fastconv.load_torch: files that PyTorch wrote, and files made by hand, most of them hostile."""

import contextlib
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc

PROTOCOL = b"\x80\x02"
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


def text(string):
    return b"X" + struct.pack("<I", len(string)) + string.encode()


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def number(n):
    return b"\x8a\x0a" + n.to_bytes(10, "little", signed=True)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(key, length, shape, strides, offset=0, kind="FloatStorage", legacy=False):
    """The pickle operations by which PyTorch writes a tensor."""
    storage = b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + number(length)
    storage += b"NtQ" if legacy else b"tQ"
    hooks = name("collections", "OrderedDict") + b")R"
    arguments = storage + number(offset) + numbers(shape) + numbers(strides) + b"\x89" + hooks
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR"


def write(path, operations, storages=(), compression=zipfile.ZIP_STORED, **members):
    """A checkpoint as PyTorch lays it out, with these operations as its pickle; the same bytes on any day."""
    contents = {"data.pkl": PROTOCOL + operations + b"."}
    contents |= {f"data/{key}": content for key, content in dict(storages).items()} | members
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in contents.items():
            archive.writestr(zipfile.ZipInfo(f"weights/{member}"), content, compression)
    return path


def write_legacy(path, operations, storages=(), lengths=None):
    pickles = [pickle.dumps(part, 2) for part in (MAGIC, VERSION, {"little_endian": True})]
    pickles += [PROTOCOL + operations + b".", pickle.dumps(list(dict(storages)), 2)]
    tail = b""
    for key, content in dict(storages).items():
        tail += struct.pack("<q", (lengths or {}).get(key, len(content) // 4)) + content
    path.write_bytes(b"".join(pickles) + tail)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pt"


SIX = np.arange(6, dtype="<f4")


# ---- what PyTorch wrote ----


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save_by_torch(request, path):
    torch = pytest.importorskip("torch")

    def save(value, **options):
        torch.save(value, path, _use_new_zipfile_serialization=request.param, **options)
        return path

    return save


def test_every_dtype_of_pytorch(save_by_torch):
    torch = pytest.importorskip("torch")
    kinds = ["float32", "float64", "float16", "bfloat16", "complex64", "complex128", "bool", "uint8"]
    kinds += ["int8", "int16", "int32", "int64"]
    values = torch.tensor([0, 1, 3, 100])
    state = fc.load_torch(save_by_torch({kind: values.to(getattr(torch, kind)) for kind in kinds}))
    assert list(state) == kinds
    for kind, array in state.items():
        assert type(array) is np.ndarray
        assert array.dtype == np.dtype("float32" if kind == "bfloat16" else kind)
        np.testing.assert_array_equal(array, np.array([0, 1, 3, 100]).astype(array.dtype))


def test_bfloat16_is_exact(save_by_torch):
    torch = pytest.importorskip("torch")
    values = torch.randn(50, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    values[:3] = torch.tensor([float("inf"), float("nan"), -0.0])
    np.testing.assert_array_equal(fc.load_torch(save_by_torch(values)), values.float().numpy())


def test_strides_offsets_and_shared_storages(save_by_torch):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {
        "base": base,
        "transposed": base.permute(2, 0, 1),
        "part": base[1, 1:, ::2],
        "one": base[1, 2, 3],
        "expanded": base[0, 0, :1].expand(5, 1),
        "empty": base[:, :0],
        "row": base[:1],
    }
    arrays = fc.load_torch(save_by_torch(tensors))
    for key, array in arrays.items():
        assert array.shape == tuple(tensors[key].shape)
        np.testing.assert_array_equal(array, tensors[key].numpy())
    arrays["base"][0, 0, 0] = 100
    assert arrays["transposed"][0, 0, 0] == arrays["expanded"][4, 0] == 100


def test_the_state_of_a_network_and_what_lies_beside_it(save_by_torch):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "best": 0.5}
    saved |= {"weight": model[0].weight, "names": ["a", ("b", None, True, -(10**15))], 7: "ä"}
    loaded = fc.load_torch(save_by_torch(saved))
    assert type(loaded["model"]) is OrderedDict
    ours = fc.nn.Sequential(fc.nn.Conv2d(3, 4, 3), fc.nn.BatchNorm2d(4))
    ours.load_state_dict(loaded["model"])
    for key, array in ours.state_dict().items():
        np.testing.assert_array_equal(array, model.state_dict()[key].numpy())
    momentum = loaded["optimizer"]["state"][0]["momentum_buffer"]
    np.testing.assert_array_equal(momentum, optimizer.state_dict()["state"][0]["momentum_buffer"].numpy())
    np.testing.assert_array_equal(loaded["weight"], model[0].weight.detach().numpy())
    assert loaded["epoch"] == 3
    assert loaded["best"] == 0.5
    assert loaded["names"] == ["a", ("b", None, True, -(10**15))]
    assert loaded[7] == "ä"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(save_by_torch, protocol):
    torch = pytest.importorskip("torch")
    value = {"a": torch.arange(3), "b": [torch.ones(2)] * 2, "c": "x" * 300, "d": 2**40}
    loaded = fc.load_torch(save_by_torch(value, pickle_protocol=protocol))
    np.testing.assert_array_equal(loaded["a"], [0, 1, 2])
    assert loaded["b"][0] is loaded["b"][1]
    assert loaded["c"] == value["c"]
    assert loaded["d"] == value["d"]


def test_a_file_without_checksums(path):
    torch = pytest.importorskip("torch")
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("this PyTorch always writes checksums")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save([torch.ones(3)], path)
    finally:
        torch.serialization.set_crc32_options(True)
    np.testing.assert_array_equal(fc.load_torch(path)[0], np.ones(3))


def test_a_whole_module_is_refused(save_by_torch):
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"weights.pt: holds torch.nn.modules.linear.Linear; only tensors"):
        fc.load_torch(save_by_torch(torch.nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"weights.pt: holds a global as a value"):
        fc.load_torch(save_by_torch({"kind": torch.FloatStorage}))


# ---- made by hand ----


@pytest.mark.parametrize("legacy", [False, True])
def test_a_tensor_by_hand(path, legacy):
    operations = b"}" + text("w") + tensor("0", 6, [2, 2], [1, 3], 1, legacy=legacy) + b"s"
    (write_legacy if legacy else write)(path, operations, {"0": SIX.tobytes()})
    state = fc.load_torch(path)
    np.testing.assert_array_equal(state["w"], [[1, 4], [2, 5]])
    assert state["w"].flags.writeable


def test_the_byte_order_of_a_big_machine(path):
    content = SIX.astype(">f4").tobytes()
    write(path, tensor("0", 6, [6], [1]), {"0": content}, byteorder=b"big")
    array = fc.load_torch(path)
    assert array.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(array, SIX)


def test_half_precisions_and_bool_by_hand(path):
    storages = {"0": np.float16([1.5, -2]).tobytes(), "1": b"\xc0\x3f\x00\xc0", "2": b"\x00\x02"}
    kinds = ["HalfStorage", "BFloat16Storage", "BoolStorage"]
    parts = [tensor(str(i), 2, [2], [1], kind=kind) for i, kind in enumerate(kinds)]
    half, brain, truth = fc.load_torch(write(path, b"(" + b"".join(parts) + b"t", storages))
    assert half.dtype == np.float16
    assert brain.dtype == np.float32
    np.testing.assert_array_equal(half, [1.5, -2])
    np.testing.assert_array_equal(brain, [1.5, -2])
    assert truth.tolist() == [False, True]


# ---- hostile pickles ----

MKDIR = name("os", "mkdir")
ARGUMENT = b"(" + text("was_run") + b"t"
ODICT = name("collections", "OrderedDict")
REBUILD = name("torch._utils", "_rebuild_tensor_v2")
GADGETS = {
    "reduce": MKDIR + ARGUMENT + b"R",
    "builtin": name("posix", "mkdir") + ARGUMENT + b"R",
    "eval": name("builtins", "eval") + b"(" + text("__import__('os').mkdir('was_run')") + b"tR",
    "instance": b"(" + text("was_run") + b"ios\nmkdir\n",
    "object": b"(" + MKDIR + text("was_run") + b"o",
    "new object": MKDIR + ARGUMENT + b"\x81",
    "new object with keywords": MKDIR + ARGUMENT + b"}\x92",
    "stack global": text("os") + text("mkdir") + b"\x93" + ARGUMENT + b"R",
    "dotted name": text("collections") + text("OrderedDict.fromkeys.__class__") + b"\x93",
    "attribute of an admitted name": name("collections", "OrderedDict.__init__.__globals__"),
    "extension": b"\x82\x01",
    "nested pickle": name("torch.storage", "_load_from_bytes") + b"(" + text("x") + b"tR",
    "any class of torch": name("torch.nn.modules.linear", "Linear") + b")\x81",
    "any function of torch": name("torch", "load") + ARGUMENT + b"R",
    "numpy": name("numpy._core.multiarray", "scalar") + b")R",
    "attributes of a function": REBUILD + b"}" + text("__code__") + text("x") + b"sb",
    "attributes of a class": ODICT + b"}" + text("update") + MKDIR + b"sb",
    "attributes of a list": b"]}b",
    "attributes of a tensor": tensor("0", 6, [6], [1]) + b"(K\x01K\x02tb",
    "call of a tensor": tensor("0", 6, [6], [1]) + b")R",
    "call of a string": text("os.mkdir") + ARGUMENT + b"R",
    "call of a storage type": name("torch", "FloatStorage") + b"(K\x04tR",
    "tensor of a tuple": REBUILD + b"(" + ARGUMENT + b"K\x00))tR",
    "foreign reference": text("os") + b"Q",
    "reference to a module": b"(" + text("module") + MKDIR + b"tQ",
    "persistent identity": b"Pos\n",
    "name as a value": b"(" + ODICT + b"l",
    "storage as a value": b"(" + text("storage") + name("torch", "FloatStorage") + text("0") * 2 + b"K\x06tQ",
    "deep key": b"}" + b")" + b"\x85" * 100_000 + b"K\x01s",
    "deep name": b")" + b"\x85" * 100_000 + text("x") + b"\x93",
    "bytes": b"C\x01a",
    "set": b"\x8f",
    "buffer": b"\x97",
}  # fmt: skip


@pytest.mark.parametrize("gadget", GADGETS)
@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_pickle_does_not_run(tmp_path, monkeypatch, path, gadget, legacy):
    monkeypatch.chdir(tmp_path)
    for where in (GADGETS[gadget], b"}" + text("state") + GADGETS[gadget] + b"s"):
        (write_legacy if legacy else write)(path, where, {"0": SIX.tobytes()})
        with pytest.raises(ValueError, match=r"weights\.pt: (holds|not a PyTorch checkpoint)"):
            fc.load_torch(path)
    assert os.listdir(tmp_path) == ["weights.pt"]
    assert "update" not in vars(np.ndarray)
    assert OrderedDict(a=1) == {"a": 1}


def test_the_gadgets_would_run_in_pickle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(PROTOCOL + GADGETS["reduce"] + b".")
    assert Path("was_run").exists()


def test_attributes_of_a_state_dict_are_left_out(path):
    attributes = b"}" + text("_metadata") + b"}s" + text("items") + b"K\x01s"
    state = fc.load_torch(write(path, ODICT + b")R" + text("a") + b"K\x05s" + attributes + b"b"))
    assert type(state) is OrderedDict
    assert list(state.items()) == [("a", 5)]
    assert vars(state) == {}


def test_a_loop_ends(path):
    loop = fc.load_torch(write(path, b"]q\x00h\x00a"))
    assert loop[0] is loop


# ---- files that lie ----

HUGE = 2**62
DEEP = b")" + b"\x85" * 100_000


def storage(key, length):
    return b"(" + text("storage") + name("torch", "FloatStorage") + key + text("cpu") + length + b"tQ"


LIES = {
    "tensor larger than its storage": (tensor("0", 6, [7], [1]), SIX.tobytes()),
    "strides that leave the storage": (tensor("0", 6, [2, 3], [4, 1]), SIX.tobytes()),
    "offset behind the storage": (tensor("0", 6, [1], [1], 6), SIX.tobytes()),
    "negative offset": (tensor("0", 6, [1], [1], -1), SIX.tobytes()),
    "negative stride": (tensor("0", 6, [6], [-1], 5), SIX.tobytes()),
    "negative size": (tensor("0", 6, [-1], [1]), SIX.tobytes()),
    "huge size": (tensor("0", 6, [HUGE], [1]), SIX.tobytes()),
    "huge stride": (tensor("0", 6, [2], [HUGE]), SIX.tobytes()),
    "too many elements to count": (tensor("0", 6, [HUGE, HUGE], [0, 0]), SIX.tobytes()),
    "elements beyond 64 bits": (tensor("0", 6, [2**70], [0]), SIX.tobytes()),
    "empty beyond 64 bits": (tensor("0", 6, [2**70, 0], [0, 0]), SIX.tobytes()),
    "too many axes": (tensor("0", 6, [1] * 100, [1] * 100), SIX.tobytes()),
    "fewer strides than sizes": (tensor("0", 6, [2, 3], [1]), SIX.tobytes()),
    "storage shorter than it says": (tensor("0", 8, [6], [1]), SIX.tobytes()),
    "storage longer than it says": (tensor("0", 4, [4], [1]), SIX.tobytes()),
    "huge storage": (tensor("0", HUGE, [6], [1]), SIX.tobytes()),
    "negative storage": (tensor("0", -6, [0], [1]), SIX.tobytes()),
    "no such storage": (tensor("1", 6, [6], [1]), SIX.tobytes()),
    "huge string": (b"\x8d" + struct.pack("<Q", HUGE) + b"a", b""),
    "huge integer": (b"\x8b" + struct.pack("<i", 2**31 - 1) + b"1", b""),
    "items of no list": (b"}K\x01a", b""),
    "items of no dictionary": (b"]K\x01K\x02s", b""),
    "key without a value": (b"}(K\x01u", b""),
    "nothing there": (b"", b""),
    "two objects": (b"K\x01K\x02", b""),
    "nothing remembered": (b"h\x05", b""),
    "no mark": (b"t", b""),
    "unknown operation": (b"\xff", b""),
    "storage with a deep key": (storage(DEEP, number(6)), b""),
    "storage of a deep number of elements": (storage(text("0"), DEEP), b""),
    "pairs that are none": (ODICT + b"(]K\x01aK\x02atR", b""),
    "two lists of pairs": (ODICT + b"(]]tR", b""),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_lies_is_refused(path, lie, legacy):
    operations, content = LIES[lie]
    (write_legacy if legacy else write)(path, operations, {"0": content})
    with pytest.raises(ValueError, match=r"weights\.pt: not a PyTorch checkpoint, or damaged"):
        fc.load_torch(path)


def test_storages_that_exceed_the_file_together(path):
    """The same bytes as storages of several kinds would take more memory than the file has bytes."""
    parts = [tensor("0", 4096, [1], [1], kind=kind) for kind in ("IntStorage", "FloatStorage")]
    storages = {"0": np.zeros(4096, "<f4").tobytes()}
    np.testing.assert_array_equal(fc.load_torch(write(path, parts[0], storages)), [0])
    write(path, b"(" + b"".join(parts) + b"t", storages)
    with pytest.raises(ValueError, match="the storages are larger than the file"):
        fc.load_torch(path)
    write_legacy(path, b"(" + b"".join(parts) + b"t", storages)
    with pytest.raises(ValueError, match="storage 0 is of two kinds"):
        fc.load_torch(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_list_of_pairs_is_not_unpacked_again_and_again(path, legacy):
    """A dictionary of a list that is remembered takes eight bytes of the file, whatever its length."""
    pairs = b"](" + b"".join(b"(" + text(f"{i:05d}") + b"Nt" for i in range(1000)) + b"eq\x01"
    once = b"](" + pairs + name("collections", "OrderedDict") + b"q\x02h\x01\x85R"
    write_both = write_legacy if legacy else write
    loaded = fc.load_torch(write_both(path, once + b"e"))
    assert loaded[1] == OrderedDict(loaded[0])
    write_both(path, once + b"h\x02h\x01\x85R" * 1000 + b"e")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more pairs than bytes"):
            fc.load_torch(path)
        assert tracemalloc.get_traced_memory()[1] < 200 * path.stat().st_size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "keys", [{"0": None}, "0", 0, [DEEP]], ids=["dictionary", "string", "number", "deep"]
)
def test_legacy_keys_that_are_no_list_of_strings(path, keys):
    write_legacy(path, tensor("0", 6, [6], [1], legacy=True), {"0": SIX.tobytes()})
    listed = pickle.dumps(["0"], 2)
    other = PROTOCOL + b"]" + DEEP + b"a." if keys == [DEEP] else pickle.dumps(keys, 2)
    content = path.read_bytes()
    assert content.count(listed) == 1
    path.write_bytes(content.replace(listed, other))
    with pytest.raises(ValueError, match=r"weights\.pt: not a PyTorch checkpoint, or damaged"):
        fc.load_torch(path)


def test_compressed_members_are_refused(path):
    write(path, tensor("0", 6, [6], [1]), {"0": SIX.tobytes()}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"data\.pkl is compressed"):
        fc.load_torch(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_every_truncation_is_refused(path, legacy):
    operations = b"}" + text("w") + tensor("0", 6, [2, 3], [3, 1], legacy=legacy) + b"s"
    whole = (write_legacy if legacy else write)(path, operations, {"0": SIX.tobytes()}).read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"weights\.pt: "):
            fc.load_torch(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_no_damaged_byte_raises_anything_else(path, legacy, rng):
    operations = b"}" + text("w") + tensor("0", 6, [2, 3], [3, 1], legacy=legacy) + b"s"
    whole = (write_legacy if legacy else write)(path, operations, {"0": SIX.tobytes()}).read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with contextlib.suppress(ValueError):  # some bytes don't matter, and legacy files have no checksums
            fc.load_torch(path)


def test_a_damaged_storage_is_found(path):
    write(path, tensor("0", 6, [6], [1]), {"0": SIX.tobytes()})
    path.write_bytes(path.read_bytes().replace(SIX.tobytes(), (SIX + 1).tobytes()))
    with pytest.raises(ValueError, match="the checksum of weights/data/0 is wrong"):
        fc.load_torch(path)


OTHER = {
    "empty": b"",
    "text": b"hello",
    "zip": b"PK\3\4",
    "pickle": pickle.dumps({"a": 1}),
    "beginning": pickle.dumps(MAGIC, 2),
    "escape": rb"c\e" + b"\n" + rb"\777" + b"\n.",  # sequences that Python warns of
}


@pytest.mark.parametrize("content", OTHER.values(), ids=list(OTHER))
def test_other_files_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.pt: not a PyTorch checkpoint, or damaged"):
        fc.load_torch(path)


def test_an_archive_of_something_else_is_refused(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, a=SIX)
    with pytest.raises(ValueError, match=r"weights\.npz: not a PyTorch checkpoint"):
        fc.load_torch(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fc.load_torch(tmp_path / "nowhere.pt")
