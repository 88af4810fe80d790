import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from jmsnas.nas.run_result import RunResult
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.run import SearchInputs, prepare_search, run_search
from jmsnas.workspace import Workspace

# One thread: two on shared cores are slower than one. No deadline: a shared machine stalls at will.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Processes that tests start find the same helpers as the tests.
_TESTS = Path(__file__).parent
_PATHS = [str(_TESTS), str(_TESTS / "helpers"), os.environ.get("PYTHONPATH", "")]
os.environ["PYTHONPATH"] = os.pathsep.join(path for path in _PATHS if path)
settings.register_profile("jmsnas", deadline=None, print_blob=True)
settings.load_profile("jmsnas")


@pytest.fixture(scope="session")
def simulated_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which U(.) of the paper's four machines, simulated, is fitted. Write only runs to it."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    prepare_search(workspace, SearchInputs("chain", "digits", "digits"), seed=0, warn=lambda text: None)
    return workspace


def copy_without_runs(source: Workspace, target: Workspace) -> None:
    """Copy a workspace without the runs that other tests have left there."""
    ignored = shutil.ignore_patterns("runs")
    shutil.copytree(source.folder, target.folder, ignore=ignored, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def short_run(
    simulated_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, RunResult]:
    """A finished search of one epoch a stage, in a workspace of its own. Do not write to it."""
    workspace = Workspace(tmp_path_factory.mktemp("run") / "workspace")
    copy_without_runs(simulated_workspace, workspace)
    setup = prepare_search(workspace, SearchInputs("chain", "digits", "digits"), seed=0)
    config = SearchConfig(warmup_epochs=1, search_epochs=1, final_epochs=1)
    return workspace, run_search(workspace, "short", setup, config)


@pytest.fixture(scope="session")
def run(simulated_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished search like `short_run`, in a workspace of its own to write reports into."""
    workspace = Workspace(tmp_path_factory.mktemp("reported"))
    copy_without_runs(simulated_workspace, workspace)
    setup = prepare_search(workspace, SearchInputs("chain", "digits", "digits"), seed=0)
    config = SearchConfig(warmup_epochs=1, search_epochs=1, final_epochs=1)
    return run_search(workspace, "tiny", setup, config).folder
