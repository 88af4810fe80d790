"""S3: any error of a search is one sentence with exit code 2 or 1, without a traceback."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from prove.proof import Proof
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.nas.search.config import RECIPES, Recipe, SearchConfig
from jmsnas.nas.supernet.checkpoint import read_checkpoint
from jmsnas.workspace import Workspace

SHORT = SearchConfig(warmup_epochs=1, search_epochs=1, final_epochs=1, best=1)
EMPTY = 'name = "mine"\n[[device]]\nname = "a"\ntable = "nobody"\n[[device]]\nname = "b"\ntable = "cloud"\n'
LINK = '[[link]]\nfrom = "a"\nto = "b"\nrate = "1Mbit/s"\n'
FILES = {
    "empty.toml": EMPTY + LINK,  # a device without a table that is not built in
    "policy.toml": 'policy = "any"\n' + EMPTY + LINK,
    "loose.toml": EMPTY,  # no link between its devices
    "unknown.toml": "speed = 3\n" + EMPTY + LINK,
    "broken.toml": "name = [",
    "space.toml": 'name = "s"\n',
}

# Command line arguments, and the expected message.
INPUT = [
    (["--t-const", "1us"], "no architecture meets T_const 1 us on pi4 .*feasible range is .*Try --t-const"),
    (["--t-const", "2ms", "--t-const", "1us"], "no architecture meets T_const 1 us"),
    (["--t-const", "soon"], "'soon' is not a duration"),
    (["--t-const=-1ms"], "'-1ms' is not a duration"),
    (
        ["--front", "2", "--t-const", "2ms", "--t-const", "3ms"],
        "--front derives from one search, got 2 targets",
    ),
    (["--topology", "ring"], "unknown topology 'ring'"),
    (["--topology", "star"], "unknown topology 'star'"),
    (["--topology", "none.toml"], "cannot read none.toml: No such file"),
    (["--topology", "empty.toml"], "device a has no latency table .*Run: jmsnas profile --device nobody"),
    (["--topology", "policy.toml"], "policy.*'?any'?.*expected"),
    (["--topology", "loose.toml"], "link"),
    (["--topology", "unknown.toml"], "unknown keys speed: expected"),
    (["--topology", "broken.toml"], "broken.toml is not a TOML file"),
    (["--topology", "desk"], "device local has no latency table .*Run: jmsnas profile --device local"),
    (["--space", "mnist"], "unknown space 'mnist'"),
    (["--space", "space.toml"], "space.toml lacks the key"),
    (["--space", "cifar"], "data set digits has 10 classes .*choose another --space or --dataset"),
    (["--dataset", "mnist"], "unknown data set 'mnist'"),
    (
        ["--dataset", "fashion-mnist", "--data-dir", "."],
        "data set fashion-mnist is not in .*Place there: train-im",
    ),
    (["--dataset", "imagenette", "--space", "imagenet", "--data-dir", "."], "data set imagenette is not in"),
    (
        ["--dataset", "imagenet", "--space", "imagenet"],
        "data set imagenet is not in .*: expected folders train",
    ),
    (["--dataset", "imagenet"], "square colour images, space digits takes 1x8x8"),
    (["--recipe", "mnist"], "unknown recipe 'mnist'"),
    (["--constraint", "hope"], "unknown constraint 'hope'"),
    (["--derive", "best"], "unknown derive 'best'"),
    (["--train-on", "gpu"], "cannot train on 'gpu'"),
    (["--name", "../up"], "run name '../up' must be"),
    (["--name", "taken"], "run taken is another search .*give another --name"),
    (["--name", "damaged"], "checkpoint.pt is damaged or no checkpoint of this version: remove it"),
]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set one epoch per stage, block downloads, and write the files that the arguments name."""
    monkeypatch.setitem(RECIPES, "first-run", Recipe("digits", "digits", SHORT))

    def unreachable(*_: object, **__: object) -> None:
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", unreachable)
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)


@pytest.fixture(scope="module")
def workspace(simulated_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Make a workspace with fitted devices, a run of other settings, and one with a damaged checkpoint."""
    here = Workspace(tmp_path_factory.mktemp("s3") / "workspace")
    here.folder.mkdir()
    for name in ("tables", "estimators"):
        (here.folder / name).symlink_to(simulated_workspace.folder / name)
    here.run("taken").mkdir(parents=True)
    (here.run("taken") / "config.json").write_text('{"schema_version": 1, "space": "cifar"}')
    here.run("damaged").mkdir(parents=True)
    (here.run("damaged") / "checkpoint.pt").write_bytes(b"PK\x03\x04")
    return here


def message_of(workspace: Workspace, words: list[str], code: int) -> str:
    """Run the search, check its exit code and that its message is one sentence, and return that."""
    done = CliRunner().invoke(app, ["search", *words, "--workspace", str(workspace.folder)])
    lines = [line for line in done.stderr.splitlines() if line.startswith("jmsnas: ")]
    assert done.exit_code == code and len(lines) == 1 and done.stdout == "", done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def test_wrong_inputs(workspace: Workspace, proof: Proof) -> None:
    for words, message in INPUT:
        assert re.search(message, message_of(workspace, words, 2)), words
    proof.show(f"{len(INPUT)} wrong inputs: one sentence, exit code 2")


def _explode(*_: object) -> None:
    from jmsnas.nas.supernet.training import check_loss

    check_loss(torch.tensor(float("nan")), "stage one")


def _lost(*_: object) -> None:
    raise torch.AcceleratorError("CUDA error: device lost", 46)


def _too_small(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_explode, "the loss became nan in stage one: lower the learning rate"),
        (_lost, "the GPU was lost .*run the same command to resume"),
        (_too_small, "the GPU's memory is too small for a batch of 64: take a smaller one"),
    ],
)
def test_what_fails_on_the_way(
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    proof: Proof,
    fault: Callable[..., None],
    message: str,
) -> None:
    from jmsnas.nas.search.stages import StageOne

    run_epoch, name = StageOne.run_epoch, fault.__name__.strip("_")

    def second_epoch(stage: StageOne) -> object:
        if stage.epoch == 1:
            fault()
        return run_epoch(stage)

    monkeypatch.setattr(StageOne, "run_epoch", second_epoch)
    assert re.search(message, message_of(workspace, ["--name", name], 1))
    saved = read_checkpoint(workspace.run(name) / "checkpoint.pt")
    assert saved is not None and saved["one"]["epoch"] == 1
    proof.show("a fault during training: one sentence, exit code 1, the last checkpoint intact")


def test_a_full_disk(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, proof: Proof) -> None:
    replace, calls = os.replace, [0]

    def full(source: Path, target: Path) -> None:
        if Path(target).name == "checkpoint.pt":
            calls[0] += 1
            if calls[0] == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        line = message_of(workspace, ["--name", "full"], 1)
    assert "cannot write" in line and "No space left on device" in line
    saved = read_checkpoint(workspace.run("full") / "checkpoint.pt")
    assert saved is not None and saved["one"]["epoch"] == 1
    done = CliRunner().invoke(app, ["search", "--name", "full", "--workspace", str(workspace.folder)])
    assert done.exit_code == 0 and "Next: jmsnas report full" in done.stdout
    proof.show("full disk: one sentence, exit code 1, and the same command resumes with enough space")


# A shell's background job ignores SIGINT, and its children would too.
_STOPPED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from jmsnas.cli import app
app()
"""


def test_ctrl_c_ends_with_the_line_that_goes_on(workspace: Workspace, proof: Proof) -> None:
    words = ["search", "--name", "stopped", "--workspace", str(workspace.folder)]
    process = subprocess.Popen(
        [sys.executable, "-c", _STOPPED, *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    path = workspace.run("stopped") / "checkpoint.pt"
    while process.poll() is None and not path.exists():
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and out == "", err
    assert err.endswith(f"Resume with: jmsnas {' '.join(words)}\n") and "Traceback" not in err
    assert read_checkpoint(path) is not None
    proof.show("Ctrl-C during training: exit code 130, the command to resume, the checkpoint intact")
