"""Small random latency arrays, in which devices differ and links cost something."""

import numpy as np

from jmsnas.nas.latency_lut import LatencyLUT, moves


def random_lut(N: int, R: int, M: int, seed: int, policy: str = "strict", link: float = 1.0) -> LatencyLUT:
    """N layers (first and last with one candidate), R candidates (the last nearly free), M devices."""
    random = np.random.default_rng(seed)
    work_NR = random.uniform(0.2, 2, (N, R))
    work_NR[:, -1] = 0.01
    speed_M = np.array([1, 0.3, 0.2, 0.1, 0.15, 0.12])[:M]
    mask_NR = np.ones((N, R), dtype=bool)
    mask_NR[[0, -1], 1:] = False
    U_NRM = work_NR[:, :, None] * speed_M * random.uniform(0.9, 1.1, (N, R, M)) * mask_NR[:, :, None]
    epsilon_LM = np.zeros((N + 1, M))
    epsilon_LM[:, : M - 1] = link * random.uniform(0.1, 2, (N + 1, 1)) / np.array([1, 2, 8, 8, 8])[: M - 1]
    names = tuple(f"device{m}" for m in range(M))
    return LatencyLUT(names, policy, U_NRM, mask_NR, epsilon_LM, moves(epsilon_LM, policy), epsilon_LM)


def random_p(lut: LatencyLUT, concentration: float, seed: int) -> np.ndarray:
    """Random probabilities of the candidates: flat where `concentration` is large."""
    N, R = lut.mask_NR.shape
    drawn = np.random.default_rng(seed).dirichlet(np.full(R, concentration), N) + 1e-9
    p_NR = np.where(lut.mask_NR, drawn, 0)
    return p_NR / p_NR.sum(axis=1, keepdims=True)
