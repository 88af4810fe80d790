"""Candidates of each layer in a table of costs (`--costs FILE --t-const T`), with times, sizes and scores.

N layers, R candidates of the layer that has most, M devices. docs/split.md describes the format.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from jmsnas.arrays import BoolArray, FloatArray
from jmsnas.errors import InputError
from jmsnas.nas.split.general_topology import GeneralTopology
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.problem_file import CostTable, problem_of_table, read_cost_table

_MAX_CANDIDATES = 1000


@dataclass(frozen=True, slots=True)
class CandidateCosts:
    """Candidates of the layers of a split problem.

    Attributes
    ----------
    problem
        The problem with the first candidate of each layer.
    names
        For each layer its candidates; empty text for a layer without a choice.
    mask_NR
        True where layer n has a candidate r; the arrays repeat the last candidate elsewhere.
    score_NR
        Score of each candidate: an architecture's is the sum over its layers.
    tau_NRM, weight_bytes_NR, peak_bytes_NR
        As of `SplitProblem`, for each candidate.
    """

    problem: SplitProblem
    names: tuple[tuple[str, ...], ...]
    mask_NR: BoolArray
    score_NR: FloatArray
    tau_NRM: FloatArray
    weight_bytes_NR: FloatArray
    peak_bytes_NR: FloatArray

    def chosen(self, indices: Sequence[int]) -> SplitProblem:
        """Make the split problem of an architecture (candidate `indices[n]` at layer n)."""
        rows, columns = np.arange(len(indices)), list(indices)
        tau_NM = self.tau_NRM[rows, columns]
        names = [own[i] for own, i in zip(self.names, indices, strict=True)]
        return replace(
            self.problem,
            units=tuple(f"{k} {own}".rstrip() for k, own in zip(self.problem.units, names, strict=True)),
            tau_NM=tau_NM,
            low_NM=tau_NM,
            high_NM=tau_NM,
            weight_bytes_N=self.weight_bytes_NR[rows, columns],
            peak_bytes_N=self.peak_bytes_NR[rows, columns],
        )


def read_candidates(
    path: Path, topology: GeneralTopology | None = None
) -> tuple[CandidateCosts, dict[str, str]]:
    """Read the candidates of each layer from a table of costs; arguments and results as of `read_problem`.

    A layer without candidates has itself as the only one, of score 0. Raises InputError.
    """
    table = read_cost_table(path)
    _refuse_invalid(table, path)
    counts = [max(len(layer.candidate), 1) for layer in table.layer]
    problems = [problem_of_table(_take(table, r), path, topology) for r in range(max(counts, default=1))]
    scores = [[k.score for k in layer.candidate] or [0.0] for layer in table.layer]
    costs = CandidateCosts(
        problem=problems[0],
        names=tuple(tuple(k.name for k in layer.candidate) or ("",) for layer in table.layer),
        mask_NR=np.arange(len(problems)) < np.array(counts)[:, None],
        score_NR=np.array([own + [own[-1]] * (len(problems) - len(own)) for own in scores]),
        tau_NRM=np.stack([problem.tau_NM for problem in problems], axis=1),
        weight_bytes_NR=np.stack([problem.weight_bytes_N for problem in problems], axis=1),
        peak_bytes_NR=np.stack([problem.peak_bytes_N for problem in problems], axis=1),
    )
    own = {"input": table.input, "policy": table.policy}
    return costs, {key: value for key, value in own.items() if value is not None}


def _refuse_invalid(table: CostTable, path: Path) -> None:
    known = [layer.name for layer in table.layer]
    for layer in table.layer:
        if layer.candidate and known.count(layer.name) > 1:
            raise InputError(f"{path}: two layers {layer.name}: expected all candidates of a layer together")
        names = [k.name for k in layer.candidate]
        if len(names) > _MAX_CANDIDATES:
            raise InputError(
                f"{path}: layer {layer.name} has {len(names)} candidates: expected {_MAX_CANDIDATES} at most"
            )
        if layer.candidate and (layer.tau is not None or layer.weights or layer.peak):
            raise InputError(
                f"{path}: layer {layer.name} has candidates, and tau, weights or peak of its own: expected "
                "these of each candidate"
            )
        if len(set(names)) < len(names):
            raise InputError(f"{path}: layer {layer.name} names a candidate twice: expected each once")
        if bad := [k.name for k in layer.candidate if not math.isfinite(k.score)]:
            raise InputError(
                f"{path}: candidate {bad[0]} of {layer.name} has no finite score: expected a number"
            )


def _take(table: CostTable, r: int) -> CostTable:
    """Give each layer the costs of its candidate r, or of its last one."""
    layers = []
    for layer in table.layer:
        if layer.candidate:
            own = layer.candidate[min(r, len(layer.candidate) - 1)]
            layer = msgspec.structs.replace(
                layer, tau=own.tau, weights=own.weights, peak=own.peak, candidate=[]
            )
        layers.append(layer)
    return msgspec.structs.replace(table, layer=layers)
