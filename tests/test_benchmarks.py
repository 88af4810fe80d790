import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted(
    path
    for path in Path(__file__).parents[1].joinpath("benchmarks").glob("*.py")
    if "argparse" in path.read_text()
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_benchmark_starts_and_says_what_it_shows(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # They are no part of the package: what they import may move away unseen.
    beside = [path.stem for path in script.parent.glob("*.py")]
    for name in beside:  # the tests have helpers of such names too
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
