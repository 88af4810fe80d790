"""Small random latency arrays, in which devices differ and links cost something."""

from dataclasses import replace

import numpy as np

from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.latency.mesh_lut import MeshLUT
from jmsnas.nas.latency.policy import AllowedMoves, allowed_moves, concatenate_moves
from jmsnas.nas.latency.resources import Resource
from jmsnas.nas.split.solve_chain import policy_limits


def unlimited_moves(epsilon_LM: np.ndarray, policy: str, call_M: np.ndarray | None = None) -> AllowedMoves:
    """Moves that the policy allows, without limits on the devices' layers."""
    L, M = epsilon_LM.shape
    return allowed_moves(epsilon_LM, policy, policy_limits(policy, L - 1, M), call_M=call_M)


def move_latencies_s(epsilon_LM: np.ndarray, policy: str) -> np.ndarray:
    """Latency of moving each output from device a to b in seconds, infinite where forbidden; (L, M, M)."""
    return concatenate_moves((unlimited_moves(epsilon_LM, policy),))[1]


def random_lut(
    N: int, R: int, M: int, seed: int, policy: str = "strict", link: float = 1.0, call: float = 0.0
) -> ChainLUT:
    """N layers (first and last with one candidate), R candidates (the last nearly free), M devices.

    A call of a device costs up to `call` seconds.
    """
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
    call_M = call * random.uniform(0, 1, M)
    moves_LMM = concatenate_moves((unlimited_moves(epsilon_LM, policy, call_M),))[1]
    return ChainLUT(names, policy, U_NRM, mask_NR, epsilon_LM, moves_LMM, epsilon_LM, call_M=call_M)


def random_p(lut: LatencyLUT, concentration: float, seed: int) -> np.ndarray:
    """Random probabilities of the candidates: flat where `concentration` is large."""
    N, R = lut.mask_NR.shape
    drawn = np.random.default_rng(seed).dirichlet(np.full(R, concentration), N) + 1e-9
    p_NR = np.where(lut.mask_NR, drawn, 0)
    return p_NR / p_NR.sum(axis=1, keepdims=True)


def random_mesh(
    trunk: int,
    branches: tuple[int, ...],
    tail: int,
    R: int,
    seed: int,
    alike: bool,
    fan_out: str = "broadcast",
    link: float = 1.0,
    call: float = 0.0,
) -> MeshLUT:
    """Fig. 2(b): two devices up to the root, a child a branch (`alike` or not), one device behind them.

    A call of a device costs up to `call` seconds.
    """
    random = np.random.default_rng(seed)
    B, N = len(branches), trunk + sum(branches) + tail
    places = np.split(np.arange(trunk, trunk + sum(branches)), np.cumsum(branches)[:-1])
    branch_layers = tuple(tuple(int(n) for n in own) for own in places)
    main_path_layers = tuple(n for n in range(N) if not trunk <= n < N - tail)
    mask_NR = np.ones((N, R), dtype=bool)
    mask_NR[[0, -1], 1:] = False
    children = np.full(B, 0.2) if alike else random.uniform(0.1, 0.6, B)
    work_NR = random.uniform(0.2, 2, (N, R))
    work_NR[:, -1] = 0.01
    jitter_NRM = random.uniform(0.9, 1.1, (N, R, 3 + B))
    if alike:
        jitter_NRM[:, :, 2 : 2 + B] = jitter_NRM[:, :, 2:3]
    speed_M = np.concatenate([[1, 0.3], children, [0.1]])
    U_NRM = work_NR[:, :, None] * speed_M * jitter_NRM * mask_NR[:, :, None]
    line_N, joint = trunk + tail, (trunk, 2)
    epsilon_LM = np.zeros((line_N + 1, 3))
    epsilon_LM[: trunk + 1, 0] = link * random.uniform(0.1, 2, trunk + 1)
    call_M = call * np.random.default_rng(seed + 1).uniform(0, 1, 3 + (1 if alike else B))
    line_M, call_K = call_M[:3], call_M[3:] * np.ones(B)
    parts = (
        unlimited_moves(epsilon_LM[: trunk + 1, :2], "strict", line_M[:2]),
        unlimited_moves(epsilon_LM[trunk:, 2:], "strict", line_M[2:]),
    )
    line = ChainLUT(
        ("a", "root", "cloud"),
        "strict",
        U_NRM[list(main_path_layers)][:, :, [0, 1, 2 + B]],
        mask_NR[list(main_path_layers)],
        epsilon_LM,
        concatenate_moves(parts)[1],
        epsilon_LM,
        joint=joint,
        call_M=line_M,
    )
    root_K, behind_K = link * random.uniform(0.1, 1, (2, 1) if alike else (2, B)) * np.ones((2, B))
    names = ("a", "root", *(f"child{k}" for k in range(B)), "cloud")
    lengths_2K = np.array([[0] * B, [N] * B])
    return MeshLUT(
        names,
        "strict",
        U_NRM,
        mask_NR,
        line,
        main_path_layers,
        branch_layers,
        tuple(range(2, 2 + B)),
        root_K,
        behind_K,
        1.0,
        behind_K,
        fan_out,
        lengths_2K,
        (),
        (1.0, 1.0),
        call_K,
    )


def limited_lut(
    seed: int,
    policy: str,
    share: float,
    devices: tuple[int, ...],
    sizes: tuple[int, int, int] = (5, 3, 3),
    call: float = 0.0,
) -> ChainLUT:
    """Limits of memory (weights and largest activation) and energy (with sending) of some devices."""
    (N, R, M), rng = sizes, np.random.default_rng(seed)
    free = random_lut(N, R, M, seed, policy, call=call)
    layers = policy_limits(policy, N, M)
    if seed % 3 == 0:  # a device of few layers has a state for each number of layers
        most_M = np.array([N, 2, N])[:M]
        layers = replace(layers, max_layers_M=most_M)
        parts = (allowed_moves(free.epsilon_LM, policy, layers, call_M=free.call_M),)
        states, moves_LSS = concatenate_moves(parts)
        free = replace(free, states=states, moves_LMM=moves_LSS)
    use_NRM = rng.uniform(0, 1, free.U_NRM.shape) * free.mask_NR[:, :, None]
    peak_NR = rng.choice([0.0, 0.5]) * rng.uniform(0, 1, (N, R)) * free.mask_NR
    limit_M = np.full(M, np.inf)
    limit_M[list(devices)] = share * (use_NRM.max(axis=1).sum(axis=0) + peak_NR.max())[list(devices)]
    memory = Resource("memory", use_NRM, peak_NR, np.zeros((N + 1, M)), limit_M)
    sent_LM = rng.uniform(0, 0.3, (N + 1, M))
    joules_M = np.full(M, np.inf)
    joules_M[list(devices)] = 1.5 * share * N
    energy = Resource("energy", 2 * free.U_NRM, np.zeros((N, R)), sent_LM, joules_M)
    return replace(free, limits=layers, resources=(memory, energy) if seed % 2 else (memory,))
