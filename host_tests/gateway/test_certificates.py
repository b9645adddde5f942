"""The private authority and the broker's certificate: lifetimes, renewal, and what is refused."""

import datetime

import pytest
from cryptography import x509

from gateway import certificates
from gateway.errors import BrokerError

NOW_MS = 1_767_600_000_000
DAY_MS = 86_400_000


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_lifetimes_and_names(tmp_path):
    certificates.prepare(tmp_path, ["broker.example", "192.168.1.2"], NOW_MS)
    now = datetime.datetime.fromtimestamp(NOW_MS / 1000, datetime.UTC)
    ca, server = certificate(tmp_path / "ca.pem"), certificate(tmp_path / "server.pem")
    # A meter whose clock stands at its build date takes both.
    early = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    assert ca.not_valid_before_utc == server.not_valid_before_utc == early
    assert (ca.not_valid_after_utc - now).days == 20 * 365
    assert (server.not_valid_after_utc - now).days == 2 * 365
    server.verify_directly_issued_by(ca)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.example", "192.168.1.2"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["192.168.1.2"]
    assert len((tmp_path / "ca.pem").read_bytes()) < 1000, "it goes into an order to a meter"


def test_what_is_valid_stays_and_what_ends_is_renewed(tmp_path):
    def files(days, names=("a",)):
        certificates.prepare(tmp_path, list(names), NOW_MS + days * DAY_MS)
        return (tmp_path / "ca.pem").read_bytes(), (tmp_path / "server.pem").read_bytes()

    first = files(0)
    assert files(2 * 365 - 31) == first
    renewed = files(2 * 365 - 29)
    assert renewed[0] == first[0] and renewed[1] != first[1]
    other = files(2 * 365 - 29, ("a", "b"))
    assert other[0] == first[0] and other[1] != renewed[1]
    (tmp_path / "server.pem").write_text("nonsense")
    assert files(0)[0] == first[0]


def test_an_authority_that_meters_know_is_never_replaced(tmp_path):
    certificates.prepare(tmp_path, ["a"], NOW_MS)
    key = tmp_path / "ca.key"
    content = key.read_bytes()
    key.write_text("nonsense")
    with pytest.raises(BrokerError, match="cannot be read"):
        certificates.prepare(tmp_path, ["a"], NOW_MS)
    key.unlink()
    with pytest.raises(BrokerError, match="is missing"):
        certificates.prepare(tmp_path, ["a"], NOW_MS)
    key.write_bytes(content)
    certificates.prepare(tmp_path, ["a"], NOW_MS)
