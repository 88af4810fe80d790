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
    [
        api.profile,
        api.fit_estimator,
        api.search,
        api.load_model,
        api.split,
        api.list_layers,
        Estimator,
        load_estimator,
    ]
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


def test_a_given_split_and_candidates_from_python(tmp_path: Path) -> None:
    workspace = jmsnas.Workspace(tmp_path)
    by_cuts = jmsnas.split("mobilenet_v2", "chain", cuts=[4, 4, 19], workspace=workspace)
    place = {"pi4": range(1, 5), "jetson": range(5, 20)}
    by_layers = jmsnas.split("mobilenet_v2", "chain", place=place, workspace=workspace)
    assert by_cuts == by_layers and "no layer on laptop, cloud" in by_cuts.violations[0]
    rows = jmsnas.list_layers("mobilenet_v2", "chain", workspace=workspace)
    assert by_cuts.timeline.steps[0].seconds == pytest.approx(
        sum(row.seconds["pi4"] or 0 for row in rows[:4])
    )
    for wrong, message in (
        ({"cuts": [4], "place": place}, "got cuts and place: expected one of them"),
        (
            {"cuts": [4, 4, 19], "method": "cloud"},
            "got cuts or place, and method 'cloud': expected one of them",
        ),
        ({"cuts": [4, 4, 99]}, "got --cuts 4,4,99: expected the last layer of pi4, laptop, jetson"),
    ):
        with pytest.raises(jmsnas.JmsnasError, match=message):
            jmsnas.split("mobilenet_v2", "chain", workspace=workspace, **wrong)  # type: ignore[arg-type]
    table = tmp_path / "t.csv"
    table.write_text(
        "layer,candidate,score,bytes,pi4,laptop,jetson,cloud\ninput:uint8,,,100,,,,\n"
        "a,fast,1,8,1ms,1ms,1ms,1ms\na,good,2,8,1s,1s,1s,1s\n"
    )
    chosen = jmsnas.choose_candidates(table, 0.1, "chain", policy="relay", workspace=workspace)
    assert (chosen.names, chosen.score, chosen.proven) == (("fast",), 1.0, True)
    assert jmsnas.choose_candidates(table, 2.0, "chain", policy="relay", workspace=workspace).names == (
        "good",
    )
