"""Create a CA, a certificate for each device, and the leader's signing key: `jmsnas certs`.

certs/ca.pem, ca.key                 the CA; never copy its key
certs/leader/                        as for a device, and signing.key
certs/<device>/                      copy this folder to the device
    ca.pem  device.pem  device.key   its certificate
    leader.pub  leader.sha256        the leader from which it accepts parts and work
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jmsnas.deploy.transport.channel import server_name
from jmsnas.deploy.transport.identity import (
    fingerprint,
    read_certificate,
    read_private_key,
    read_signing_key,
)
from jmsnas.errors import CertificateError, RunError
from jmsnas.files import exclusive_lock, storage_error, write_atomic
from jmsnas.workspace import check_name

LEADER = "leader"
_CA_DAYS, _DEVICE_DAYS = 3650, 365
# Clocks of boards without a battery are late.
_SLACK = timedelta(days=1)
_LOCK_S = 60.0


def make_certificates(folder: Path, devices: tuple[str, ...], days: int = _DEVICE_DAYS) -> tuple[Path, ...]:
    """Create the CA and the leader's keys if they are missing, and a new certificate for each device.

    A device that has a key keeps it, and so its fingerprint; only the certificate is new. After an
    interruption at any point, the same call completes what is missing; several calls run one after the other.

    `folder` is created readable by its owner only; `days` is the validity of the certificates of the devices.
    Returns the folders of the devices. Raises CertificateError when an existing key can be read by others, or
    a file is damaged, StorageError when a file cannot be written, and RunError when another call takes longer
    than a minute.
    """
    devices = tuple(check_name(device) for device in devices)
    with _private_folder(folder):
        ca, ca_key = _authority(folder)
        leader = folder / LEADER
        if not _is_written(leader / "signing.key"):
            _write_key(leader / "signing.key", ed25519.Ed25519PrivateKey.generate())
        public = (
            read_signing_key(leader)
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        _certify(leader, LEADER, ca, ca_key, days)
        pin = fingerprint((leader / "device.pem").read_bytes()).encode() + b"\n"
        for device in devices:
            own = folder / device
            _certify(own, device, ca, ca_key, days)
            write_atomic(own / "leader.pub", public)
            write_atomic(own / "leader.sha256", pin)
        return tuple(folder / device for device in devices)


@contextmanager
def _private_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder, make new files readable by their owner only, remove temporary files."""
    old = os.umask(0o077)
    try:
        with exclusive_lock(folder / ".lock", _busy, wait_s=_LOCK_S):
            for left_over in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
                left_over.unlink(missing_ok=True)
            yield
    except OSError as error:
        raise storage_error(folder, error) from error
    finally:
        os.umask(old)


def _busy(holder: str) -> RunError:
    return RunError(f"another jmsnas certs (process {holder}) holds the folder: end it, or wait for it")


def _is_written(path: Path) -> bool:
    """Return whether a file exists and is not empty: a full disk leaves empty files."""
    return path.exists() and (not path.is_file() or path.stat().st_size > 0)


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Read the CA, or make it; a lost certificate is made again with the same key."""
    path, key_path = folder / "ca.pem", folder / "ca.key"
    own = read_certificate(path) if _is_written(path) else None
    if _is_written(key_path):
        key = _key(key_path)
    elif own is not None:
        raise CertificateError(
            f"{key_path} is lost, which belongs to {path}: copy it back, or delete {path} for another CA, "
            "and run jmsnas certs again for all devices"
        )
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        _write_key(key_path, key)
    if own is None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "JMSNAS devices")])
        own = _builder(name, name, key.public_key(), _CA_DAYS, is_ca=True).sign(key, hashes.SHA256())
        write_atomic(path, own.public_bytes(Encoding.PEM))
    elif own.public_key() != key.public_key():
        raise CertificateError(f"{path} does not belong to {key_path}: delete it and run jmsnas certs again")
    return own, key


def _certify(
    own: Path, name: str, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, days: int
) -> None:
    path = own / "device.key"
    written = _is_written(path)
    key = _key(path) if written else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    made = (
        _builder(subject, ca.subject, key.public_key(), days, is_ca=False)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(server_name(name))]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    if not written:
        _write_key(path, key)
    write_atomic(own / "ca.pem", ca.public_bytes(Encoding.PEM))
    write_atomic(own / "device.pem", made.public_bytes(Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int, is_ca: bool
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    """Write a private key that only its owner can read, whatever the umask."""
    write_atomic(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = read_private_key(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path} is not an ECDSA key: delete it and run jmsnas certs again")
    return key
