"""Optimal split of a chain of layers over a graph of devices with any links: a layered shortest path.

State: layer n has just run on device m. Between two layers the output may take any route through the links,
so a step relaxes over single links until nothing gets faster; the fastest routes of a few sizes are computed
first, so that one relaxation is nearly always enough. O(N M^2).
"""

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.errors import InfeasibleError
from jmsnas.nas.split.links import LinkArrays

# Sizes whose fastest routes are computed first; only the number of relaxations depends on it.
_KNOWN_SIZES = 2
# Devices that the initial upper bound starts from: those that finish a layer first.
_FIRST = 12


@dataclass(frozen=True, slots=True)
class GraphSplit:
    """The device of each layer and the route of each output.

    `latency_s` is T in seconds, `devices` the device of each layer (N), `routes` the devices output n passes,
    from its producer to its consumer, both included (N + 1; output 0 is the raw input).
    """

    latency_s: float
    devices: tuple[int, ...]
    routes: tuple[tuple[int, ...], ...]


def solve_device_graph(
    tau_NM: FloatArray,
    sent_bytes_L: FloatArray,
    links: LinkArrays,
    source: int = 0,
    target: int | None = None,
    return_M: FloatArray | None = None,
    call_M: FloatArray | None = None,
) -> GraphSplit:
    """Find the placement of least T of a chain of layers on a graph of devices.

    ``T = sum_n (tau_n^{m(n)} + sum of epsilon over the links that output n takes)``: equation (1) where the
    devices need not form a chain and a device may be visited again. `call_M`: seconds to call a device, each
    time that the layers move to it, and for the first one; None for no cost. `tau_NM` is infinite where a
    layer may not run; `sent_bytes_L` counts outputs as float32 (row 0: the encoded raw input); `source`,
    `target` and `return_M` as in `solve_dag`. Raises InfeasibleError when no route leads through all layers.
    """
    N, M = tau_NM.shape
    call_M = np.zeros(M) if call_M is None else call_M
    # before_LM: output n is ready on m; after_LM: it has arrived at m.
    before_LM, after_LM = np.full((N + 1, M), np.inf), np.empty((N + 1, M))
    before_LM[0, source] = 0.0
    after_LM[0] = _relax(before_LM[0], float(sent_bytes_L[0]), _hops(links.delay_MM, links.input_per_byte_MM))
    known = _known_routes(sent_bytes_L[1:], links)
    hops = _hops(*_undominated(links, known))
    for n in range(1, N + 1):
        start_M = after_LM[n - 1] + call_M
        before_LM[n] = (np.minimum(before_LM[n - 1], start_M) if n > 1 else start_M) + tau_NM[n - 1]
        sent_bytes = float(sent_bytes_L[n])
        after_LM[n] = _relax(_upper_bound(before_LM[n], sent_bytes, known), sent_bytes, hops)
    ends_M = before_LM[N] if target is None else after_LM[N]
    ends_M = ends_M if return_M is None else ends_M + return_M
    last = int(ends_M.argmin()) if target is None else target
    if not np.isfinite(ends_M[last]):
        raise InfeasibleError(f"no split of {N} layers over {M} devices: no route leads through all of them")
    if target is None:
        after_LM[N] = before_LM[N]
    found = _trace_back(before_LM, after_LM, tau_NM, sent_bytes_L, links, last, call_M)
    back_s = 0.0 if return_M is None else float(return_M[last])
    return replace(found, latency_s=found.latency_s + back_s)


@dataclass(frozen=True, slots=True)
class _Routes:
    """Delay and seconds per byte of the fastest route at one size, between each pair of devices."""

    size: float
    delay_MM: FloatArray
    per_byte_MM: FloatArray


@dataclass(frozen=True, slots=True)
class _Hops:
    """Single links by target device: column m lists D sources, padded by m itself at infinity."""

    sources_DM: IntArray
    delay_DM: FloatArray
    per_byte_DM: FloatArray


def _known_routes(sizes: FloatArray, links: LinkArrays) -> list[_Routes]:
    """Find the fastest routes at a few of the sizes; at one size where no link has a delay."""
    delays = np.isfinite(links.delay_MM) & (links.delay_MM > 0)
    distinct = np.unique(sizes)
    places = np.linspace(0, len(distinct) - 1, _KNOWN_SIZES if delays.any() else 1).astype(int)
    chosen = [max(float(size), 1e-9) for size in distinct[np.unique(places)]]
    return [_Routes(size, *_sums_along(links.routed_MM(size)[1], links)) for size in chosen]


def _sums_along(before_MM: NDArray[np.int32], links: LinkArrays) -> tuple[FloatArray, FloatArray]:
    """Sum delay and seconds per byte along the route between each pair of devices."""
    rows = np.arange(links.M)[:, None]
    at_MM = np.broadcast_to(rows.T, before_MM.shape).copy()
    delay_MM, per_byte_MM = np.zeros(before_MM.shape), np.zeros(before_MM.shape)
    while (moving := (before_MM[rows, at_MM] >= 0)).any():
        hop = (before_MM[rows, at_MM][moving], at_MM[moving])
        delay_MM[moving] += links.delay_MM[hop]
        per_byte_MM[moving] += links.per_byte_MM[hop]
        at_MM[moving] = hop[0]
    delay_MM[at_MM != rows] = np.inf
    return delay_MM, per_byte_MM


def _undominated(links: LinkArrays, known: list[_Routes]) -> tuple[FloatArray, FloatArray]:
    """Drop links that a known route beats in both delay and seconds per byte: no output takes them."""
    delay_MM = links.delay_MM.copy()
    for routes in known:
        slower = (routes.delay_MM <= links.delay_MM) & (routes.per_byte_MM < links.per_byte_MM * (1 - 1e-9))
        delay_MM[slower & np.isfinite(routes.delay_MM)] = np.inf
    return delay_MM, links.per_byte_MM


def _hops(delay_MM: FloatArray, per_byte_MM: FloatArray) -> _Hops:
    M = len(delay_MM)
    linked = np.isfinite(delay_MM) & ~np.eye(M, dtype=bool)
    most = int(linked.sum(axis=0).max(initial=0))
    sources_DM = np.argsort(~linked, axis=0, kind="stable")[:most]
    own = (sources_DM, np.arange(M))
    there = linked[own]
    per_byte_DM = np.where(there, per_byte_MM[own], 0.0)
    return _Hops(sources_DM, np.where(there, delay_MM[own], np.inf), per_byte_DM)


def _upper_bound(done_M: FloatArray, sent_bytes: float, known: list[_Routes]) -> FloatArray:
    """Upper bound of the time an output arrives at each device: by known routes from its first producers."""
    routes = min(known, key=lambda routes: abs(routes.size - sent_bytes))
    first = done_M.argpartition(_FIRST)[:_FIRST] if len(done_M) > _FIRST else slice(None)
    reached = routes.per_byte_MM[first] * sent_bytes
    reached += routes.delay_MM[first]
    reached += done_M[first, None]
    bound_M: FloatArray = np.minimum(done_M, np.minimum.reduce(reached, axis=0))
    return bound_M


def _relax(done_M: FloatArray, sent_bytes: float, hops: _Hops) -> FloatArray:
    """Least seconds until an output is on each device, by relaxation over single links until convergence."""
    epsilon_DM = hops.per_byte_DM * sent_bytes
    epsilon_DM += hops.delay_DM
    while True:
        reached_DM = done_M.take(hops.sources_DM)
        reached_DM += epsilon_DM
        relaxed_M = np.minimum.reduce(reached_DM, axis=0, initial=np.inf)
        faster = relaxed_M < done_M * (1 - 1e-14)
        if not faster.any():
            return done_M
        done_M = np.where(faster, relaxed_M, done_M)


def _trace_back(
    before_LM: FloatArray,
    after_LM: FloatArray,
    tau_NM: FloatArray,
    sent_bytes_L: FloatArray,
    links: LinkArrays,
    last: int,
    call_M: FloatArray,
) -> GraphSplit:
    """Trace the device and route of each output back from the last device; T is summed along them."""
    devices, routes, latency_s = [last], [], 0.0
    for n in range(len(tau_NM), -1, -1):
        at = devices[-1]
        if 0 < n < len(tau_NM) and before_LM[n, at] <= after_LM[n, at] + call_M[at]:
            route: tuple[int, ...] = (at,)  # without a call
        else:
            route = _route_back(before_LM[n], after_LM[n], links, float(sent_bytes_L[n]), n == 0, at)
            latency_s += float(call_M[at]) if n < len(tau_NM) else 0.0
        epsilon_MM = links.epsilon_MM(sent_bytes_L[n], n == 0) if len(route) > 1 else None
        if epsilon_MM is not None:
            latency_s += sum(float(epsilon_MM[hop]) for hop in itertools.pairwise(route))
        routes.append(route)
        if n > 0:
            latency_s += float(tau_NM[n - 1, route[0]])
            devices.append(route[0])
    return GraphSplit(latency_s, tuple(reversed(devices[1:])), tuple(reversed(routes)))


def _route_back(
    before_M: FloatArray, after_M: FloatArray, links: LinkArrays, sent_bytes: float, raw: bool, target: int
) -> tuple[int, ...]:
    """Follow tight links from `target` back to a device that produced the output."""
    slack = 1 + 1e-12
    per_byte_MM = links.input_per_byte_MM if raw else links.per_byte_MM
    onward, edge = {target: target}, [target]
    for at in edge:
        if before_M[at] <= after_M[at] * slack:
            route = [at]
            while route[-1] != target:
                route.append(onward[route[-1]])
            return tuple(route)
        linked = np.flatnonzero(np.isfinite(links.delay_MM[:, at]))
        epsilon = links.delay_MM[linked, at] + sent_bytes * per_byte_MM[linked, at]
        for m in linked[after_M[linked] + epsilon <= after_M[at] * slack].tolist():
            if m not in onward:
                onward[m] = at
                edge.append(m)
    raise AssertionError(f"no producer of the output on device {target}")
