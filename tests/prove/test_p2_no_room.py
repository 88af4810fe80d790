"""P2: with a full, read-only or over-quota disk the table is intact and the command exits with one line."""

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prove.faults import Faults, inject
from prove.proof import Proof
from prove.synthetic_blocks import Confirmed, ConfirmingRunner
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.profiler.profile import ProfileOptions
from jmsnas.profiler.table.parquet import read_table

# Five blocks, so that every file call of a run that measures them can be tried.
SPACE = """
name = "tiny"
input = [1, 4, 4]
classes = 3
candidates = {kernel_sizes = [3], expansions = [1], identity = true}
stem = {channels = 4, stride = 1}
stage = [{layers = 1, channels = 4, stride = 1}]
head = {channels = 8}
"""


@pytest.fixture(autouse=True)
def confirmed(monkeypatch: pytest.MonkeyPatch) -> Confirmed:
    """Make the command line report synthetic rows, and return those that the journal confirms."""
    found = Confirmed()
    defaults = ProfileOptions.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "run_job", ConfirmingRunner(found))
    monkeypatch.setitem(defaults, "read_host", None)
    return found


def run_command(workspace: Path, *words: str) -> tuple[int, str]:
    """Run a command, and return its exit code and stderr."""
    command = ["profile", "--runtime", "torch", "--parts", "0", "--workspace", str(workspace), *words]
    found = CliRunner().invoke(app, command)
    assert isinstance(found.exception, SystemExit | None), found.exception
    return found.exit_code, found.stderr


def refused(workspace: Path, confirmed: Confirmed, *words: str) -> str:
    """Run a command without enough disk space, and return its stderr."""
    before = Confirmed(confirmed.rows)
    code, stderr = run_command(workspace, *words)
    check_refusal(workspace, before, code, stderr)
    return stderr


def check_refusal(workspace: Path, before: Confirmed, code: int, stderr: str) -> None:
    (line,) = (line for line in stderr.splitlines() if line.startswith("jmsnas: "))
    assert code == 1 and stderr.endswith(f"{line}\n"), stderr
    assert "Free some disk space or choose another folder with --workspace" in line
    before.check(read_table(workspace / "tables" / "local.parquet").all_rows)


def goes_on(workspace: Path, confirmed: Confirmed, *words: str) -> None:
    """Run the same command with enough disk space."""
    assert run_command(workspace, *words)[0] == 0
    confirmed.check(read_table(workspace / "tables" / "local.parquet").all_rows)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_every_file_call_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, confirmed: Confirmed, proof: Proof, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)
    (tmp_path / "tiny.toml").write_text(SPACE)
    first = ("--space", str(tmp_path / "tiny.toml"), "--off-grid", "0")
    second = ("--space", str(tmp_path / "tiny.toml"), "--off-grid", "1")
    assert run_command(tmp_path / "before", *first)[0] == 0
    at, before = 0, list(confirmed.rows)
    while True:
        at += 1
        workspace, confirmed.rows[:] = tmp_path / str(at), before
        shutil.copytree(tmp_path / "before", workspace)
        faults = Faults(at, number, full=True)
        with monkeypatch.context() as patched:
            inject(patched, workspace, faults)
            code, stderr = run_command(workspace, *second)
        if not faults.last:
            break
        check_refusal(workspace, Confirmed(before), code, stderr)
    assert code == 0
    proof.show(
        f"{errno.errorcode[number]} from every file call on, {at - 1} points: table intact, exit code 1"
    )


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of 1 MB."""
    if os.geteuid():
        pytest.skip("only root can mount a small disk")
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_full_disk(tmp_path: Path, confirmed: Confirmed, proof: Proof) -> None:
    with small_disk(tmp_path / "disk") as disk:
        assert run_command(tmp_path / "before", "--off-grid", "0")[0] == 0
        confirmed_before, ballast = list(confirmed.rows), disk / "ballast"
        # The journal takes about 180 kB, the table 60 kB: space ends in one or in the other.
        for left_kb in (0, 40, 150, 200):
            confirmed.rows[:] = confirmed_before
            workspace = disk / str(left_kb)
            shutil.copytree(tmp_path / "before", workspace)
            with ballast.open("wb", buffering=0) as file:
                free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
                assert file.write(bytes(free - 1024 * left_kb)) == free - 1024 * left_kb
            stderr = refused(workspace, confirmed, "--space", "imagenet", "--off-grid", "0")
            assert "No space left on device" in stderr
            ballast.unlink()
            goes_on(workspace, confirmed, "--space", "imagenet", "--off-grid", "0")
            shutil.rmtree(workspace)
    proof.show("disk of 1 MB with 0, 40, 150 and 200 kB left: exit code 1, then resumes")


def test_disk_that_is_read_only_now(tmp_path: Path, confirmed: Confirmed, proof: Proof) -> None:
    with small_disk(tmp_path / "disk") as disk:
        assert run_command(disk, "--off-grid", "0")[0] == 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert "Read-only file system" in refused(disk, confirmed, "--off-grid", "3")
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        goes_on(disk, confirmed, "--off-grid", "3")
    proof.show("disk that turns read-only: exit code 1, then resumes")


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """Become an unprivileged user who owns the folder: root may write into every folder."""
    if os.geteuid():
        yield
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_read_only_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, confirmed: Confirmed, proof: Proof
) -> None:
    # Relative: other users may not enter the folders above.
    monkeypatch.chdir(tmp_path)
    workspace = Path("place")
    assert run_command(workspace, "--off-grid", "0")[0] == 0
    with nobody(Path()):
        (workspace / "tables").chmod(0o500)
        try:
            assert "Permission denied" in refused(workspace, confirmed, "--off-grid", "3")
        finally:
            (workspace / "tables").chmod(0o700)
        goes_on(workspace, confirmed, "--off-grid", "3")
    proof.show("read-only folder: exit code 1, then resumes")


def test_limit_of_file_size(tmp_path: Path, confirmed: Confirmed, proof: Proof) -> None:
    assert run_command(tmp_path / "before", "--off-grid", "0")[0] == 0
    confirmed_before, before = list(confirmed.rows), resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit_kb in (1, 8, 48):
        confirmed.rows[:] = confirmed_before
        workspace = tmp_path / str(limit_kb)
        shutil.copytree(tmp_path / "before", workspace)
        # Limit of this process: a larger file fails with EFBIG, as Python ignores the signal.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * limit_kb, before[1]))
        try:
            stderr = refused(workspace, confirmed, "--space", "imagenet", "--off-grid", "0")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "File too large" in stderr
        goes_on(workspace, confirmed, "--space", "imagenet", "--off-grid", "0")
    proof.show("no file above 1, 8 and 48 kB: exit code 1, then resumes")
