import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jmsnas.deploy.transport.certificates import make_certificates
from jmsnas.deploy.transport.identity import (
    days_left,
    expiry_warning,
    fingerprint,
    read_identity,
    read_leader_fingerprint,
    read_leader_key,
    read_signing_key,
)
from jmsnas.errors import CertificateError, DeviceError


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
