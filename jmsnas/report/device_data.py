"""What the workspace's estimators say of a run's devices and layers, now."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jmsnas.cost import cost
from jmsnas.device import Device
from jmsnas.errors import InputError
from jmsnas.estimators.evaluation.evaluate import Evaluation
from jmsnas.estimators.lookup import DeviceModel, external_folder, load_device_model
from jmsnas.estimators.prediction import predict_blocks
from jmsnas.nas.run_result import EstimatorSummary
from jmsnas.nas.split.placement import LatencyTerm
from jmsnas.profiler.simulation.roofline import serving_key
from jmsnas.profiler.table.parquet import read_table
from jmsnas.space import Block, Candidate, SearchSpace
from jmsnas.workspace import Workspace


@dataclass(frozen=True, slots=True)
class DeviceData:
    """A device of the run and what its latencies rest on.

    Attributes
    ----------
    origin, unseen_mape
        As the run wrote them down: what its rows were (`jmsnas.origin`), U(.)'s MAPE on unseen geometries.
    basis
        U(.) and its rows as the workspace has them now; None where it has none.
    trouble
        Why there is none, or in what it differs from the run's; empty where nothing is to be said.
    """

    device: Device
    origin: str
    unseen_mape: float
    basis: DeviceModel | None
    trouble: str

    @property
    def simulated(self) -> bool:
        """Whether any row was simulated."""
        return self.origin == "simulated"

    @property
    def published(self) -> bool:
        """Whether U(.) was fitted to a table that others published."""
        return self.origin == "published"

    @property
    def evaluation(self) -> Evaluation | None:
        """How good U(.) is on geometries it never saw."""
        return self.basis.estimator.evaluation if self.basis else None


@dataclass(frozen=True, slots=True)
class LayerData:
    """A layer of the derived network: `tau_s`, its 95 or 90 % interval and `basis` are empty without U(.)."""

    number: int
    geometry: str
    candidate: Candidate
    device: str
    tau_s: float | None
    low_s: float | None
    high_s: float | None
    basis: str
    macs: int | None


def read_device_data(workspace: Workspace, device: Device, estimator: EstimatorSummary) -> DeviceData:
    """Read U(.) of a device of a run as the workspace has it now; `estimator` is what the run used."""
    origin, mape = estimator.origin, estimator.unseen_mape
    try:
        folder = external_folder(workspace, device.table, device.runtime)
        if folder is None:
            table_now = workspace.table(device.table)
            keys = read_table(table_now).keys if table_now.exists() else ()
            key = serving_key(device.table, device.runtime, keys)
            folder = workspace.estimator(device.table, key.label)
        basis = load_device_model(folder)
    except InputError as error:
        return DeviceData(device, origin, mape, None, str(error))
    found = basis.estimator
    same = found.origin == origin and math.isclose(found.evaluation.model.mape, mape)
    trouble = "" if same else "U(.) was fitted to other rows since this run: its errors here are the new ones"
    return DeviceData(device, origin, mape, basis, trouble)


def layer_data(
    candidates: Sequence[Candidate],
    terms: Sequence[LatencyTerm],
    geometries: Sequence[str],
    space: SearchSpace | None,
    devices: Sequence[DeviceData],
) -> tuple[LayerData, ...]:
    """Say of each layer, in its network's order, where it runs and what U(.) says of it there.

    `space`: the run's, where it can be had; without it the seconds stay empty.
    """
    by_name, found = {facts.device.name: facts for facts in devices}, []
    for n, name in sorted((n, term.device) for term in terms for n in term.layers):
        block = Block(candidates[n - 1], space.layers[n - 1]) if space else None
        found.append(_layer(n, str(geometries[n - 1]), candidates[n - 1], by_name[name], block))
    return tuple(found)


def _layer(
    number: int, geometry: str, candidate: Candidate, facts: DeviceData, block: Block | None
) -> LayerData:
    name = facts.device.name
    macs = cost(block).macs if block else None
    if not (block and facts.basis):
        return LayerData(number, geometry, candidate, name, None, None, None, "", macs)
    (found,) = predict_blocks(facts.basis, [block])
    kind = "published" if found.from_row and facts.published else found.kind
    basis = f"{kind} row" if found.from_row else kind
    return LayerData(
        number, geometry, candidate, name, found.latency_s, found.low_s, found.high_s, basis, macs
    )
