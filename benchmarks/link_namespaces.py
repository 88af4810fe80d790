"""Links of Table I between network namespaces: veth pairs shaped by `tc tbf` at both ends. Needs root.

tbf counts 1514 bytes on the wire for 1448 of payload, and does not limit the first `burst` bytes: rate x
1514/1448 and burst 3200 give the payload the nominal rate.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# Rate of outgoing links by device; 200 for others.
RATES_MBPS = {"ue": 25, "sbs": 50}
_BURST, _WIRE, _PAYLOAD = "3200", 1514, 1448


def sh(*command: str) -> None:
    """Run a command. Raises RuntimeError with its output if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def namespace(device: str) -> str:
    """Name of the namespace of a device."""
    return f"jmsnas-{os.getpid()}-{device}"


@contextmanager
def namespaces(names: Sequence[str], links: Sequence[tuple[str, str]]) -> Iterator[dict[str, str]]:
    """Make a namespace per device, a shaped link per pair, and an unshaped link from this host to each.

    Gives each device's address: others reach it over their own link, this process over the unshaped one.
    """
    try:
        for n, name in enumerate(names):
            _device(n, namespace(name))
        for n, (one, other) in enumerate(links):
            _link(n, names.index(one), names.index(other), namespace(one), namespace(other), one)
        yield {name: f"10.79.0.{n + 1}" for n, name in enumerate(names)}
    finally:
        for n, name in enumerate(names):
            for command in (("ip", "netns", "del", namespace(name)), ("ip", "link", "del", _here(n))):
                subprocess.run(command, capture_output=True, check=False)


def _here(n: int) -> str:
    return f"jh{os.getpid() % 100000}{n}"


def _device(n: int, space: str) -> None:
    sh("ip", "netns", "add", space)
    sh("ip", "-n", space, "link", "set", "lo", "up")
    sh("ip", "link", "add", _here(n), "type", "veth", "peer", "name", "home", "netns", space)
    sh("ip", "addr", "add", f"10.78.{n}.1/30", "dev", _here(n))
    sh("ip", "link", "set", _here(n), "up")
    sh("ip", "-n", space, "addr", "add", f"10.78.{n}.2/30", "dev", "home")
    sh("ip", "-n", space, "link", "set", "home", "up")
    sh("ip", "-n", space, "addr", "add", f"10.79.0.{n + 1}/32", "dev", "lo")
    sh("ip", "route", "replace", f"10.79.0.{n + 1}/32", "via", f"10.78.{n}.2")


def _link(n: int, a: int, b: int, one: str, other: str, source: str) -> None:
    pair = ("type", "veth", "peer", "name", f"l{n}b", "netns", other)
    sh("ip", "-n", one, "link", "add", f"l{n}a", *pair)
    rate = round(RATES_MBPS.get(source, 200) * 1e6 * _WIRE / _PAYLOAD)
    shape = ("tbf", "rate", f"{rate}bit", "burst", _BURST, "latency", "400ms")
    ends = ((one, f"l{n}a", a, b, 1), (other, f"l{n}b", b, a, 2))
    for space, device, _, _, number in ends:
        sh("ip", "-n", space, "addr", "add", f"10.80.{n}.{number}/30", "dev", device)
        sh("ip", "-n", space, "link", "set", device, "up")
        sh("tc", "-n", space, "qdisc", "add", "dev", device, "root", *shape)
    for space, device, own, far, number in ends:
        to = ("via", f"10.80.{n}.{3 - number}", "dev", device, "src", f"10.79.0.{own + 1}")
        sh("ip", "-n", space, "route", "replace", f"10.79.0.{far + 1}/32", *to)
