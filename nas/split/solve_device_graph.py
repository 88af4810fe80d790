"""The best split of a chain of layers over any graph of devices, exactly: a layered shortest path.

State: layer n has just run on device m. Between two layers the output may take any way through the links,
so a step relaxes over single links until nothing gets faster; ways known from a few sizes make the first
relaxation nearly always the last. O(N M^2).
"""

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import InfeasibleError
from jmsnas.nas.split.links import Array, LinkArrays

# Sizes whose fastest ways are worked out beforehand; only the number of relaxations depends on it.
_KNOWN_SIZES = 2
# How many devices the guess starts from: those that finish a layer first are nearly always the ones to send.
_FIRST = 12


@dataclass(frozen=True, slots=True)
class GraphSplit:
    """Where each layer runs and which way each output takes.

    `latency_s` is T in seconds, `devices` the device of each layer (N), `ways` the devices output n passes,
    from the one that made it to the one that needs it, both among them (N + 1; output 0 is the raw input).
    """

    latency_s: float
    devices: tuple[int, ...]
    routes: tuple[tuple[int, ...], ...]


def solve_device_graph(
    tau_NM: Array,
    sent_bytes_L: Array,
    links: LinkArrays,
    source: int = 0,
    target: int | None = None,
    back_M: Array | None = None,
) -> GraphSplit:
    """Find the least T over all ways to place the layers on a graph of devices.

    ``T = sum_n (tau_n^{m(n)} + sum of epsilon over the links that output n takes)``: equation (1) where the
    devices need not stand in line and a device may be met again.

    Parameters
    ----------
    tau_NM
        Seconds of layer n on device m; infinite where it may not run.
    sent_L
        Bytes of output n as float32; row 0 the encoded raw input. (N + 1)
    source
        The device that holds the raw input.
    target
        The device that needs the result, or None where it may stay.
    back_M
        Seconds from the device where the result is in the end to where it goes back to.

    Returns
    -------
    A split that is proven optimal.

    Raises
    ------
    TargetError
        When no way leads through all layers.
    """
    N, M = tau_NM.shape
    # before_LM: output n is made on m; after_LM: it has reached m.
    before_LM, after_LM = np.full((N + 1, M), np.inf), np.empty((N + 1, M))
    before_LM[0, source] = 0.0
    after_LM[0] = _spread(
        before_LM[0], float(sent_bytes_L[0]), _hops(links.delay_MM, links.input_per_byte_MM)
    )
    known = _known_ways(sent_bytes_L[1:], links)
    hops = _hops(*_undominated(links, known))
    for n in range(1, N + 1):
        before_LM[n] = after_LM[n - 1] + tau_NM[n - 1]
        sent_bytes = float(sent_bytes_L[n])
        after_LM[n] = _spread(_guess(before_LM[n], sent_bytes, known), sent_bytes, hops)
    ends_M = before_LM[N] if target is None else after_LM[N]
    ends_M = ends_M if back_M is None else ends_M + back_M
    last = int(ends_M.argmin()) if target is None else target
    if not np.isfinite(ends_M[last]):
        raise InfeasibleError(f"no split of {N} layers over {M} devices: no way leads through all of them")
    if target is None:
        after_LM[N] = before_LM[N]
    found = _walk_back(before_LM, after_LM, tau_NM, sent_bytes_L, links, last)
    back_s = 0.0 if back_M is None else float(back_M[last])
    return replace(found, latency_s=found.latency_s + back_s)


@dataclass(frozen=True, slots=True)
class _Ways:
    """Delay and seconds a byte of the way between each two devices that is the fastest at one size."""

    size: float
    delay_MM: Array
    per_byte_MM: Array


@dataclass(frozen=True, slots=True)
class _Hops:
    """Single links by the device they lead to: column m lists D sources, padded by m itself at infinity."""

    sources_DM: NDArray[np.intp]
    delay_DM: Array
    per_byte_DM: Array


def _known_ways(sizes: Array, links: LinkArrays) -> list[_Ways]:
    """Work out the fastest ways at a few of the sizes; at one where there are no delays, which suits all."""
    delays = np.isfinite(links.delay_MM) & (links.delay_MM > 0)
    distinct = np.unique(sizes)
    places = np.linspace(0, len(distinct) - 1, _KNOWN_SIZES if delays.any() else 1).astype(int)
    chosen = [max(float(size), 1e-9) for size in distinct[np.unique(places)]]
    return [_Ways(size, *_sums_along(links.routed_MM(size)[1], links)) for size in chosen]


def _sums_along(before_MM: NDArray[np.int32], links: LinkArrays) -> tuple[Array, Array]:
    """Add up delay and seconds a byte along the way between each two devices, all ways at once."""
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


def _undominated(links: LinkArrays, known: list[_Ways]) -> tuple[Array, Array]:
    """Leave out links that lose to a known way both in delay and in seconds a byte: no output takes them."""
    delay_MM = links.delay_MM.copy()
    for ways in known:
        slower = (ways.delay_MM <= links.delay_MM) & (ways.per_byte_MM < links.per_byte_MM * (1 - 1e-9))
        delay_MM[slower & np.isfinite(ways.delay_MM)] = np.inf
    return delay_MM, links.per_byte_MM


def _hops(delay_MM: Array, per_byte_MM: Array) -> _Hops:
    M = len(delay_MM)
    linked = np.isfinite(delay_MM) & ~np.eye(M, dtype=bool)
    most = int(linked.sum(axis=0).max(initial=0))
    sources_DM = np.argsort(~linked, axis=0, kind="stable")[:most]
    own = (sources_DM, np.arange(M))
    there = linked[own]
    per_byte_DM = np.where(there, per_byte_MM[own], 0.0)
    return _Hops(sources_DM, np.where(there, delay_MM[own], np.inf), per_byte_DM)


def _guess(done_M: Array, sent_bytes: float, known: list[_Ways]) -> Array:
    """Bound from above when an output is on each device: by known ways, from those that made it first."""
    ways = min(known, key=lambda ways: abs(ways.size - sent_bytes))
    first = done_M.argpartition(_FIRST)[:_FIRST] if len(done_M) > _FIRST else slice(None)
    reached = ways.per_byte_MM[first] * sent_bytes
    reached += ways.delay_MM[first]
    reached += done_M[first, None]
    guess_M: Array = np.minimum(done_M, np.minimum.reduce(reached, axis=0))
    return guess_M


def _spread(done_M: Array, sent_bytes: float, hops: _Hops) -> Array:
    """Least seconds until an output is on each device: relax over single links until nothing gets faster."""
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


def _walk_back(
    before_LM: Array, after_LM: Array, tau_NM: Array, sent_bytes_L: Array, links: LinkArrays, last: int
) -> GraphSplit:
    """Find who sent each output, from the last device back; T is added up anew along what is found."""
    devices, ways, latency_s = [last], [], 0.0
    for n in range(len(tau_NM), -1, -1):
        way = _way_back(before_LM[n], after_LM[n], links, float(sent_bytes_L[n]), n == 0, devices[-1])
        epsilon_MM = links.epsilon_MM(sent_bytes_L[n], n == 0) if len(way) > 1 else None
        if epsilon_MM is not None:
            latency_s += sum(float(epsilon_MM[hop]) for hop in itertools.pairwise(way))
        ways.append(way)
        if n > 0:
            latency_s += float(tau_NM[n - 1, way[0]])
            devices.append(way[0])
    return GraphSplit(latency_s, tuple(reversed(devices[1:])), tuple(reversed(ways)))


def _way_back(
    before_M: Array, after_M: Array, links: LinkArrays, sent_bytes: float, raw: bool, target: int
) -> tuple[int, ...]:
    """Follow links that are used in full, from `target` back to a device where the output was made."""
    slack = 1 + 1e-12
    per_byte_MM = links.input_per_byte_MM if raw else links.per_byte_MM
    onward, edge = {target: target}, [target]
    for at in edge:
        if before_M[at] <= after_M[at] * slack:
            way = [at]
            while way[-1] != target:
                way.append(onward[way[-1]])
            return tuple(way)
        linked = np.flatnonzero(np.isfinite(links.delay_MM[:, at]))
        epsilon = links.delay_MM[linked, at] + sent_bytes * per_byte_MM[linked, at]
        for m in linked[after_M[linked] + epsilon <= after_M[at] * slack].tolist():
            if m not in onward:
                onward[m] = at
                edge.append(m)
    raise AssertionError(f"output on device {target} came from nowhere")
