"""A served model: agents in this process, and an HTTP server on loopback in a thread."""

from collections.abc import Iterator

import pytest
from served_models import Planned, exported, planned, served

from jmsnas.deploy.serve.http_server import HttpOptions
from jmsnas.nas.run_result import RunResult
from jmsnas.workspace import Workspace


@pytest.fixture(scope="module")
def one(
    short_run: tuple[Workspace, RunResult], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Planned]:
    """A planned deployment. Restart an agent that is ended."""
    cache = exported(tmp_path_factory, short_run)
    with planned(short_run, tmp_path_factory.mktemp("served"), cache) as found:
        yield found


@pytest.fixture(scope="module")
def address(one: Planned) -> Iterator[str]:
    """HOST:PORT of its server, which has no place for a ninth request."""
    with served(one.deployment, HttpOptions(port=0, max_waiting=0)) as url:
        yield url.removeprefix("http://")
