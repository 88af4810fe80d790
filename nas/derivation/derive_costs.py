"""Exact choice of candidates from a table of costs: the highest sum of scores whose T meets T_const."""

from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.errors import InfeasibleError, InputError
from jmsnas.nas.derivation.candidate_costs import CandidateCosts
from jmsnas.nas.derivation.derive import derive
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.latency.policy import allowed_moves, concatenate_moves
from jmsnas.nas.latency.resources import Resource
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.solve_chain import DeviceLimits
from jmsnas.units import format_duration

# The search works on log-probabilities: the largest difference of scores in a layer becomes this many nats.
_RANGE_NATS = 20.0
# Sums of the same numbers in another order differ in the last digits: a limit reached exactly is met.
_ROUNDING = 1 + 1e-12


@dataclass(frozen=True, slots=True)
class DerivedCosts:
    """The candidates of highest score with T <= T_const, as a split problem.

    `names` are the candidates by layer (empty text where there is no choice), `score` their sum, `bound` an
    upper bound on that of every architecture with T <= T_const, `devices` and `latency_s` the best split (the
    device of each layer) and its T.
    """

    problem: SplitProblem
    indices: tuple[int, ...]
    names: tuple[str, ...]
    t_const_s: float
    devices: tuple[int, ...]
    latency_s: float
    score: float
    bound: float

    @property
    def proven(self) -> bool:
        """Whether no architecture with T <= T_const has a higher score."""
        return self.bound <= self.score


def derive_from_costs(
    costs: CandidateCosts, t_const_s: float, encoding: str, policy: str, min_layers: int = 0
) -> DerivedCosts:
    """Choose a candidate for each layer so that the sum of scores is the highest with T <= `t_const_s`.

    T is that of the best split under the policy and the limits. Raises InfeasibleError when no architecture
    meets T_const, InputError when model or devices are no chain.
    """
    lut = candidate_lut(costs, encoding, policy, min_layers)
    fastest_s, _ = lut.best_path(costs.tau_NRM.min(axis=1))
    if fastest_s > t_const_s * _ROUNDING:
        raise _too_slow(costs, t_const_s, f"the fastest takes {format_duration(fastest_s)}")
    scaled_NR, scale = _scaled(costs)
    # A positive limit, as the bounds divide T_const into cells.
    high_s = max(t_const_s * _ROUNDING, np.finfo(float).tiny / np.finfo(float).eps)
    found = derive(np.exp(scaled_NR), lut, 0.0, high_s)
    if found is None:
        raise _too_slow(costs, t_const_s, "the limits of the devices forbid every faster one")
    score = float(costs.score_NR[np.arange(len(found.indices)), list(found.indices)].sum())
    return DerivedCosts(
        problem=costs.chosen(found.indices),
        indices=found.indices,
        names=tuple(own[i] for own, i in zip(costs.names, found.indices, strict=True)),
        t_const_s=t_const_s,
        devices=found.placement.devices,
        latency_s=found.latency_s,
        score=score,
        bound=score + (0.0 if found.optimal else found.gap * scale),
    )


def _too_slow(costs: CandidateCosts, t_const_s: float, reason: str) -> InfeasibleError:
    return InfeasibleError(
        f"no choice of candidates of {costs.problem.model} has T <= {format_duration(t_const_s)}: {reason}. "
        "Raise --t-const or the limits"
    )


def _scaled(costs: CandidateCosts) -> tuple[FloatArray, float]:
    """Scores below the best of their layer, in nats, and the score of one nat."""
    below_NR = costs.score_NR - costs.score_NR.max(axis=1, keepdims=True)
    scale = float(-below_NR.min()) / _RANGE_NATS or 1.0
    return below_NR / scale, scale


def candidate_lut(costs: CandidateCosts, encoding: str, policy: str, min_layers: int) -> ChainLUT:
    """Make the latency table of the candidates on a chain of devices. Raises InputError, InfeasibleError."""
    problem = costs.problem
    if not (problem.is_chain and problem.is_chain_topology):
        raise InputError(
            f"--t-const chooses candidates for a chain of layers on a chain of devices, got {problem.model} "
            f"on {', '.join(problem.names)}: expected a table without `after` and [tree], and each device "
            "linked to the next"
        )
    epsilon_LM, limits = problem.epsilon_LM(encoding), problem.limits(encoding, min_layers)
    counts = DeviceLimits(limits.min_layers_M, limits.max_layers_M)
    moves = allowed_moves(epsilon_LM, policy, counts, problem.return_M, problem.call_M)
    states, moves_LSS = concatenate_moves((moves,))
    return ChainLUT(
        devices=problem.names,
        policy=policy,
        U_NRM=costs.tau_NRM,
        mask_NR=costs.mask_NR,
        epsilon_LM=epsilon_LM,
        moves_LMM=moves_LSS,
        sent_LM=np.repeat(problem.sent_bytes_L(encoding)[:, None], problem.M, axis=1),
        states=() if states == tuple(range(problem.M)) else states,
        return_M=problem.return_M,
        limits=counts,
        resources=_resources(costs, epsilon_LM),
        call_M=problem.call_M,
    )


def _resources(costs: CandidateCosts, epsilon_LM: FloatArray) -> tuple[Resource, ...]:
    problem, shape = costs.problem, costs.tau_NRM.shape
    memory_M, energy_M = (
        np.array([np.inf if limit is None else limit for limit in own])
        for own in ([d.memory_bytes for d in problem.devices], [d.energy_j for d in problem.devices])
    )
    weights_NRM = np.broadcast_to(costs.weight_bytes_NR[:, :, None], shape)
    joules_NRM = costs.tau_NRM * problem.power_w_M
    sent_LM = epsilon_LM * problem.send_power_w_M
    none_NR = np.zeros(shape[:2])
    return (
        Resource("memory", weights_NRM, costs.peak_bytes_NR, np.zeros_like(epsilon_LM), memory_M),
        Resource("energy", joules_NRM, none_NR, sent_LM, energy_M),
    )
