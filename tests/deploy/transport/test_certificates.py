import errno
import itertools
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from prove.faults import Faults, inject
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.deploy.transport.certificates import _authority, _certify, make_certificates
from jmsnas.deploy.transport.identity import (
    days_left,
    expiry_warning,
    fingerprint,
    read_identity,
    read_leader_fingerprint,
    read_leader_key,
    read_private_key,
    read_signing_key,
)
from jmsnas.errors import CertificateError, DeviceError, StorageError


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of two devices. Do not write to it."""
    folder = tmp_path_factory.mktemp("certs")
    make_certificates(folder, ("pi4", "jetson"))
    return folder


def test_keys_and_folders_are_private(certs: Path) -> None:
    files = [path for path in certs.rglob("*") if path.name != certs.name]
    assert {path.name for path in files if path.suffix == ".key"} == {"ca.key", "device.key", "signing.key"}
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in files)


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_keys_are_private_under_any_umask(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        ca, key = _authority(tmp_path)
        _certify(tmp_path / "second", "leader", ca, key, 10)
    finally:
        os.umask(old)
    keys = (tmp_path / "ca.key", tmp_path / "second" / "device.key")
    assert [stat.S_IMODE(path.stat().st_mode) for path in keys] == [0o600, 0o600]


def test_files_of_a_device(certs: Path) -> None:
    names = {path.name for path in (certs / "pi4").iterdir()}
    assert names == {"ca.pem", "device.pem", "device.key", "leader.pub", "leader.sha256"}
    assert read_identity(certs / "pi4").name == "pi4"
    leader = read_identity(certs / "leader")
    assert read_leader_fingerprint(certs / "pi4") == fingerprint(leader.certificate_pem)
    message = b"part"
    read_leader_key(certs / "pi4").verify(read_signing_key(certs / "leader").sign(message), message)


def test_new_certificate_keeps_the_fingerprint(tmp_path: Path) -> None:
    (folder,) = make_certificates(tmp_path, ("pi4",), days=10)
    before = read_identity(folder)
    make_certificates(tmp_path, ("pi4",), days=100)
    after = read_identity(folder)
    assert before.certificate_pem != after.certificate_pem and before.ca_pem == after.ca_pem
    assert fingerprint(before.certificate_pem) == fingerprint(after.certificate_pem)


def test_expiry_warning_from_fourteen_days(certs: Path) -> None:
    identity, now = read_identity(certs / "pi4"), datetime.now(UTC)
    assert 364 < days_left(identity) < 365.1
    assert expiry_warning(identity, now + timedelta(days=350)) == ""
    assert "expires in 13.0 days" in expiry_warning(identity, now + timedelta(days=352, minutes=1))
    assert "has expired: run jmsnas certs --device pi4" in expiry_warning(identity, now + timedelta(days=366))


def test_key_readable_by_others_is_refused(tmp_path: Path) -> None:
    (folder,) = make_certificates(tmp_path, ("pi4",))
    os.chmod(folder / "device.key", 0o640)
    with pytest.raises(CertificateError, match=r"can be read by others \(mode 640\).*Run: chmod 600"):
        read_identity(folder)


def test_missing_or_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="cannot read .*device.pem.*jmsnas certs --device NAME"):
        read_identity(tmp_path)
    (folder,) = make_certificates(tmp_path, ("pi4",))
    (folder / "leader.sha256").write_text("../" * 21 + "a")
    with pytest.raises(CertificateError, match="not a fingerprint of 64 hexadecimal digits"):
        read_leader_fingerprint(folder)
    (folder / "leader.pub").write_bytes((folder / "ca.pem").read_bytes())
    with pytest.raises(CertificateError, match="is not a public key"):
        read_leader_key(folder)
    (folder / "device.key").write_text("no key")
    with pytest.raises(CertificateError, match="is not a private key"):
        read_identity(folder)
    (folder / "device.pem").write_text("no certificate")
    with pytest.raises(CertificateError, match="a certificate that cannot be read"):
        read_identity(folder)
    (folder / "device.pem").write_bytes(bytes(1 << 17))
    with pytest.raises(CertificateError, match="larger than 65536 bytes"):
        read_identity(folder)
    (tmp_path / "leader" / "signing.key").write_bytes((tmp_path / "ca.key").read_bytes())
    with pytest.raises(CertificateError, match="is not an Ed25519 key"):
        read_signing_key(tmp_path / "leader")


def test_device_name_is_never_a_path(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="must be 1 to 64 of a-z"):
        make_certificates(tmp_path / "certs", ("../pi4",))
    assert not (tmp_path / "pi4").exists()


def check_complete(folder: Path) -> None:
    """Every file of two devices and the leader is there, belongs together, and nothing else is."""
    certs = {"ca.pem", "device.pem", "device.key"}
    pinned = {"leader.pub", "leader.sha256"}
    assert {path.name for path in folder.iterdir()} == {
        "ca.pem",
        "ca.key",
        ".lock",
        "leader",
        "pi4",
        "jetson",
    }
    assert {path.name for path in (folder / "leader").iterdir()} == {*certs, "signing.key"}
    leader, signing = read_identity(folder / "leader"), read_signing_key(folder / "leader")
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    for device in ("pi4", "jetson"):
        own = folder / device
        assert {path.name for path in own.iterdir()} == {*certs, *pinned}
        identity = read_identity(own)
        assert identity.ca_pem == leader.ca_pem == (folder / "ca.pem").read_bytes()
        certificate = x509.load_pem_x509_certificate(identity.certificate_pem)
        certificate.verify_directly_issued_by(ca)
        key = read_private_key(own / "device.key")
        assert certificate.public_key() == key.public_key()
        assert read_leader_fingerprint(own) == fingerprint(leader.certificate_pem)
        read_leader_key(own).verify(signing.sign(b"part"), b"part")
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*"))


@pytest.mark.parametrize(("number", "full"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_any_failing_file_call_is_one_line_and_the_next_call_completes(
    tmp_path: Path, number: int, full: bool
) -> None:
    failed = 0
    for at in itertools.count(1):
        folder, faults = tmp_path / str(at), Faults(at, number, full)
        with pytest.MonkeyPatch.context() as patched:
            inject(patched, tmp_path, faults)
            try:
                make_certificates(folder, ("pi4", "jetson"))
            except (StorageError, CertificateError) as error:
                failed += 1
                assert os.strerror(number) in str(error)
        make_certificates(folder, ("pi4", "jetson"))
        check_complete(folder)
        if faults.met < at:
            break
    assert failed >= 40


# For each file call: a process that ends there, as by kill -9, and the same call again.
KILLED = """
import os, sys
from pathlib import Path
import pytest
from prove.faults import Faults, inject
from jmsnas.deploy.transport.certificates import _authority, _certify, make_certificates

class Kill(Faults):
    def error(self, path=None):
        os._exit(9)

at = 0
while True:
    at += 1
    folder = Path(sys.argv[1]) / str(at)
    if not (child := os.fork()):
        inject(pytest.MonkeyPatch(), folder, Kill(at))
        make_certificates(folder, ("pi4", "jetson"))
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    make_certificates(folder, ("pi4", "jetson"))
    if not ended:
        break
"""


def test_the_call_after_a_kill_completes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=True)
    folders = list(tmp_path.iterdir())
    for folder in folders:
        check_complete(folder)
    assert len(folders) > 40


def test_calls_at_once_run_one_after_the_other(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jmsnas", "certs", "--out", str(tmp_path / "certs")]
    words = [*command, "--device", "pi4", "--device", "jetson"]
    calls = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    outputs = [call.communicate() for call in calls]
    assert [call.returncode for call in calls] == [0] * 4, outputs
    # All of them print the same fingerprints.
    assert len({output for output, _ in outputs}) == 1
    check_complete(tmp_path / "certs")


@pytest.mark.parametrize("name", ["ca.pem", "ca.key", "leader/signing.key", "pi4/device.key"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n", bytes(1 << 17)])
def test_a_damaged_file_is_named_with_the_remedy_that_works(
    tmp_path: Path, name: str, content: bytes
) -> None:
    folder = tmp_path / "certs"
    words = ["certs", "--out", str(folder), "--device", "pi4", "--device", "jetson"]
    assert CliRunner().invoke(app, words).exit_code == 0
    before = (folder / "ca.key").read_bytes()
    (folder / name).write_bytes(content)
    result = CliRunner().invoke(app, words)
    if result.exit_code:
        assert result.exit_code == 2 and result.stderr.count("\n") == 1 and name in result.stderr
        assert "delete" in result.stderr or len(content) > 1 << 16
        (folder / ("ca.pem" if name == "ca.key" else name)).unlink()
        if name == "ca.key":
            (folder / name).unlink()
        assert CliRunner().invoke(app, words).exit_code == 0
    else:
        assert not content
    check_complete(folder)
    assert name == "ca.key" or (folder / "ca.key").read_bytes() == before
