import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jmsnas
from jmsnas import api
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.estimators.store.estimator import Estimator, load_estimator
from jmsnas.nas.run_result import RunResult

ROOT = Path(__file__).parents[1]


def test_import_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, jmsnas; jmsnas.Workspace; print({'torch', 'numpy', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_all_names_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    named = re.findall(r"^\| `(\w+)", page, flags=re.MULTILINE)
    assert sorted(named) == sorted(jmsnas.__all__)


@pytest.mark.parametrize("name", jmsnas.__all__)
def test_every_name_resolves_and_is_documented(name: str) -> None:
    found = getattr(jmsnas, name)
    assert callable(found) and found.__doc__ and name in dir(jmsnas)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'jmsnas' has no attribute 'profil'"):
        jmsnas.profil  # noqa: B018


def test_packages_named_as_a_function_can_be_called(tmp_path: Path) -> None:
    from jmsnas.deploy.leader import leader  # noqa: F401 - binds jmsnas.deploy to the package

    workspace = jmsnas.Workspace(tmp_path)
    with pytest.raises(jmsnas.JmsnasError, match="no finished run"):
        jmsnas.deploy("nothing", workspace=workspace)
    with pytest.raises(jmsnas.JmsnasError, match="no finished run"):
        jmsnas.report(workspace=workspace)


@pytest.mark.parametrize(
    "documented",
    [api.profile, api.fit_estimator, api.search, api.load_model, api.split, Estimator, load_estimator]
    + [LatencyRegressor],
)
def test_examples_in_docstrings(documented: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tests = [test for test in doctest.DocTestFinder().find(documented, "documented") if test.examples]
    assert tests
    for test in tests:
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


def test_split_takes_the_defaults_of_the_command(short_run: tuple[jmsnas.Workspace, RunResult]) -> None:
    workspace, run = short_run
    plan = jmsnas.split("short", workspace=workspace)  # on the topology of the run
    assert plan.timeline.latency_s == pytest.approx(run.derived.latency_s, rel=1e-9)
    branched = jmsnas.split("googlenet", workspace=workspace)  # strict fits chains of layers only
    assert branched.request.policy == "relay" and branched.proven
    with pytest.raises(jmsnas.JmsnasError, match="policy strict"):
        jmsnas.split("googlenet", policy="strict", workspace=workspace)
