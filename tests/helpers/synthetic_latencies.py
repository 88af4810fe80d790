"""Blocks of a few layers and what a device that is known by a formula would take for them."""

import functools

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.estimators.regression.features import ROOFLINE, columns, features
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.space import Block, Layer, valid_candidates
from jmsnas.space_file import mbconv_candidates

# MACs at 1 to 10 GMAC/s, bytes at 1 to 8 GB/s, launches of 1 to 20 us, 5 us a call.
RATES = np.array(
    [1e-9, 2e-10, 1e-10, 5e-10, 1e-9, 5e-10, 1e-9, 3e-10, 4e-10, 1.25e-10, 2e-5, 9e-6, 1e-6, 3e-6, 5e-6]
)
LAYERS = [Layer(c, c * s, s, h, h) for c in (8, 16, 32) for s in (1, 2) for h in (4, 8)]
BLOCKS = [Block(c, layer) for layer in LAYERS for c in valid_candidates(layer, mbconv_candidates())]


@functools.cache
def table() -> FloatArray:
    """Features of BLOCKS: 114 rows of 12 geometries. Do not write to it."""
    return features(BLOCKS)


def exact_s(X: FloatArray) -> FloatArray:
    """Latencies that a roofline explains to the last bit."""
    return np.asarray(X[:, columns(ROOFLINE)] @ RATES[:-1] + RATES[-1])


def bent_s(X: FloatArray) -> FloatArray:
    """Latencies with what no sum of work explains: large kernels on few pixels are 40 % slower."""
    bend = 0.2 * X[:, columns(["log_kernel_size"])] - 0.1 * X[:, columns(["log_pixels"])]
    return np.asarray(exact_s(X) * np.exp(bend[:, 0]))


def noisy_s(X: FloatArray, share: float, seed: int = 0) -> FloatArray:
    """Latencies of `exact_s` times normal noise."""
    return exact_s(X) * np.exp(np.random.default_rng(seed).normal(0, share, len(X)))


@functools.cache
def bent() -> LatencyRegressor:
    """A regressor that learned `bent_s`. Do not write to it."""
    return LatencyRegressor().fit(table(), bent_s(table()))
