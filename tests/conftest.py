import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings
from shared_folders import shared_folder

from jmsnas.nas.run_result import RunResult, read_result
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


def _fit(folder: Path) -> None:
    inputs = SearchInputs("chain", "digits", "digits")
    prepare_search(Workspace(folder), inputs, seed=0, warn=lambda text: None)


@pytest.fixture(scope="session")
def simulated_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which U(.) of the paper's four machines, simulated, is fitted. Write only runs to it."""
    workspace = tmp_path_factory.mktemp("workspace")
    shutil.copytree(shared_folder(tmp_path_factory, "fitted", _fit), workspace, dirs_exist_ok=True)
    return Workspace(workspace)


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a workspace with a finished search of one epoch a stage, `short`. Copy it."""
    fitted = shared_folder(tmp_path_factory, "fitted", _fit)

    def search(folder: Path) -> None:
        shutil.copytree(fitted, folder, dirs_exist_ok=True)
        setup = prepare_search(Workspace(folder), SearchInputs("chain", "digits", "digits"), seed=0)
        config = SearchConfig(warmup_epochs=1, search_epochs=1, final_epochs=1)
        run_search(Workspace(folder), "short", setup, config)

    return shared_folder(tmp_path_factory, "searched", search)


@pytest.fixture(scope="session")
def short_run(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, RunResult]:
    """A finished search of one epoch a stage, in a workspace of its own. Do not write to it."""
    workspace = Workspace(tmp_path_factory.mktemp("run") / "workspace")
    shutil.copytree(searched, workspace.folder)
    return workspace, read_result(workspace.run("short"))


@pytest.fixture(scope="session")
def run(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished search like `short_run`, in a workspace of its own to write reports into."""
    workspace = Workspace(tmp_path_factory.mktemp("reported") / "workspace")
    shutil.copytree(searched, workspace.folder)
    return workspace.run("short")
