"""Current estimators and predictions of a run's devices and layers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jmsnas.cost import cost
from jmsnas.device import Device
from jmsnas.errors import InputError
from jmsnas.estimators.evaluation.evaluate import Evaluation
from jmsnas.estimators.lookup import DeviceModel, serving_model
from jmsnas.estimators.prediction import predict_blocks
from jmsnas.nas.run_result import EstimatorSummary
from jmsnas.nas.split.placement import LatencyTerm
from jmsnas.space import Block, Candidate, SearchSpace
from jmsnas.workspace import Workspace


@dataclass(frozen=True, slots=True)
class DeviceData:
    """A device of the run, and its estimator in the workspace.

    Attributes
    ----------
    origin, unseen_mape
        Recorded by the run: origin of the rows (`jmsnas.origin`), MAPE of U(.) on unseen geometries.
    model
        Current U(.) and its rows in the workspace; None if it has none.
    problem
        Why there is none, or how it differs from that of the run; possibly empty.
    """

    device: Device
    origin: str
    unseen_mape: float
    model: DeviceModel | None
    problem: str

    @property
    def simulated(self) -> bool:
        """Whether any row was simulated."""
        return self.origin == "simulated"

    @property
    def published(self) -> bool:
        """Whether U(.) was fitted to a published table."""
        return self.origin == "published"

    @property
    def evaluation(self) -> Evaluation | None:
        """Evaluation of U(.) on held-out geometries; None without U(.)."""
        return self.model.estimator.evaluation if self.model else None


@dataclass(frozen=True, slots=True)
class LayerData:
    """A layer of the derived model, with the current U(.) of its block on its device.

    `tau_s`, its interval (95 % of a measured row, 90 % of a prediction) and `source` are empty without U(.).
    """

    number: int
    geometry: str
    candidate: Candidate
    device: str
    macs: int | None
    tau_s: float | None = None
    low_s: float | None = None
    high_s: float | None = None
    source: str = ""


def read_device_data(workspace: Workspace, device: Device, estimator: EstimatorSummary) -> DeviceData:
    """Read the current U(.) of a run's device; `estimator` summarises the one that the run used."""
    origin, mape = estimator.origin, estimator.unseen_mape
    try:
        model = serving_model(workspace, device.table, device.runtime, refit=False)
    except InputError as error:
        return DeviceData(device, origin, mape, None, str(error))
    assert model  # without `refit`, a missing one raises
    current = model.estimator
    same = current.origin == origin and math.isclose(current.evaluation.model.mape, mape)
    problem = (
        "" if same else "U(.) was fitted to other rows after this run: the errors shown are of the new one"
    )
    return DeviceData(device, origin, mape, model, problem)


def layer_data(
    candidates: Sequence[Candidate],
    terms: Sequence[LatencyTerm],
    geometries: Sequence[str],
    space: SearchSpace | None,
    devices: Sequence[DeviceData],
) -> tuple[LayerData, ...]:
    """Predict each layer of the derived model on its device, in the model's order.

    `space` is that of the run; without it the predictions are empty.
    """
    by_name, rows = {device.device.name: device for device in devices}, []
    for n, name in sorted((n, term.device) for term in terms for n in term.layers):
        block = Block(candidates[n - 1], space.layers[n - 1]) if space else None
        rows.append(_layer(n, str(geometries[n - 1]), candidates[n - 1], by_name[name], block))
    return tuple(rows)


def _layer(
    number: int, geometry: str, candidate: Candidate, device: DeviceData, block: Block | None
) -> LayerData:
    name = device.device.name
    macs = cost(block).macs if block else None
    if not (block and device.model):
        return LayerData(number, geometry, candidate, name, macs)
    (found,) = predict_blocks(device.model, [block])
    kind = "published" if found.from_row and device.published else found.kind
    source, seconds = f"{kind} row" if found.from_row else kind, (found.latency_s, found.low_s, found.high_s)
    return LayerData(number, geometry, candidate, name, macs, *seconds, source)
