"""Read certificates, keys and fingerprints of a process, and check their expiry.

A fingerprint is the SHA-256 of a certificate's public key: a renewed certificate has the same.
"""

import hashlib
import os
import stat
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509.oid import NameOID

from jmsnas.deploy.transport.channel import Identity
from jmsnas.errors import CertificateError
from jmsnas.files import read_bytes

# Days before expiry from which on a warning is given.
WARN_DAYS = 14
_MAX_BYTES = 64 << 10


@lru_cache(maxsize=256)
def fingerprint(certificate_pem: bytes) -> str:
    """Return the SHA-256 of a certificate's public key, 64 hexadecimal digits. Raises CertificateError."""
    public = _certificate(certificate_pem).public_key()
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def read_identity(folder: Path) -> Identity:
    """Read `ca.pem`, `device.pem` and `device.key` from a device's folder.

    Raises CertificateError when a file is missing or damaged, or the key can be read by others.
    """
    certificate = _read(folder / "device.pem")
    names = _certificate(certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    read_private_key(folder / "device.key")
    name = str(names[0].value) if names else ""
    return Identity(name, _read(folder / "ca.pem"), certificate, _read(folder / "device.key"))


def days_left(identity: Identity, now: datetime | None = None) -> float:
    """Return the days until the certificate expires; negative when it has expired."""
    ends = _certificate(identity.certificate_pem).not_valid_after_utc
    return (ends - (now or datetime.now(UTC))).total_seconds() / 86400


def expiry_warning(identity: Identity, now: datetime | None = None) -> str:
    """Return a warning if the certificate expires within 14 days; else an empty text."""
    days = days_left(identity, now)
    if days > WARN_DAYS:
        return ""
    ends = f"expires in {days:.1f} days" if days > 0 else "has expired"
    return (
        f"the certificate of {identity.name} {ends}: run jmsnas certs --device {identity.name} "
        "where the CA is, and copy device.pem"
    )


def read_private_key(path: Path) -> PrivateKeyTypes:
    """Read a private key. Raises CertificateError when others can read it, or it is not a key."""
    content = _read(path)
    check_unreadable_by_others(path)
    try:
        return load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(
            f"{path} is not a private key: delete it and run jmsnas certs again"
        ) from error


def check_unreadable_by_others(path: Path) -> None:
    """Raise CertificateError when a file with a secret can be read by other users."""
    mode = path.stat().st_mode
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CertificateError(
            f"{path} can be read by others (mode {mode & 0o777:03o}): expected 600. Run: chmod 600 {path}"
        )


def read_certificate(path: Path) -> x509.Certificate:
    """Read a certificate. Raises CertificateError."""
    try:
        certificate = x509.load_pem_x509_certificate(_read(path))
        certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(
            f"{path} is not a certificate: delete it and run jmsnas certs again"
        ) from error
    return certificate


def read_signing_key(folder: Path) -> ed25519.Ed25519PrivateKey:
    """Read the leader's `signing.key`. Raises CertificateError."""
    key = read_private_key(folder / "signing.key")
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise CertificateError(
            f"{folder / 'signing.key'} is not an Ed25519 key: delete it and run jmsnas certs again"
        )
    return key


def read_leader_key(folder: Path) -> ed25519.Ed25519PublicKey:
    """Read `leader.pub`, the key that must have signed parts. Raises CertificateError."""
    path = folder / "leader.pub"
    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(
            f"{path} is not a public key: copy the folder from the leader again"
        ) from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise CertificateError(f"{path} is not an Ed25519 key: copy the folder from the leader again")
    return key


def read_leader_fingerprint(folder: Path) -> str:
    """Read `leader.sha256`, the fingerprint of the leader's certificate. Raises CertificateError."""
    text = _read(folder / "leader.sha256").decode("ascii", "replace").strip()
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise CertificateError(
            f"{folder / 'leader.sha256'} is not a fingerprint of 64 hexadecimal digits: "
            "copy the folder from the leader again"
        )
    return text


def _read(path: Path) -> bytes:
    remedy = ". Create it with: jmsnas certs --device NAME"
    return read_bytes(path, _MAX_BYTES, CertificateError, "a certificate or key", remedy)


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise CertificateError("a certificate that cannot be read: run jmsnas certs again") from error
