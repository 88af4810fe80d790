"""Placement of a DAG as a mixed-integer linear program, for segments with too many placements to enumerate.

Variables: x_nm, unit n runs on m; z_iab, output i is made on a and needed on b (continuous, the shares of x);
f_n, the end of unit n. Two units that no path orders run in the model's order where they share a device.
Solved by HiGHS (scipy.optimize.milp), which gives a lower bound where it runs out of time.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from jmsnas.arrays import IntArray
from jmsnas.nas.split.dag import Dag


class _Rows:
    """Rows of a sparse constraint matrix: lower <= sum of coefficient x column <= upper."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, int, float]] = []
        self.lower: list[float] = []
        self.upper: list[float] = []

    def add(self, terms: Sequence[tuple[int, float]], lower: float, upper: float = np.inf) -> None:
        self.entries += [(len(self.lower), column, factor) for column, factor in terms]
        self.lower.append(lower)
        self.upper.append(upper)

    def constraint(self, columns: int) -> LinearConstraint:
        rows, cols, factors = zip(*self.entries, strict=True)
        matrix = coo_array((factors, (rows, cols)), shape=(len(self.lower), columns)).tocsr()
        return LinearConstraint(matrix, self.lower, self.upper)


def solve_milp(
    dag: Dag, source: int, devices: Sequence[IntArray], most_s: float, limit_s: float
) -> tuple[float, tuple[int, ...] | None]:
    """Find the placement in which the last unit finishes first.

    `devices` lists those that each unit may run on; `most_s`, a finish that is known to be reachable, bounds
    all times from above; the solver stops after `limit_s` seconds. Returns a lower bound in seconds, and the
    placement found, or None where none was found in time.
    """
    x, z, f = _columns(dag, devices)
    columns = f[-1] + 1
    rows = _Rows()
    for n in range(1, dag.N + 1):
        rows.add([(x[n, m], 1.0) for m in devices[n - 1].tolist()], 1.0, 1.0)
    _transfers(rows, dag, source, devices, x, z, f)
    _device_order(rows, dag, devices, x, f, most_s)
    integrality, upper = np.zeros(columns), np.ones(columns)
    integrality[list(x.values())] = 1
    upper[f] = most_s * (1 + 1e-9)
    objective = np.zeros(columns)
    objective[f[-1]] = 1.0
    # The gap is that of the solver's arithmetic only; the caller computes T of the placement again.
    options = {"time_limit": limit_s, "mip_rel_gap": 0.0}
    found = milp(
        objective,
        integrality=integrality,
        bounds=Bounds(0.0, upper),
        constraints=rows.constraint(columns),
        options=options,
    )
    bound_s = float(found.mip_dual_bound) if found.mip_dual_bound is not None else 0.0
    if found.x is None:
        return bound_s, None
    placed = tuple(max(own.tolist(), key=lambda m: found.x[x[n, m]]) for n, own in enumerate(devices, 1))
    return bound_s, placed


_X = dict[tuple[int, int], int]
_Z = dict[tuple[int, int, int, int], int]


def _columns(dag: Dag, devices: Sequence[IntArray]) -> tuple[_X, _Z, list[int]]:
    x = {key: n for n, key in enumerate((n, m) for n in range(1, dag.N + 1) for m in devices[n - 1].tolist())}
    edges = [(i, n) for n, outputs in enumerate(dag.inputs, 1) for i in outputs if i > 0]
    keys = ((i, n, a, b) for i, n in edges for a in devices[i - 1].tolist() for b in devices[n - 1].tolist())
    z = {key: len(x) + n for n, key in enumerate(keys)}
    first = len(x) + len(z)
    return x, z, list(range(first, first + dag.N))


def _transfers(
    rows: _Rows, dag: Dag, source: int, devices: Sequence[IntArray], x: _X, z: _Z, f: list[int]
) -> None:
    """Add the constraints that a unit ends after each of its inputs has arrived and it has run."""
    for n, outputs in enumerate(dag.inputs, 1):
        own = devices[n - 1].tolist()
        runs = [(x[n, m], -float(dag.tau_NM[n - 1, m])) for m in own]
        for i in outputs:
            if i == 0:
                brought = [
                    (x[n, m], -float(dag.routed_LMM[0, source, m] + dag.tau_NM[n - 1, m])) for m in own
                ]
                rows.add([(f[n - 1], 1.0), *brought], 0.0)
                continue
            senders = devices[i - 1].tolist()
            for a in senders:
                rows.add([(x[i, a], -1.0), *((z[i, n, a, b], 1.0) for b in own)], 0.0, 0.0)
            for b in own:
                rows.add([(x[n, b], -1.0), *((z[i, n, a, b], 1.0) for a in senders)], 0.0, 0.0)
            moved = [(z[i, n, a, b], -float(dag.routed_LMM[i, a, b])) for a in senders for b in own]
            rows.add([(f[n - 1], 1.0), (f[i - 1], -1.0), *runs, *moved], 0.0)


def _device_order(
    rows: _Rows, dag: Dag, devices: Sequence[IntArray], x: _X, f: list[int], most_s: float
) -> None:
    """Add the constraints that units on one device run one after another, and the end is after its work."""
    before = _ancestors(dag)
    for n in range(1, dag.N + 1):
        for i in range(1, n):
            for m in [] if i in before[n] else np.intersect1d(devices[i - 1], devices[n - 1]).tolist():
                runs = [(x[n, k], -float(dag.tau_NM[n - 1, k])) for k in devices[n - 1].tolist()]
                both = [(x[i, m], -most_s), (x[n, m], -most_s)]
                rows.add([(f[n - 1], 1.0), (f[i - 1], -1.0), *runs, *both], -2 * most_s)
    for m in range(dag.M):
        work = [(x[n, m], -float(dag.tau_NM[n - 1, m])) for n in range(1, dag.N + 1) if (n, m) in x]
        if work:
            rows.add([(f[-1], 1.0), *work], 0.0)


def _ancestors(dag: Dag) -> list[set[int]]:
    before: list[set[int]] = [set()]
    for outputs in dag.inputs:
        before.append(set(outputs).union(*(before[i] for i in outputs)))
    return before


def normalised(dag: Dag) -> tuple[Dag, float]:
    """Scale a DAG to a longest time of 1, as the solver's tolerances need; returns it and the unit in s."""
    finite = np.concatenate([part[np.isfinite(part)].ravel() for part in (dag.tau_NM, dag.routed_LMM)])
    unit_s: float = float(finite.max(initial=0.0)) or 1.0
    return Dag(dag.tau_NM / unit_s, dag.routed_LMM / unit_s, dag.inputs), unit_s
