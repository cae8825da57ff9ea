"""A frozen network stays as it is, and knows what to do with images of many shapes."""

import copy
import gc
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference
import reference_layers
from cases import error_bound
from networks import IMAGE, small_network

import fastconv as fc
from fastconv import nn
from fastconv.functional._ways import MOST_WAYS


def test_the_original_may_change(rng):
    network = small_network(rng)
    frozen = nn.freeze(network)
    training, before = network.training, frozen(IMAGE)
    assert training
    for parameter in network.parameters():
        parameter.data[...] = 7
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var[...] = 7
    np.testing.assert_array_equal(frozen(IMAGE), before)


def test_the_original_is_left_as_it_was(rng):
    network = small_network(rng)
    before = network.state_dict()
    nn.freeze(network)(IMAGE)
    assert all(layer.training for layer in network.modules())
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert all(parameter.data.flags.writeable for parameter in network.parameters())


@pytest.mark.parametrize("remade", [lambda x: x, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_parameters_and_buffers_are_read_only(remade, rng):
    frozen = nn.freeze(small_network(rng))
    output = frozen(IMAGE)
    frozen = remade(frozen)
    np.testing.assert_array_equal(frozen(IMAGE), output)
    arrays = frozen._state()
    assert arrays
    for array in arrays.values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
    for parameter in frozen.parameters():
        with pytest.raises(ValueError, match="read-only"):
            parameter.data = np.zeros(parameter.shape)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("backward", lambda frozen: frozen.backward(frozen(IMAGE))),
        ("train", lambda frozen: frozen.train()),
        ("load_state_dict", lambda frozen: frozen.load_state_dict(frozen.state_dict())),
        ("astype", lambda frozen: frozen.astype(np.float64)),
        ("setting training", lambda frozen: setattr(frozen, "training", True)),
        ("setting weight", lambda frozen: setattr(next(frozen.modules()), "weight", None)),
        ("deleting x", lambda frozen: delattr(frozen, "x")),
    ],
)
def test_what_a_frozen_network_refuses(name, change, rng):
    network = small_network(rng)
    with pytest.raises(RuntimeError, match=f"^{name}: got a frozen network, needs the network"):
        change(nn.freeze(network))


@pytest.mark.parametrize("index", range(6))
def test_each_frozen_layer_refuses(index, rng):
    frozen = nn.freeze(small_network(rng)[index])
    for refused in (lambda: frozen.backward(IMAGE), frozen.train, lambda: setattr(frozen, "weight", 1)):
        with pytest.raises(RuntimeError, match="got a frozen network"):
            refused()


def test_what_a_frozen_network_allows(rng):
    frozen = nn.freeze(small_network(rng))
    assert frozen.eval() is frozen
    assert not frozen.training
    assert nn.freeze(frozen) is frozen
    again = nn.freeze(nn.Sequential(frozen, nn.ReLU()))
    np.testing.assert_array_equal(again(IMAGE), np.maximum(frozen(IMAGE), 0))


@pytest.mark.parametrize("module", [None, "Conv2d", nn.Conv2d, np.ones(3)])
def test_only_modules_can_be_frozen(module):
    with pytest.raises(TypeError, match=r"^module: got \w+, needs a Module$"):
        nn.freeze(module)


@pytest.mark.parametrize("images", [1, 40])  # 9 or 16 of Winograd's blocks, 360 or 640
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(12, 3, 1), (24, 7, 2)])
def test_a_convolution_by_winograd(rng, size, kernel, stride, images, dtype):
    """Whose weights are kept transformed for many blocks alone."""
    layer = nn.Conv2d(32, 40, kernel, stride, kernel // 2, dtype=dtype, rng=rng)
    x = rng.standard_normal((images, 32, size, size)).astype(dtype)
    arguments = {"stride": stride, "padding": kernel // 2}
    assert fc.conv2d_algorithm(x.shape, layer.weight.data.shape, **arguments, dtype=dtype) == "winograd"
    exact = reference.conv2d(x, layer.weight.data, layer.bias.data, **arguments)
    frozen = nn.freeze(layer)
    for _ in range(2):
        error = np.abs(frozen(x) - exact).max() / np.abs(exact).max()
        assert error <= error_bound(dtype, 32 * kernel**2, "winograd")


def test_images_that_do_not_fit(rng):
    frozen = nn.freeze(small_network(rng))
    with pytest.raises(ValueError, match=r"^weight: .* x has 5, in 1 group"):
        frozen(np.zeros((1, 5, 6, 6)))
    with pytest.raises(TypeError, match=r"^x: got dtype complex128"):
        frozen(np.zeros((1, 3, 6, 6), complex))


def test_threads_share_a_frozen_network(rng):
    network = small_network(rng)
    wanted = nn.freeze(network)(IMAGE)
    for _ in range(5):
        frozen = nn.freeze(network)  # with its weights yet to be packed
        with ThreadPoolExecutor(4) as pool:
            for output in pool.map(frozen, [IMAGE] * 8):
                np.testing.assert_array_equal(output, wanted)


def test_memory_is_free_as_soon_as_a_network_is_gone(rng):
    network = small_network(rng)
    gc.collect()
    gc.disable()
    try:
        before = fc.memory_info()["used"]
        frozen = nn.freeze(network)
        frozen(IMAGE)
        assert fc.memory_info()["used"] > before
        del frozen
        assert fc.memory_info()["used"] == before
    finally:
        gc.enable()


def test_many_sizes_are_not_all_remembered(rng):
    frozen = nn.freeze(nn.Conv2d(1, 1, 1, rng=rng))
    for width in range(1, 2 * MOST_WAYS):
        frozen(np.zeros((1, 1, 1, width), np.float32))
    assert len(frozen._convolve._ways) <= MOST_WAYS
    assert len(frozen._convolve._packed) <= 4  # kinds of kernels
    chain = nn.freeze(nn.Sequential(nn.MaxPool2d(1), nn.AvgPool2d(1)))
    for width in range(1, 4 * MOST_WAYS):
        chain(np.zeros((1, 1, 1, width), np.float32))
    assert len(chain._chain._settled) <= 2 * MOST_WAYS


def test_results_do_not_depend_on_threads(threads, rng):
    frozen = nn.freeze(small_network(np.random.default_rng(3)))
    with fc.num_threads(1):
        wanted = frozen(IMAGE)
    np.testing.assert_array_equal(frozen(IMAGE), wanted)


LAYERS = {
    "MaxPool2d": (lambda dtype: nn.MaxPool2d(3, 2, 1, ceil_mode=True), (2, 3, 8, 9)),
    "AvgPool2d": (lambda dtype: nn.AvgPool2d((2, 3), 2, 1, count_include_pad=False), (2, 3, 8, 9)),
    "AvgPool2d, divisor": (lambda dtype: nn.AvgPool2d(2, divisor_override=3, layout="NHWC"), (2, 3, 8, 9)),
    "AdaptiveAvgPool2d": (lambda dtype: nn.AdaptiveAvgPool2d((3, None)), (3, 8, 9)),
    "AdaptiveMaxPool2d": (lambda dtype: nn.AdaptiveMaxPool2d(2, layout="NHWC"), (2, 8, 9, 3)),
    "Flatten": (lambda dtype: nn.Flatten(2, -1), (2, 3, 4, 5)),
    "Linear": (lambda dtype: nn.Linear(9, 7, dtype=dtype), (2, 3, 9)),
    "Linear, no bias": (lambda dtype: nn.Linear(9, 7, bias=False, dtype=dtype), (40, 9)),
    "Conv2d": (lambda dtype: nn.Conv2d(3, 5, 3, padding=1, dtype=dtype), (2, 3, 8, 9)),
    "Conv2d, reflect": (
        lambda dtype: nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect", dtype=dtype),
        (3, 8, 9),
    ),
}


@pytest.mark.parametrize("parameters", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_ways_are_what_forward_computes(name, parameters, dtype, rng):
    """To the bit, alone and in a chain, which goes by them; None where results have another dtype."""
    build, shape = LAYERS[name]
    network = nn.Sequential(build(parameters), nn.LeakyReLU(0.5)).eval()
    x = rng.standard_normal(shape).astype(dtype)
    frozen = nn.freeze(network)
    layer, _ = frozen._chain.layers
    way, wanted = layer.way(shape, np.dtype(dtype).char), layer.forward(x)
    if wanted.dtype == dtype:
        output = way.run(x)
        assert output.shape == way.out_shape
        assert output.dtype == dtype
        np.testing.assert_array_equal(output, wanted)
    else:
        assert way is None
    for _ in range(2):
        np.testing.assert_array_equal(frozen(x), np.where(wanted > 0, wanted, wanted / 2))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6])
@pytest.mark.parametrize("batch", [1, 2, 5, 16, 17, 40])
def test_an_activation_after_a_linear_layer(activation, batch, dtype, rng):
    """Batches on both sides of where the weight is read as it lies, sums of one pass and of several."""
    for inputs, outputs in [(1, 1), (15, 4), (16, 5), (33, 2), (300, 35)]:
        linear = nn.Linear(inputs, outputs, dtype=dtype, rng=rng)
        network = nn.Sequential(linear, activation()).eval()
        x = 8 * rng.standard_normal((batch, inputs)).astype(dtype)
        x[0, 0] = np.nan
        exact = reference_layers.linear(x, linear.weight.data, linear.bias.data)
        frozen = nn.freeze(network)
        output = frozen(x)
        assert len(frozen._chain.layers) == 1
        assert np.isnan(output[0]).all()
        bound = error_bound(dtype, inputs, "direct") * np.nanmax(np.abs(exact), initial=1)
        ceiling = 6 if activation is nn.ReLU6 else np.inf
        assert np.abs(output[1:] - np.clip(exact[1:], 0, ceiling)).max(initial=0) <= bound


class Halved(nn.MaxPool2d):
    """A layer derived from one whose way is known, which computes something else."""

    def _forward(self, x):
        output, saved = super()._forward(x)
        return output / 2, saved

    def _infer(self, x):
        return super()._infer(x) / 2


class Rows(nn.Module):
    """A module whose output is no array of a kernel's: strided, or a list."""

    def __init__(self, make):
        self.make = make

    def forward(self, x):
        return self.make(x)


@pytest.mark.parametrize(
    "between",
    [
        Halved(2),
        Rows(lambda x: x[:, :, ::2]),
        Rows(lambda x: x.tolist()),
        Rows(lambda x: x[:0]),
        Rows(lambda x: x.astype(np.float16)),
        nn.Residual(nn.Sequential()),
        nn.BatchNorm2d(3),
    ],
)
def test_chains_go_on_after_layers_that_have_no_way(between, rng):
    layers = [nn.MaxPool2d(2), between, nn.AvgPool2d(2), nn.Flatten(), nn.ReLU()]
    network = nn.Sequential(*layers).eval()
    frozen = nn.freeze(network)
    for size in (8, 8, 12):
        x = rng.standard_normal((2, 3, size, size)).astype(np.float32)
        output, wanted = frozen(x), network(x)
        assert output.dtype == wanted.dtype
        np.testing.assert_array_equal(output, wanted)


def test_a_long_chain_of_modules_of_ones_own():
    count = sys.getrecursionlimit() + 1
    frozen = nn.freeze(nn.Sequential(*(Rows(lambda x: x + 1) for _ in range(count))))
    np.testing.assert_array_equal(frozen(np.zeros(3, np.float32)), np.full(3, count))
