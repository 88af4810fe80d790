"""The steps of JMSNAS as functions: profile, fit_estimator, search, split, deploy, report.

Spaces, topologies, models and runs are given by name or by path, as on the command line; tables, estimators
and runs are kept in a `Workspace`. Every function is also an attribute of the package: `jmsnas.profile`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jmsnas.errors import InputError
from jmsnas.estimators.lookup import find_device_model
from jmsnas.estimators.store.estimator import Estimator
from jmsnas.nas.graph.model import Model
from jmsnas.nas.run_result import RunResult, find_run, newest_run
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.split.methods import SplitRequest, SplitResult
from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.progress import Progress, no_progress
from jmsnas.workspace import Workspace

if TYPE_CHECKING:
    from jmsnas.deploy.deploy_run import DeployResult
    from jmsnas.nas.derivation.derive_costs import DerivedCosts
    from jmsnas.nas.inspection.layer_list import LayerRow

_DEFAULT = Workspace(Path("jmsnas-workspace"))
_DEFAULT_CONFIG = SearchConfig()


def profile(
    device: str = "local",
    space: str = "digits",
    *,
    runtime: str = "onnxruntime",
    budget_s: float | None = None,
    workspace: Workspace = _DEFAULT,
    seed: int = 0,
    progress: Progress = no_progress,
) -> LatencyTable:
    """Measure the latency of every block of a search space on a device.

    The device is measured where this host is that device, and simulated from published figures elsewhere:
    `table.simulated` and each row's `kind` say which. The same call again measures what the table lacks.

    Parameters
    ----------
    device
        `local` (this host) or a built-in device: pi4, laptop, jetson, cloud, laptop-cpu, jetson-cpu,
        cloud-cpu.
    budget_s
        Seconds of sampling. None: until every row's 95 % interval is within 1 %, at most 0.6 s a block.
    seed
        Seed of the measuring order, of weights and of inputs.

    Returns
    -------
    The table, kept in `tables/DEVICE.parquet` of the workspace; latencies in seconds.

    Raises
    ------
    DeviceError
        For an unknown device.
    MeasurementError
        When nothing can be measured here.

    Examples
    --------
    >>> import jmsnas
    >>> table = jmsnas.profile("pi4")
    >>> table.simulated, table.rows[0].kind
    (True, 'simulated')
    """
    from jmsnas.profiler.plan import make_profile_plan
    from jmsnas.profiler.profile import ProfileOptions, profile_device
    from jmsnas.profiler.simulation.roofline import processor_of
    from jmsnas.profiler.table.latency_table import RuntimeKey
    from jmsnas.space_file import load_space

    plan = make_profile_plan(load_space(space, workspace.spaces), off_grid=16, parts=10, seed=seed)
    key = RuntimeKey(runtime, processor=processor_of(device))
    options = ProfileOptions(seed=seed, budget_s=budget_s, progress=progress)
    return profile_device(device, plan.subjects, [key], workspace, options).table


def fit_estimator(
    device: str = "local",
    *,
    runtime: str = "onnxruntime",
    workspace: Workspace = _DEFAULT,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Estimator:
    """Fit U(.), the latency of any block on a device, to the device's table; load it where it is current.

    Raises
    ------
    DeviceError
        For an unknown device.
    EstimatorError
        When the device has no table in the workspace, or too few rows.

    Examples
    --------
    >>> import jmsnas
    >>> table = jmsnas.profile("pi4")
    >>> U = jmsnas.fit_estimator("pi4")
    >>> block = jmsnas.Block.parse("mb_k5_e6_skip 32->32 28x28")
    >>> seconds, (low, high) = U.predict_s([block])[0], U.interval_s([block])
    >>> bool(low[0] < seconds < high[0])
    True
    """
    return find_device_model(workspace, device, runtime, seed=seed, progress=progress).estimator


def search(
    topology: str = "chain",
    *,
    space: str = "digits",
    dataset: str = "digits",
    config: SearchConfig = _DEFAULT_CONFIG,
    name: str = "search",
    workspace: Workspace = _DEFAULT,
    progress: Progress = no_progress,
) -> RunResult:
    """Search an architecture and its split over a topology, so that T <= T_const.

    A stopped search of the same name and settings goes on where it stopped; a finished one is read.

    Parameters
    ----------
    topology
        `chain`, `mesh`, `desk`, one of the workspace, or a `.toml` file.
    config
        T_const, epochs, seed and all other settings.
    name
        Name of the run: its folder is `runs/NAME` of the workspace.

    Raises
    ------
    InfeasibleError
        When no architecture meets T_const; nothing is trained then.
    InputError
        When the name belongs to a search of other settings.

    Examples
    --------
    >>> import jmsnas
    >>> config = jmsnas.SearchConfig(warmup_epochs=1, search_epochs=1, final_epochs=1)
    >>> run = jmsnas.search("chain", config=config, name="doctest")
    >>> run.derived.latency_s <= run.target.t_const_s
    True
    """
    from jmsnas.nas.search.run import RunOptions, SearchInputs, prepare_search, run_search

    setup = prepare_search(workspace, SearchInputs(topology, space, dataset), config.seed, progress)
    return run_search(workspace, name, setup, config, RunOptions(progress))


def load_model(
    model: str, *, size: int | None = None, width: float = 1.0, workspace: Workspace = _DEFAULT
) -> Model:
    """Load a neural network as a graph of units that `split` can place.

    Parameters
    ----------
    model
        `mobilenet_v1`, `_v2`, `_v3_small` or `_v3_large`, a classifier of torchvision by name, a file ending
        in `.onnx`, or the name of a finished run.
    size
        Height and width of the input image, pixels; None: 224, or that of a file or a run, which is fixed.
    width
        Width multiplier of a MobileNet.

    Raises
    ------
    InputError
        For an unknown name (the nearest names are given) or a model that cannot be read.

    Examples
    --------
    >>> import jmsnas
    >>> model = jmsnas.load_model("mobilenet_v2")
    >>> len(model.units), model.input_shape
    (19, (3, 224, 224))
    """
    from jmsnas.nas.load_model import load_model as find_model

    return find_model(workspace, model, size, width)


def split(
    model: str | Model,
    topology: str | None = None,
    *,
    method: str = "optimal",
    objective: str = "latency",
    policy: str | None = None,
    input_encoding: str | None = None,
    cuts: Sequence[int] | None = None,
    place: Mapping[str, Sequence[int]] | None = None,
    workspace: Workspace = _DEFAULT,
) -> SplitResult:
    """Split a given model over a topology: the optimal split, that of another method, or a given one.

    Parameters
    ----------
    model
        A name, as of `load_model`, or a loaded model.
    topology
        As of `search`. None: that of the run, where `model` is the name of one, else the paper's chain.
    method
        `optimal`, `hivemind`, `neurosurgeon`, `dads`, `hermes`, `cloud` or `device`.
    objective
        `latency`, `throughput` or `energy`.
    policy, input_encoding
        `strict`, `relay` or `stop-early`; `uint8`, `float32` or `jpeg`. None: as the topology says
        (`relay` where the model or the devices do not fit `strict`).
    cuts, place
        A split to evaluate instead: the last layer of each device but the last of a chain, or the layers of
        each device, counted from 1 as by `list_layers`. The result's `violations` say what the policy and the
        limits forbid of it.

    Raises
    ------
    InfeasibleError
        When no split meets the policy and the devices' limits.
    InputError
        For an unknown model, topology, method or objective.

    Examples
    --------
    >>> import jmsnas
    >>> plan = jmsnas.split("mobilenet_v2", "chain", policy="relay")
    >>> plan.proven, plan.timeline.latency_s < 1.0
    (True, True)
    >>> given = jmsnas.split("mobilenet_v2", "chain", policy="relay", cuts=[4, 9, 12])
    >>> given.allowed, given.timeline.latency_s > plan.timeline.latency_s
    (True, True)
    """
    from jmsnas.nas.inspection.given_split import placement_of
    from jmsnas.nas.load_model import load_problem, topology_for_split
    from jmsnas.nas.split.methods import GIVEN, default_policy
    from jmsnas.nas.split.methods import split as solve

    name = model if isinstance(model, str) else None
    found = topology_for_split(workspace, name, topology)
    loaded = load_model(model, workspace=workspace) if isinstance(model, str) else model
    problem = load_problem(loaded, found, workspace)
    placement = placement_of(problem, cuts, place)
    if placement is not None and method != "optimal":
        raise InputError(f"got cuts or place, and method {method!r}: expected one of them")
    request = SplitRequest(
        encoding=input_encoding or problem.known_encoding(found.input_encoding),
        policy=policy or default_policy(problem, found.policy)[0],
        objective=objective,
        method=method if placement is None else GIVEN,
        placement=placement,
    )
    return solve(problem, request)


def list_layers(
    model: str | Model, topology: str | None = None, *, workspace: Workspace = _DEFAULT
) -> "tuple[LayerRow, ...]":
    """List the layers that a split of a model refers to: number, name, bytes, MACs, seconds by device.

    Arguments and errors as of `split`.

    Examples
    --------
    >>> import jmsnas
    >>> stem = jmsnas.list_layers("mobilenet_v2", "chain")[0]
    >>> stem.number, stem.output_bytes, stem.macs
    (1, 1605632.0, 10838016)
    """
    from jmsnas.nas.inspection.layer_list import list_layers as rows_of
    from jmsnas.nas.load_model import load_problem, topology_for_split

    found = topology_for_split(workspace, model if isinstance(model, str) else None, topology)
    loaded = load_model(model, workspace=workspace) if isinstance(model, str) else model
    return rows_of(load_problem(loaded, found, workspace), loaded)


def choose_candidates(
    costs: Path | str,
    t_const_s: float,
    topology: str | None = None,
    *,
    policy: str | None = None,
    input_encoding: str | None = None,
    workspace: Workspace = _DEFAULT,
) -> "DerivedCosts":
    """Choose a candidate for each layer of a table of costs: the highest sum of scores with T <= T_const.

    Parameters
    ----------
    costs
        A table of costs with candidates, as of `jmsnas split --costs`.
    t_const_s
        The limit on T, seconds.
    topology
        Devices and links where the table has none, as of `search`. None: the paper's chain.
    policy, input_encoding
        As of `split`. None: as the table says, else the topology.

    Raises
    ------
    InfeasibleError
        When no choice of candidates meets T_const.
    InputError
        For a table that cannot be read, or is not of a chain of layers on a chain of devices.
    """
    from jmsnas.nas.derivation.candidate_costs import read_candidates
    from jmsnas.nas.derivation.derive_costs import derive_from_costs
    from jmsnas.nas.load_model import topology_for_split

    found = topology_for_split(workspace, None, topology)
    table, own = read_candidates(Path(costs), found)
    encoding = input_encoding or own.get("input", found.input_encoding)
    return derive_from_costs(table, t_const_s, encoding, policy or own.get("policy", found.policy))


def deploy(
    run: RunResult | str,
    topology: str | None = None,
    *,
    loopback: bool = False,
    requests: int = 200,
    cuts: Sequence[int] | None = None,
    workspace: Workspace = _DEFAULT,
    progress: Progress = no_progress,
) -> "DeployResult":
    """Run a finished search over its devices' agents, each term of T predicted beside measured.

    Parameters
    ----------
    run
        What `search` returned, or the name of a run.
    topology
        Devices and links to deploy on, as of `search`; a chain for a run on a chain, a mesh with as many
        children for one on a mesh. None: those of the run.
    loopback
        Start an agent for each device on this machine, instead of reaching those of `devices.toml`.
    requests
        Images that are timed one by one.
    cuts
        Another split than the run's.

    Raises
    ------
    InputError
        For a run, a topology or a device that cannot be used.
    DeployError
        When a device is lost, or refuses its part.
    """
    from jmsnas.deploy.deploy_run import DeployOptions, deploy_run

    options = DeployOptions(loopback, tuple(cuts) if cuts is not None else None, requests, topology=topology)
    return deploy_run(workspace, _folder(run, workspace), options, progress)


def report(
    run: RunResult | str | None = None, *, workspace: Workspace = _DEFAULT, progress: Progress = no_progress
) -> Path:
    """Write the HTML page and the pictures of a finished run into its folder; the newest run by default.

    Returns
    -------
    The path of the page.

    Raises
    ------
    InputError
        When there is no such finished run.
    """
    from jmsnas.report.run_page import write_report

    return write_report(
        workspace, newest_run(workspace) if run is None else _folder(run, workspace), progress
    )


def _folder(run: RunResult | str, workspace: Workspace) -> Path:
    return run.folder if isinstance(run, RunResult) else find_run(workspace, run)
