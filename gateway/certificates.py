"""A private certification authority for one gateway, and the broker's certificate under it.

Meters pin the authority: its certificate is in their provisioning document. ECDSA on P-256, which
an ESP32 checks quickly. All certificates are valid from 2024 on, so that a meter whose clock is
behind does not refuse them; the authority's for 20 years, as long as a meter is in use, the
broker's for 2 years, renewed below 30 days. Tests: host_tests/gateway/test_certificates.py.
"""

from __future__ import annotations

import datetime
import ipaddress
import logging
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.errors import BrokerError
from gateway.vault import write_private

log = logging.getLogger("gateway.certificates")

CA_FILE = "ca.pem"
CA_KEY_FILE = "ca.key"
SERVER_FILE = "server.pem"
SERVER_KEY_FILE = "server.key"
VALID_FROM = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
CA_DAYS = 20 * 365
SERVER_DAYS = 2 * 365
RENEW_DAYS = 30


def prepare(folder: Path, names: list[str], now_utc_ms: int) -> None:
    """Have `folder` hold an authority and a server certificate for `names` that is valid.

    What is there and fits is kept. Raises BrokerError if the authority is incomplete or unreadable.
    """
    now = datetime.datetime.fromtimestamp(now_utc_ms / 1000, datetime.UTC)
    ca, ca_key = _authority(folder, now)
    server = folder / SERVER_FILE
    if server.exists() and (folder / SERVER_KEY_FILE).exists() and _fits(server, ca, names, now):
        return
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives: list[x509.GeneralName] = []
    for name in names:
        # Also as text: not every TLS library of a meter compares addresses.
        alternatives.append(x509.DNSName(name))
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            continue  # a name, no address
    certificate = (
        _builder(f"Bijli broker {names[0]}"[:64], key.public_key(), now, SERVER_DAYS)
        .issuer_name(ca.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    _write_key(folder / SERVER_KEY_FILE, key)
    write_private(server, certificate.public_bytes(serialization.Encoding.PEM))
    log.info("broker certificate for %s, until %s", ", ".join(names), _until(certificate))


def _authority(
    folder: Path, now: datetime.datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    path, key_path = folder / CA_FILE, folder / CA_KEY_FILE
    if path.exists() and key_path.exists():
        try:
            key = serialization.load_pem_private_key(key_path.read_bytes(), None)
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except ValueError as error:
            raise BrokerError(f"the authority in {folder} cannot be read: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise BrokerError(f"{key_path} is not a key that was made here")
        return certificate, key
    if path.exists():
        # Never replaced silently: the meters know this one.
        raise BrokerError(f"{key_path} is missing, but meters may know {path}: restore it")
    key = ec.generate_private_key(ec.SECP256R1())
    name = "Bijli broker authority"
    certificate = (
        _builder(name, key.public_key(), now, CA_DAYS)
        .issuer_name(_name(name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_key(key_path, key)
    write_private(path, certificate.public_bytes(serialization.Encoding.PEM))
    log.info("new authority in %s, until %s", folder, _until(certificate))
    return certificate, key


def _fits(path: Path, ca: x509.Certificate, names: list[str], now: datetime.datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        certificate.verify_directly_issued_by(ca)
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except Exception as error:
        # Whatever is wrong with it (the library has many ways to say so), a new one is made.
        log.warning("%s is replaced: %s", path, error)
        return False
    held = extension.value.get_values_for_type(x509.DNSName)
    left = certificate.not_valid_after_utc - now
    return set(names) <= set(held) and left > datetime.timedelta(days=RENEW_DAYS)


def _builder(
    name: str, public: ec.EllipticCurvePublicKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(VALID_FROM)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    write_private(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _until(certificate: x509.Certificate) -> str:
    return certificate.not_valid_after_utc.date().isoformat()
