"""Synthetic meters: the files of RAPL domains and of INA3221 chips below a folder."""

from pathlib import Path

from synthetic_hosts import write

from jmsnas.profiler.host.energy_meters import EnergyMeter
from jmsnas.profiler.timing.energy import find_meter

RAPL = "sys/class/powercap/intel-rapl:%s"
HWMON = "sys/class/hwmon/hwmon%d"


def rapl(root: Path, domain: str, name: str, energy_uj: int, range_uj: int = 262143328850) -> None:
    folder = RAPL % domain
    found = {"name": name, "energy_uj": energy_uj, "max_energy_range_uj": range_uj}
    write(root, {f"{folder}/{file}": value for file, value in found.items()})


def ina3221(root: Path, chip: int, rails: dict[str, tuple[int, int]]) -> None:
    folder = HWMON % chip
    write(root, {f"{folder}/name": "ina3221", f"{folder}/in7_label": "sum of shunt voltages"})
    for channel, (label, (mv, ma)) in enumerate(rails.items(), start=1):
        write(root, {f"{folder}/in{channel}_label": label})
        write(root, {f"{folder}/in{channel}_input": mv, f"{folder}/curr{channel}_input": ma})


def meter_of(processor: str, root: Path) -> EnergyMeter:
    found = find_meter(processor, root)
    assert isinstance(found, EnergyMeter), found
    return found
