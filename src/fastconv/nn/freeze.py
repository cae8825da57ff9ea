"""The same network for inference only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any, TypeGuard, TypeVar

import numpy as np

from fastconv import _checks
from fastconv._checks import FloatArray
from fastconv.functional._packed import fold_batch_norm
from fastconv.nn.activation import LeakyReLU, ReLU, ReLU6, Sigmoid, Softmax, Tanh
from fastconv.nn.container import Residual, Sequential
from fastconv.nn.conv import Conv2d
from fastconv.nn.conv1d import Conv1d
from fastconv.nn.conv_transpose import ConvTranspose2d
from fastconv.nn.dropout import Dropout
from fastconv.nn.frozen import (
    Frozen,
    FrozenConv2d,
    FrozenLayer,
    FrozenLinear,
    FrozenResidual,
    FrozenSequential,
)
from fastconv.nn.linear import Flatten, Linear
from fastconv.nn.module import Layer, Module
from fastconv.nn.normalization import BatchNorm2d, LocalResponseNorm
from fastconv.nn.parameter import value_of
from fastconv.nn.pooling import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d

__all__ = ["freeze"]

L = TypeVar("L", bound=Layer)

# Of whatever they get, layers of these very classes make a new array of floating-point numbers.
_MAKE_NEW = {
    *(Conv1d, Conv2d, ConvTranspose2d, Linear, BatchNorm2d, LocalResponseNorm),
    *(LeakyReLU, ReLU, ReLU6, Sigmoid, Softmax, Tanh),
    *(AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d),
}


def freeze(module: Module) -> Module:
    r"""The same network, as it is after `eval`, for inference only, and faster.

    A batch normalization that follows a `Conv2d` is folded into its weight, a `ReLU` or
    `ReLU6` after that, after a `Linear` or after a `Residual` is computed along with it, weights are packed
    once, `Dropout` is gone where it would only copy what another layer has made.
    All other layers, modules of your own among them, are copied as they are.

    Parameters
    ----------
    module : Module
        A layer or a network. It stays as it is, and what becomes of it later does not touch the result.

    Returns
    -------
    Module
        With the outputs of `module` after `eval`, up to rounding, for images of any size. Threads may share
        it, if they may share your own modules in it. Its parameters are read-only, have the names they had,
        those of a folded batch normalization apart; `backward`, `train`, `load_state_dict`, `astype` and
        setting an attribute raise RuntimeError. It may be a part of a network: that one's `train` leaves it
        as it is, and `train.fit` ends the way back at the first layer after it that learns. The optimizer
        gets the parameters of the rest.

    Raises
    ------
    TypeError
        `module` is no Module.

    Notes
    -----
    A folded batch normalization makes of a filter :math:`w` and a bias :math:`b`, with
    :math:`s = \gamma / \sqrt{\sigma^2 + \epsilon}` of its channel, :math:`sw` and
    :math:`s(b - \mu) + \beta`, computed in float64 and rounded to the dtype of the parameters (float32 where
    that is float16). Weights are packed when images first call for it, so the first call takes longer; what
    was packed is neither copied nor pickled along with the network.

    Examples
    --------
    >>> import fastconv as fc
    >>> from fastconv import nn
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    >>> frozen = nn.freeze(network)
    >>> frozen
    Frozen(
      (0): Conv2d+BatchNorm2d+ReLU(3, 8, kernel_size=(3, 3), stride=(1, 1))
      (3): MaxPool2d(kernel_size=(2, 2), stride=(2, 2))
    )
    >>> x = np.ones((1, 3, 8, 8), np.float32)
    >>> np.allclose(frozen(x), network.eval()(x), atol=1e-6)
    True
    >>> frozen.backward(frozen(x))
    Traceback (most recent call last):
    RuntimeError: backward: got a frozen network, needs the network that it was made from; freeze that again
    """
    if not isinstance(module, Module):
        raise _checks.argument_error("module", type(module).__name__, "a Module", TypeError)
    if isinstance(module, Frozen):
        return module
    names = {id(inner): name for name, inner in module.named_modules()}
    if not _is_plain(module, Sequential):
        return _fused([module], names)[0]
    return FrozenSequential(_parts(module, "", names))


def _is_plain(module: Module, kind: type[L]) -> TypeGuard[L]:
    """Whether a module computes as the container `kind` does; a derived class may be built otherwise."""
    if not isinstance(module, kind):
        return False
    return type(module).forward is kind.forward and type(module)._forward is kind._forward


def _parts(module: Module, prefix: str, names: Mapping[int, str]) -> dict[str, Frozen]:
    """The chain that a module becomes: by the names, below `prefix`, of the first layer of each part.

    `names` are those of all modules of the network, by id.
    """
    chain = list(_without_idle_dropout(list(_chain(module))))
    parts: dict[str, Frozen] = {}
    while chain:
        name = names[id(chain[0])].removeprefix(f"{prefix}.")
        parts[name], count = _fused(chain, names)
        del chain[:count]
    return parts


def _chain(module: Module) -> Iterator[Module]:
    """The module taken apart as far as it is a chain of others."""
    if _is_plain(module, Sequential):
        for layer in module:
            yield from _chain(layer)
    else:
        yield module


def _without_idle_dropout(chain: list[Module]) -> Iterator[Module]:
    """The chain without each Dropout that copies what is new anyway, or what the next layer makes anew."""
    new = False
    for layer, following in zip_longest(chain, chain[1:]):
        if type(layer) is Dropout:
            if new or (type(following) in _MAKE_NEW and not _has_halves(following)):
                continue
            new = True
        elif type(layer) is not Flatten:
            new = type(layer) in _MAKE_NEW or _is_plain(layer, Residual)
            new = new or (isinstance(layer, Frozen) and layer.owns_output)
        yield layer


def _has_halves(layer: Module) -> bool:
    """Whether float16 takes part: 8-bit integers give float16 with it, but float32 after a Dropout."""
    return any(parameter.dtype == np.float16 for parameter in layer.parameters())


def _fused(chain: list[Module], names: Mapping[int, str]) -> tuple[Frozen, int]:
    """What the first layers of a chain become together, and how many they are."""
    first, *nexts = chain[:3]
    if type(first) is Conv2d:
        return _convolution(first, nexts)
    activation = _activation(nexts)
    if type(first) is Linear:
        return FrozenLinear(first, activation), 1 + bool(activation)
    if _is_plain(first, Residual):
        prefix = names[id(first)]
        body = _parts(first.body, prefix, names)
        shortcut = {} if first.shortcut is None else _parts(first.shortcut, prefix, names)
        return FrozenResidual(body, shortcut, activation), 1 + bool(activation)
    return first if isinstance(first, Frozen) else FrozenLayer(first), 1


def _activation(layers: list[Module]) -> str:
    """The name of the first of the layers if that is an activation to be computed along, else ""."""
    return type(layers[0]).__name__ if layers and type(layers[0]) in (ReLU, ReLU6) else ""


def _convolution(conv: Conv2d, nexts: list[Module]) -> tuple[Frozen, int]:
    """A convolution with those of the next layers that it can do, and how many layers that makes."""
    weight, bias, dtype = conv.weight.data, value_of(conv.bias), conv.weight.dtype
    folded = _folded(conv, nexts[0]) if nexts and type(nexts[0]) is BatchNorm2d else None
    if folded is not None:
        weight, bias, dtype = folded
        nexts = nexts[1:]
    activation = _activation(nexts)
    names = ["Conv2d", "BatchNorm2d" if folded else "", activation]
    frozen = FrozenConv2d(conv, weight, bias, dtype, activation, "+".join(filter(None, names)))
    return frozen, sum(map(bool, names))


def _folded(conv: Conv2d, norm: BatchNorm2d) -> tuple[FloatArray, FloatArray, np.dtype[Any]] | None:
    """Weight and bias of a convolution with the batch normalization after it, and the dtype of both layers.

    None where the running statistics aren't what it normalizes by, where the two don't fit each other, and
    where a folded number would be too large for the dtype it is computed in.
    """
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None or norm.num_batches_tracked is None:
        return None
    if norm.layout != conv.layout or norm.num_features != conv.out_channels:
        return None
    own = [conv.weight.data, mean, var] + [p.data for p in (norm.weight, norm.bias) if p is not None]
    dtype = _checks.result_dtype(*own)
    compute = _checks.compute_dtype(dtype)
    affine = value_of(norm.weight), value_of(norm.bias)
    with np.errstate(all="ignore"):
        folded = fold_batch_norm(conv.weight.data, value_of(conv.bias), mean, var, *affine, norm.eps)
        weight, bias = (array.astype(compute) for array in folded)
    return (weight, bias, dtype) if np.isfinite(weight).all() and np.isfinite(bias).all() else None
