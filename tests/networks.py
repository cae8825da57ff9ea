"""Networks of tests: of convolutions, to be frozen, and of linear layers."""

import numpy as np

from fastconv import nn


def settled(module, rng):
    """The module with random parameters, and running statistics as of a trained network."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean[...] = 0.3 * rng.standard_normal(layer.num_features)
            layer.running_var[...] = rng.uniform(0.5, 2, layer.num_features)
            layer.weight.data = rng.uniform(0.5, 1.5, layer.num_features)
            layer.bias.data = 0.3 * rng.standard_normal(layer.num_features)
    return module


def small_network(rng):
    return settled(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, rng=rng),
            nn.BatchNorm2d(4),
            nn.Residual(nn.Conv2d(4, 4, 1, rng=rng)),
            nn.BatchNorm2d(4),
            nn.Flatten(),
            nn.Linear(4 * 16, 5, rng=rng),
        ),
        rng,
    )


IMAGE = np.random.default_rng(5).standard_normal((2, 3, 6, 6)).astype(np.float32)


def linear_network(rng=None):
    return nn.Sequential(
        nn.Linear(4, 5, dtype=np.float64, rng=rng),
        nn.Tanh(),
        nn.Residual(nn.Linear(5, 5, dtype=np.float64, rng=rng)),
    )
