import importlib
import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted(
    path
    for path in Path(__file__).parents[1].joinpath("benchmarks").glob("*.py")
    if '__name__ == "__main__"' in path.read_text()
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_benchmark_starts_and_prints_its_help(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Benchmarks are outside the package: their imports are not checked elsewhere.
    beside = [path.stem for path in script.parent.glob("*.py")]
    for name in beside:  # tests/helpers may have modules of the same names
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
        doc = runpy.run_path(str(script))["__doc__"]
    finally:
        for name in beside:
            sys.modules.pop(name, None)
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and shown.startswith("usage: ")
    assert (doc or "nothing").split()[0] in shown


def test_finish_writes_figures_and_exits_with_1_for_missed_bars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS[0].parent))
    harness = importlib.import_module("harness")
    path = tmp_path / "figures.json"
    arguments = harness.benchmark_parser("Doc.").parse_args(["--check", "--json", str(path)])
    harness.finish(arguments, {"seconds": 1.0}, [])
    with pytest.raises(SystemExit) as ended:
        harness.finish(arguments, {"seconds": 2.0}, ["2 s, expected <= 1 s", "rank 0.5, expected >= 0.9"])
    document = json.loads(path.read_text())
    assert ended.value.code == 1 and document["seconds"] == 2.0 and len(document["missed"]) == 2
    assert {"cpu", "python", "jmsnas", "numpy"} <= set(document["environment"])
    assert capsys.readouterr().out == "MISSED 2 s, expected <= 1 s\nMISSED rank 0.5, expected >= 0.9\n"
