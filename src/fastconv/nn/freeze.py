"""The same network for inference only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastconv import _checks
from fastconv._checks import FloatArray
from fastconv.functional._packed import fold_batch_norm
from fastconv.nn.activation import ReLU
from fastconv.nn.container import Residual
from fastconv.nn.conv import Conv2d
from fastconv.nn.dropout import Dropout
from fastconv.nn.frozen import (
    Frozen,
    FrozenConv2d,
    FrozenLayer,
    FrozenLinear,
    FrozenResidual,
    FrozenSequential,
)
from fastconv.nn.linear import Linear
from fastconv.nn.module import Module
from fastconv.nn.normalization import BatchNorm2d
from fastconv.nn.parameter import value_of

__all__ = ["freeze"]


def freeze(module: Module) -> Module:
    r"""The same network, as it is after `eval`, for inference only, and faster.

    A batch normalization that follows a `Conv2d` is folded into its weight, a `ReLU` after that, after a
    `Linear` or after a `Residual` is computed along with it, weights are packed once, `Dropout` is gone.
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
        setting an attribute raise RuntimeError.

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
    parts = _parts(module, "", names)
    return parts[""] if list(parts) == [""] else FrozenSequential(parts)


def _parts(module: Module, prefix: str, names: Mapping[int, str]) -> dict[str, Frozen]:
    """The chain that a module becomes: by their names below `prefix`, each that of its first layer.

    `names` are those of modules, by id, in the network. A module made by `Module._steps` isn't there and goes
    by the name of the one that made it.
    """
    whole = list(_chain(module, names.get(id(module), prefix), names))
    chain = [(name, layer) for name, layer in whole if type(layer) is not Dropout] or whole
    parts: dict[str, Frozen] = {}
    while chain:
        name = chain[0][0].removeprefix(f"{prefix}.")
        if name in parts:
            name = f"{name}.{len(parts)}"
        parts[name], count = _fused(chain, names)
        del chain[:count]
    return parts


def _chain(module: Module, name: str, names: Mapping[int, str]) -> Iterator[tuple[str, Module]]:
    """The module taken apart as far as it is a chain of others."""
    steps = module._steps()
    if steps is None:
        yield name, module
        return
    for step in steps:
        yield from _chain(step, names.get(id(step), name), names)


def _fused(chain: Sequence[tuple[str, Module]], names: Mapping[int, str]) -> tuple[Frozen, int]:
    """What the first layers of a chain become together, and how many they are."""
    (name, first), *following = chain[:3]
    nexts = [layer for _, layer in following]
    if type(first) is Conv2d:
        return _convolution(first, nexts)
    relu = _is_relu(nexts)
    if type(first) is Linear:
        return FrozenLinear(first, relu), 1 + relu
    if type(first) is Residual:
        body = _parts(first.body, name, names)
        shortcut = None if first.shortcut is None else _parts(first.shortcut, name, names)
        return FrozenResidual(body, shortcut, relu), 1 + relu
    return first if isinstance(first, Frozen) else FrozenLayer(first), 1


def _is_relu(layers: Sequence[Module]) -> bool:
    """Whether the first of the layers, if there is one, is a ReLU."""
    return bool(layers) and type(layers[0]) is ReLU


def _convolution(conv: Conv2d, nexts: list[Module]) -> tuple[Frozen, int]:
    """A convolution with those of the next layers that it can do, and how many layers that makes."""
    weight, bias = conv.weight.data, value_of(conv.bias)
    parts = ["Conv2d"]
    dtype = weight.dtype
    if nexts and type(nexts[0]) is BatchNorm2d:
        folded = _folded(conv, nexts[0])
        if folded is not None:
            weight, bias, dtype = folded
            parts.append("BatchNorm2d")
            nexts = nexts[1:]
    relu = _is_relu(nexts)
    if relu:
        parts.append("ReLU")
    compute = _checks.compute_dtype(dtype)
    weight = weight.astype(compute)
    bias = None if bias is None else bias.astype(compute)
    return FrozenConv2d(conv, weight, bias, dtype, relu, "+".join(parts)), len(parts)


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
