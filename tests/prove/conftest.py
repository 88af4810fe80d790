"""Fixtures of the tests behind docs/guarantees.md: a time limit per test, and a summary table at the end.

`JMSNAS_PROVE` sets the number of trials: unset in `make test`, `prove` in `make prove`, `long` in
`make prove-long`.
"""

import faulthandler
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prove.proof import LEVEL, LEVELS, Proof

# Far above the duration of any test on a busy machine: it ends tests that hang, and measures nothing.
_LIMIT_S = (1200, 600, 3600)[LEVEL]
_proofs: dict[str, Proof] = {}


@pytest.fixture
def proof(request: pytest.FixtureRequest) -> Iterator[Proof]:
    """The promise of a test: the docstring of its file, such as `P3: every changed bit is detected`."""
    name = Path(request.fspath).name
    promise = " ".join((request.module.__doc__ or name).partition("\n\n")[0].split()).rstrip(".")
    found = _proofs.setdefault(name, Proof(promise))
    began = time.monotonic()
    yield found
    found.seconds += time.monotonic() - began


@pytest.fixture(autouse=True)
def hard_limit() -> Iterator[None]:
    """Fail a test that hangs; if a signal cannot end it, abort the whole run half a minute later."""

    def end(number: int, frame: object) -> None:
        pytest.fail(f"still running after {_LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(_LIMIT_S)
    faulthandler.dump_traceback_later(_LIMIT_S + 30, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def nothing_leaks(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Check A18 in every test of an agent: its errors and its log hold no path, key or traceback."""
    if not Path(request.fspath).name.startswith("test_a"):
        yield
        return
    from jmsnas.deploy.leader import agent_client as peer

    errors, error = list[str](), peer._failed

    def recorded(*arguments: Any) -> object:
        errors.append(str(found := error(*arguments)))
        return found

    monkeypatch.setattr(peer, "_failed", recorded)
    capfd: pytest.CaptureFixture[str] = request.getfixturevalue("capfd")
    yield
    log = capfd.readouterr()
    everything = "\n".join([*errors, log.out, log.err])
    for secret in (str(tmp_path_factory.getbasetemp()), "PRIVATE KEY", "Traceback"):
        assert secret not in everything, f"{secret} in: {everything[-2000:]}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not LEVEL or not _proofs:
        return
    terminalreporter.section("guarantees")
    for name, proof in sorted(_proofs.items()):
        counted = Counter(proof.figures or ["nothing shown"])
        terminalreporter.write_line(f"{proof.promise}  ({proof.seconds:.0f} s)")
        for words, count in counted.items():
            terminalreporter.write_line(f"    {f'{count} x ' if count > 1 else ''}{words}")
        again = f"JMSNAS_PROVE={LEVELS[LEVEL]} .venv/bin/pytest tests/prove/{name}"
        terminalreporter.write_line(f"    again: {again}")
