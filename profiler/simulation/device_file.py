"""Device file of a simulated device: the constants of its roofline, each with its source.

docs/simulated_devices.md describes the keys. Files are validated strictly: no key is optional or unknown.
"""

import sys
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from jmsnas.errors import DeviceError

_Text = Annotated[str, Meta(min_length=1)]
_Positive = Annotated[float, Meta(gt=0, le=sys.float_info.max)]


class SourcedConstant(Struct, frozen=True, forbid_unknown_fields=True):
    """Constant of a device file and its source, as text."""

    value: _Positive
    source: _Text


class ElementwiseCosts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Costs of operators without multiply-accumulates: bytes per second, and seconds per launch."""

    bytes_per_s: SourcedConstant
    overhead_s: SourcedConstant


class MultiplyingCosts(ElementwiseCosts, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Costs of operators with multiply-accumulates: also MACs per second."""

    macs_per_s: SourcedConstant


class RooflineValidation(Struct, frozen=True, forbid_unknown_fields=True):
    """Agreement of a roofline with published rows that its constants were not fitted to.

    `against` describes the rows; `rank` is Spearman's correlation, `median_error` a relative error.
    """

    against: _Text
    rows: Annotated[int, Meta(ge=1)]
    rank: Annotated[float, Meta(ge=-1, le=1)]
    median_error: Annotated[float, Meta(ge=0, le=1)]


class RuntimeCosts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Constants of one runtime on a device.

    `evidence` is whether the constants are based on published measurements of the same processor design with
    a runtime of the same family (compiled graph, or eager); `basis` names them, or says why there are none.
    `checked` is None where no published table is available for validation.
    """

    evidence: bool
    basis: _Text
    per_call_s: SourcedConstant
    pointwise: MultiplyingCosts
    depthwise: MultiplyingCosts
    elementwise: ElementwiseCosts
    checked: RooflineValidation | None = None

    def __post_init__(self) -> None:
        """Refuse a validation without evidence."""
        if self.checked and not self.evidence:
            raise ValueError("`checked` is given but evidence = false, expected evidence = true")


class SimulatedDevice(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Simulated device: one thread, batch 1, float32, on its `processor` (cuda for a GPU).

    `dated` is the date of its constants.
    """

    name: _Text
    description: _Text
    processor: Literal["cpu", "cuda"]
    dated: date
    onnxruntime: RuntimeCosts
    torch: RuntimeCosts

    @property
    def runtimes(self) -> dict[str, RuntimeCosts]:
        """Constants by runtime."""
        return {"onnxruntime": self.onnxruntime, "torch": self.torch}


def device_from_toml(document: Mapping[str, Any], where: str) -> SimulatedDevice:
    """Convert a TOML document to a simulated device; `where` is the file's name in messages.

    Raises DeviceError for a key that is unknown, missing or of the wrong type; the message has its path in
    the file.
    """
    try:
        return msgspec.convert(document, SimulatedDevice, builtin_types=(date,))
    except msgspec.ValidationError as error:
        raise DeviceError(f"{where} is not a device file: {error}. See docs/simulated_devices.md") from error
