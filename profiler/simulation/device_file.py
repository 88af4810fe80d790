"""A device file: the constants that a simulated device rests on, each with where it comes from.

docs/simulated_devices.md describes the keys. A file is read strictly: nothing is guessed or left out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from jmsnas.errors import DeviceError
from jmsnas.files import refuse_unknown_keys
from jmsnas.profiler.table.latency_table import PROCESSORS, RUNTIMES

_MULTIPLYING = ("macs_per_s", "bytes_per_s", "overhead_s")
_CLASS_KEYS = {
    "pointwise": _MULTIPLYING,
    "depthwise": _MULTIPLYING,
    "elementwise": ("bytes_per_s", "overhead_s"),
}


@dataclass(frozen=True, slots=True)
class SourcedConstant:
    """A number of a device file and where it comes from, in words."""

    value: float
    source: str


@dataclass(frozen=True, slots=True)
class OperatorClassCosts:
    """What operators of one class cost: MACs a second (infinite where there are none), bytes a second, s."""

    macs_per_s: SourcedConstant
    bytes_per_s: SourcedConstant
    overhead_s: SourcedConstant


@dataclass(frozen=True, slots=True)
class RooflineValidation:
    """How near a run time comes to published rows that its constants were not fitted to.

    `against` says which rows, in words; `rank` is Spearman's correlation, `median_error` a fraction.
    """

    against: str
    rows: int
    rank: float
    median_error: float


@dataclass(frozen=True, slots=True)
class RuntimeCosts:
    """The constants of one run time on a device.

    `evidence` says whether published measurements of the same processor design under a run time of the
    same family (compiled graph, or eager) stand behind them; `basis` which ones, or why there are none.
    `checked` is None where there is no table to hold them against.
    """

    evidence: bool
    basis: str
    checked: RooflineValidation | None
    per_call_s: SourcedConstant
    classes: Mapping[str, OperatorClassCosts]


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    """A device file: one thread, batch 1, float32, on its `processor` (cpu, or cuda where it is a GPU).

    `dated` is when its constants were written, ISO 8601.
    """

    name: str
    description: str
    processor: str
    dated: str
    runtimes: Mapping[str, RuntimeCosts]

    def constants(self) -> dict[str, SourcedConstant]:
        """Every constant by its dotted name in the file: `torch.depthwise.macs_per_s`."""
        found: dict[str, SourcedConstant] = {}
        for runtime, costs in self.runtimes.items():
            found[f"{runtime}.per_call_s"] = costs.per_call_s
            for name, of_class in costs.classes.items():
                for key in _CLASS_KEYS[name]:
                    found[f"{runtime}.{name}.{key}"] = getattr(of_class, key)
        return found


def device_from_toml(table: Mapping[str, Any], where: str) -> SimulatedDevice:
    """Make a device from a TOML document; docs/simulated_devices.md describes its keys.

    Raises
    ------
    DeviceError
        Naming the file and what is unknown, missing, or of the wrong kind in it.
    """
    refuse_unknown_keys(table, ("name", "description", "processor", "dated", *RUNTIMES), where, DeviceError)
    try:
        dated = table["dated"]
        if type(dated) is not date:
            raise DeviceError(f"{where} has dated = {dated!r}: expected a date such as 2026-11-23")
        if table["processor"] not in PROCESSORS:
            raise DeviceError(
                f"{where} has processor = {table['processor']!r}: expected one of {', '.join(PROCESSORS)}"
            )
        return SimulatedDevice(
            name=_text(table, "name", where),
            description=_text(table, "description", where),
            processor=table["processor"],
            dated=dated.isoformat(),
            runtimes={
                runtime: _runtime_costs(table[runtime], f"{where} [{runtime}]") for runtime in RUNTIMES
            },
        )
    except KeyError as error:
        raise DeviceError(f"{where} lacks the key {error}") from error


def _runtime_costs(table: Any, where: str) -> RuntimeCosts:
    _check_keys(table, ("evidence", "basis", "per_call_s", *_CLASS_KEYS), where, optional=("checked",))
    if not isinstance(table["evidence"], bool):
        raise DeviceError(f"{where} has evidence = {table['evidence']!r}: expected true or false")
    checked = _checked(table["checked"], f"{where} checked") if "checked" in table else None
    if checked and not table["evidence"]:
        raise DeviceError(f"{where} has checked but evidence = false: expected evidence = true")
    return RuntimeCosts(
        evidence=table["evidence"],
        basis=_text(table, "basis", where),
        checked=checked,
        per_call_s=_constant(table["per_call_s"], f"{where} per_call_s"),
        classes={name: _operator_costs(table[name], name, f"{where} {name}") for name in _CLASS_KEYS},
    )


def _checked(table: Any, where: str) -> RooflineValidation:
    _check_keys(table, ("against", "rows", "rank", "median_error"), where)
    rows = table["rows"]
    if type(rows) is not int or rows < 1:
        raise DeviceError(f"{where} has rows = {rows!r}: expected a whole number of 1 or more")
    return RooflineValidation(
        against=_text(table, "against", where),
        rows=rows,
        rank=_fraction(table, "rank", -1.0, where),
        median_error=_fraction(table, "median_error", 0.0, where),
    )


def _fraction(table: Mapping[str, Any], key: str, low: float, where: str) -> float:
    value = table[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= 1:
        raise DeviceError(f"{where} has {key} = {value!r}: expected a number from {low:g} to 1")
    return float(value)


def _operator_costs(table: Any, name: str, where: str) -> OperatorClassCosts:
    keys = _CLASS_KEYS[name]
    _check_keys(table, keys, where)
    found = {key: _constant(table[key], f"{where} {key}") for key in keys}
    rate = found.get("macs_per_s", SourcedConstant(math.inf, "these operators multiply nothing"))
    return OperatorClassCosts(rate, found["bytes_per_s"], found["overhead_s"])


def _constant(table: Any, where: str) -> SourcedConstant:
    _check_keys(table, ("value", "source"), where)
    value = table["value"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise DeviceError(f"{where} has value = {value!r}: expected a finite number above 0")
    return SourcedConstant(float(value), _text(table, "source", where))


def _check_keys(table: Any, keys: tuple[str, ...], where: str, optional: tuple[str, ...] = ()) -> None:
    if not isinstance(table, dict):
        raise DeviceError(f"{where} is {table!r}: expected a table with the keys {', '.join(keys)}")
    refuse_unknown_keys(table, (*keys, *optional), where, DeviceError)
    missing = [key for key in keys if key not in table]
    if missing:
        raise DeviceError(f"{where} lacks {', '.join(missing)}: expected the keys {', '.join(keys)}")


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    text = table[key]
    if not isinstance(text, str) or not text.strip():
        raise DeviceError(f"{where} has {key} = {text!r}: expected words")
    return text
