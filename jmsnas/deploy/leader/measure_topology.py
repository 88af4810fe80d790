"""Measure what the devices of a topology are, and its links on the data plane, by their agents."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.transport.link import MeasuredLink
from jmsnas.deploy.transport.responses import AgentInfo
from jmsnas.device import Device
from jmsnas.errors import DeployError
from jmsnas.progress import Progress
from jmsnas.topology import Link
from jmsnas.topology_figures import DeviceFigures, LinkFigures

# Bytes of the messages: activations of the layers of small and large models.
SIZES = (256, 1024, 4096, 16_384, 65_536, 262_144)
_ROUNDS = 15
# Transfers on each link at once for the rate under load, and the messages of each.
_AT_ONCE, _LOADED_MESSAGES = 2, 8
_RESAMPLES, _LEVELS = 400, (2.5, 97.5)

Pair = tuple[str, str]
Line = tuple[float, float]


def measured_devices(leader: Leader, devices: Sequence[Device], at: str) -> tuple[Device, ...]:
    """Return the devices with the cost of a call and the description that each agent reports.

    One agent is asked after the other, since some may share a host. An agent that emulates a device answers
    when that device would, so that its calls cost nothing more. `at` is the time of the measurement, ISO
    8601. Raises DeviceLostError, DeployError.
    """
    infos = {device.name: leader.clients[device.name].describe() for device in devices}
    return tuple(
        replace(
            device,
            call_s=0.0 if infos[device.name].emulate else infos[device.name].call_s,
            measured=_device_figures(infos[device.name], leader.agents[device.name].fingerprint, at),
        )
        for device in devices
    )


def _device_figures(info: AgentInfo, fingerprint: str, at: str) -> DeviceFigures:
    host = info.host
    torch = {"torch": host["torch"]} if "torch" in host else {}
    return DeviceFigures(
        at=at,
        fingerprint=fingerprint,
        processor=host.get("cpu", ""),
        board=host.get("board", ""),
        gpu=host.get("gpu", ""),
        system=host.get("system", ""),
        cores=_number(host.get("cores", "")),
        memory_bytes=float(_number(host.get("memory_bytes", ""))),
        emulates=info.emulate,
        versions={**info.versions, **torch},
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 16 else 0


def measured_links(
    leader: Leader, pairs: Sequence[Pair], at: str, progress: Progress, warn: Callable[[str], None]
) -> dict[Pair, Link]:
    """Measure the links of a topology at several sizes, both ways, then all at once.

    `pairs` are (source, target). Warns of a link whose way back, or whose rate under load, cannot be
    measured. Raises DeployError, which names the link, where its own way cannot be measured.
    """
    round_trips_s = {pair: _round_trip_s(leader, pair) for pair in pairs}
    there_and_back = list(pairs)
    for a, b in pairs:
        try:
            _round_trip_s(leader, (b, a))
            there_and_back.append((b, a))
        except DeployError as error:
            warn(f"{error}. Without it {a} -> {b} has no back_rate")
    fitted = leader.measure_links(there_and_back, SIZES, _ROUNDS, progress)
    try:
        loaded_bps = _loaded_rates_bps(leader, pairs)
    except DeployError as error:
        warn(f"no rate under load was measured: {error}")
        loaded_bps = {}
    return {
        (a, b): _link(fitted[a, b], fitted.get((b, a)), round_trips_s[a, b], loaded_bps.get((a, b)), at)
        for a, b in pairs
    }


def _round_trip_s(leader: Leader, pair: Pair) -> float:
    """Return the shortest round trip of a small message. Raises DeployError naming the link."""
    a, b = pair
    try:
        return leader.clients[a].link(leader.agents[b], (), clock=True).round_trip_ns * 1e-9
    except DeployError as error:
        raise DeployError(
            f"the link {a} -> {b} cannot be measured: {error}. Let {a} reach {leader.agents[b].data_address} "
            f"of {b}, also through firewalls"
        ) from None


def _link(
    there: MeasuredLink, back: MeasuredLink | None, round_trip_s: float, loaded_bps: float | None, at: str
) -> Link:
    delay_s, byte_s = fit_link_line(there.sizes, there.medians_s)
    delays_s, bytes_s = line_intervals(there.sizes, there.rounds_s)
    delays_s, bytes_s = _around(delays_s, delay_s), _around(bytes_s, byte_s)
    back_line = fit_link_line(back.sizes, back.medians_s) if back else None
    figures = LinkFigures(
        at=at,
        rate_interval_bps=(_rate_bps(bytes_s[1]), _rate_bps(bytes_s[0])),
        delay_interval_s=delays_s,
        round_trip_s=round_trip_s,
        sizes=there.sizes,
        medians_s=there.medians_s,
        loaded_rate_bps=loaded_bps,
        back_rate_bps=_rate_bps(back_line[1]) if back_line else None,
        back_delay_s=back_line[0] if back_line else None,
    )
    return Link(there.source, there.target, _rate_bps(byte_s), delay_s, measured=figures)


def _around(interval: Line, value: float) -> Line:
    """Widen an interval until it contains a value."""
    return min(interval[0], value), max(interval[1], value)


def _rate_bps(byte_s: float) -> float:
    return 8 / byte_s if byte_s > 0 else 1e15


def fit_link_line(sizes: Sequence[float], seconds: Sequence[float]) -> Line:
    """Fit seconds = a + b * bytes, a and b at least 0; return (a, b).

    b is by least squares, so that the large sizes determine it: a link that sends its first bytes faster (a
    token bucket) has the rate of the others. Then a is by least squares of relative errors.
    """
    x, y = np.asarray(sizes, dtype=float), np.maximum(np.asarray(seconds, dtype=float), 1e-7)
    b = max(0.0, float(np.polyfit(x, y, 1)[0]))
    return max(0.0, float(((y - b * x) / y**2).sum() / (1 / y**2).sum())), b


def line_intervals(sizes: Sequence[float], rounds_s: Sequence[Sequence[float]]) -> tuple[Line, Line]:
    """Return the 95 % intervals of a and of b of `fit_link_line`, by resampling the rounds."""
    rng, seconds = np.random.default_rng(0), np.asarray(rounds_s)
    drawn = rng.integers(len(seconds), size=(_RESAMPLES, len(seconds)))
    lines = [fit_link_line(sizes, np.median(seconds[rows], axis=0)) for rows in drawn]
    (a_low, b_low), (a_high, b_high) = np.percentile(lines, _LEVELS, axis=0).tolist()
    return (a_low, a_high), (b_low, b_high)


def _loaded_rates_bps(leader: Leader, pairs: Sequence[Pair]) -> Mapping[Pair, float]:
    """Send two streams of large messages on every link at once, and return the rate of each link."""
    sizes = [SIZES[-1]] * _LOADED_MESSAGES

    def send(pair: Pair) -> tuple[float, float]:
        began_s = time.monotonic()
        leader.clients[pair[0]].link(leader.agents[pair[1]], sizes)
        return began_s, time.monotonic()

    with ThreadPoolExecutor(max(1, _AT_ONCE * len(pairs))) as pool:
        calls = {pair: [pool.submit(send, pair) for _ in range(_AT_ONCE)] for pair in pairs}
    rates = {}
    for pair, sent in calls.items():
        begins_s, ends_s = zip(*(call.result() for call in sent), strict=True)
        rates[pair] = 8 * sum(sizes) * _AT_ONCE / (max(ends_s) - min(begins_s))
    return rates
