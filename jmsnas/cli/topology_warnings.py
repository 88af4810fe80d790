"""Warn about measured figures of a topology that are old, or of other hosts than those of devices.toml."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from jmsnas.cli.terminal import warn
from jmsnas.device import Device
from jmsnas.topology import Link
from jmsnas.topology_figures import age_days
from jmsnas.workspace import Workspace

MAX_AGE_DAYS = 30.0
# Share by which the line of a link may miss its measured points before it is reported.
_MAX_LINE_ERROR = 0.2


def warn_of_figures(workspace: Workspace, devices: Sequence[Device], links: Sequence[Link]) -> None:
    """Print each of `figure_warnings` of a topology. Raises DeviceError for an invalid `devices.toml`."""
    if not (any(device.measured for device in devices) or any(link.measured for link in links)):
        return
    from jmsnas.deploy.transport.devices_file import read_devices_file

    agents = read_devices_file(workspace.devices_file)
    fingerprints = {name: agent.fingerprint for name, agent in agents.items()}
    for text in figure_warnings(devices, links, fingerprints, datetime.now(UTC)):
        warn(text)


def figure_warnings(
    devices: Sequence[Device], links: Sequence[Link], fingerprints: Mapping[str, str], now: datetime
) -> list[str]:
    """Describe figures older than 30 days, and devices whose agent has another certificate by now.

    `fingerprints` are those of `devices.toml`; a device that it lacks is not compared.
    """
    ages = {device.name: age_days(device.measured.at, now) for device in devices if device.measured}
    ages |= {
        f"{link.source} -> {link.target}": age_days(link.measured.at, now) for link in links if link.measured
    }
    old = {name: age for name, age in ages.items() if age > MAX_AGE_DAYS}
    others = [
        device.name
        for device in devices
        if device.measured
        and fingerprints.get(device.name, device.measured.fingerprint) != device.measured.fingerprint
    ]
    again = "To measure again: jmsnas topology collect NAME"
    warnings = []
    if old:
        warnings.append(
            f"figures of {', '.join(old)} are up to {max(old.values()):.0f} days old (expected at most "
            f"{MAX_AGE_DAYS:.0f}). {again}"
        )
    if others:
        warnings.append(
            f"figures of {', '.join(others)} are of other hosts: the certificate in devices.toml is not "
            f"that of the agent that was measured. {again}"
        )
    return warnings


def warn_of_lines(links: Sequence[Link]) -> None:
    """Warn of links whose line `delay + 8 b / rate`, which splits count, misses their measured times."""
    errors = {f"{link.source} -> {link.target}": line_error(link) for link in links}
    wrong = {name: error for name, error in errors.items() if error > _MAX_LINE_ERROR}
    if wrong:
        warn(
            f"delay + 8 b / rate of {', '.join(wrong)} differs by up to {max(wrong.values()):.0%} from the "
            "measured times of small messages: jmsnas split counts that line, jmsnas search these times"
        )


def line_error(link: Link) -> float:
    """Return the largest relative error of a link's line at a measured size; 0 where none was measured."""
    if not link.measured:
        return 0.0
    points = zip(link.measured.sizes, link.measured.medians_s, strict=True)
    return max(abs((link.delay_s + 8 * size / link.capacity_bps) / max(s, 1e-9) - 1) for size, s in points)
