"""A CA and certificates for a broker, made for a test."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
NAMES = [
    x509.DNSName("broker.test"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
]


def _key(kind):
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, 2048)


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A CA: `pem` is its certificate as text."""

    def __init__(self, kind="ec"):
        self._kind = kind
        self._key = _key(kind)
        certificate = self._sign(_name("Test CA"), self._key, True, (-1, 3650))
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()

    def _sign(self, subject, key, ca, days):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(_name("Test CA"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), True)
        )
        if not ca:
            builder = builder.add_extension(x509.SubjectAlternativeName(NAMES), False)
        return builder.sign(self._key, hashes.SHA256())

    def certify(self, folder, name, days=(-1, 365)):
        """(certificate file, key file) for a broker of NAMES, valid so many days from now."""
        key = _key(self._kind)
        certificate = self._sign(_name("broker.test"), key, False, days)
        files = folder / f"{name}.crt", folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files
