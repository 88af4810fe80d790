"""JMSNAS: profile devices, predict latency, and search a neural network together with its split over them.

>>> import jmsnas
>>> table = jmsnas.profile("pi4")
>>> U = jmsnas.fit_estimator("pi4")
>>> plan = jmsnas.split("mobilenet_v2", "chain", policy="relay")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jmsnas.api import (
        choose_candidates,
        deploy,
        fit_estimator,
        list_layers,
        load_model,
        profile,
        report,
        search,
        split,
    )
    from jmsnas.client import Client
    from jmsnas.errors import JmsnasError
    from jmsnas.estimators.store.estimator import Estimator
    from jmsnas.nas.search.config import SearchConfig
    from jmsnas.profiler.table.latency_table import LatencyTable
    from jmsnas.profiler.table.parquet import read_table
    from jmsnas.space import Block, SearchSpace
    from jmsnas.space_file import load_space
    from jmsnas.topology import Topology, load_topology
    from jmsnas.workspace import Workspace

__all__ = [
    "Block",
    "Client",
    "Estimator",
    "JmsnasError",
    "LatencyTable",
    "SearchConfig",
    "SearchSpace",
    "Topology",
    "Workspace",
    "choose_candidates",
    "deploy",
    "fit_estimator",
    "list_layers",
    "load_model",
    "load_space",
    "load_topology",
    "profile",
    "read_table",
    "report",
    "search",
    "split",
]

_MODULES = {
    "Block": "space",
    "Client": "client",
    "Estimator": "estimators.store.estimator",
    "JmsnasError": "errors",
    "LatencyTable": "profiler.table.latency_table",
    "SearchConfig": "nas.search.config",
    "SearchSpace": "space",
    "Topology": "topology",
    "Workspace": "workspace",
    "load_space": "space_file",
    "load_topology": "topology",
    "read_table": "profiler.table.parquet",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import jmsnas` loads neither torch nor numpy."""
    if name not in __all__:
        raise AttributeError(f"module 'jmsnas' has no attribute {name!r}")
    from importlib import import_module

    if name in ("deploy", "report"):
        return import_module(f"jmsnas.{name}")  # a callable package
    return getattr(import_module(f"jmsnas.{_MODULES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
