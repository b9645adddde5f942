"""The shipped broker configuration: who may do what, and what survives."""

import os
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from typer.testing import CliRunner

from firmware.core.config import Config
from gateway.broker import Address, Broker, free_port
from gateway.broker_files import User, password_hash
from gateway.cli import app
from host_tests.fakes.meter import FakeMeter
from host_tests.gateway.conftest import mosquitto_or_skip

WAIT_S = 20


class Probe:
    """A plain MQTT client with any credentials."""

    def __init__(self, port, user=None, password=None, client_id="probe", topics=(), ca=None):
        self.answered = threading.Event()
        self.subscribed = threading.Event()
        self.reason = None
        self.got = []
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, reconnect_on_failure=False
        )
        if user:
            self.client.username_pw_set(user, password)
        if ca:
            self.client.tls_set(ca_certs=str(ca))
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = lambda _c, _d, message: self.got.append(message.topic)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.answered.wait(WAIT_S)
        if topics:
            self.client.subscribe([(topic, 1) for topic in topics])
            assert self.subscribed.wait(WAIT_S)

    def _on_connect(self, _client, _data, _flags, reason, _properties):
        self.reason = reason
        self.answered.set()

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def port(bench):
    return bench.gateway.broker_address.port


def test_nobody_without_the_right_password(bench, port):
    document = bench.register()
    for user, password in (
        (None, None),
        ("JH-0001", "wrong"),
        ("JH-0002", document["broker"]["password"]),
        ("bijli.gateway", ""),
    ):
        probe = Probe(port, user, password)
        assert probe.reason.is_failure, (user, password)
        probe.close()


def test_a_meter_reaches_only_its_own_topics(bench, port):
    mine = bench.meter("JH-0001")
    other = bench.register("JH-0002")
    spy = Probe(
        port,
        "JH-0002",
        other["broker"]["password"],
        "JH-0002",
        topics=("bijli/1/JH-0001/order", "bijli/#", "#", "bijli/1/JH-0001/up", "$SYS/#"),
    )
    # A forged record and a forged acknowledgement for the other meter.
    for leaf in ("up", "ack", "order", "live"):
        spy.client.publish(f"bijli/1/JH-0001/{leaf}", b"forged", 1).wait_for_publish(WAIT_S)
    spy.client.publish("bijli/1/JH-0002/ack", b"forged", 1).wait_for_publish(WAIT_S)
    mine.block(10)
    mine.flush()
    bench.recharge_is(bench.recharge().json()["id"], "confirmed")
    spy.close()
    assert spy.got == []
    # Confirmed is told first, then the acknowledgement goes out.
    mine.wait_for(lambda: mine.acks[-1]["seq"] == len(mine.journal))
    assert bench.get("/api/quarantine") == []


def test_a_client_id_of_another_does_not_push_it_off(bench, port):
    mine = bench.meter("JH-0001")
    other = bench.register("JH-0002")
    thief = Probe(port, "JH-0002", other["broker"]["password"], client_id="JH-0001")
    assert not thief.reason.is_failure
    mine.block(10)
    mine.flush()
    assert mine.connected
    thief.close()


def test_it_listens_on_its_own_port_only(bench, port):
    """A setting above the first listener opens the default port as well (mosquitto 2.0)."""
    pid = bench.gateway.broker.pid
    inodes = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    listening = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                listening.add(int(fields[1].rsplit(":", 1)[1], 16))
    assert listening == {port}


def test_a_killed_broker_comes_back_and_nothing_is_lost(bench):
    meter = bench.meter()
    meter.block(1)
    meter.flush()
    broker = bench.gateway.broker
    first = broker.pid
    os.kill(first, 9)
    bench.clock.worker_waits("broker", until=True)
    bench.clock.advance(60_000)
    bench.until(lambda: broker.pid not in (None, first))
    bench.until(lambda: bench.clock.advance(1000) or bench.gateway.transport.connected)
    meter.wait_for(lambda: meter.connected)
    meter.block(1)
    meter.flush()
    assert len(bench.get("/api/meters/JH-0001/readings")) == 2
    recharge = bench.recharge().json()["id"]
    bench.recharge_is(recharge, "confirmed")
    assert bench.get("/api/health")["broker"]["restarts"] >= 1


def test_a_killed_broker_does_not_make_meters_that_are_gone_seem_there(bench, make_bench):
    """It remembers `online` of a meter whose will it could not send any more."""
    there, gone = bench.meter("JH-0001"), bench.meter("JH-0002")
    gone.vanish()
    bench.until(lambda: not bench.gateway.live.view("JH-0002")["online"])
    # What a killed broker is left with: the meter is gone, its retained word is not.
    publish = bench.gateway.transport._client.publish
    publish("bijli/1/JH-0002/link", b"online", 1, True).wait_for_publish(WAIT_S)
    bench.stop()
    again = make_bench().start()
    again.until(lambda: again.gateway.live.view("JH-0001").get("online"))
    there.block(1)
    there.flush()
    assert again.gateway.live.view("JH-0002")["online"] is False


def test_a_new_meter_does_not_disturb_the_others(bench):
    first = bench.meter("JH-0001")
    before = bench.gateway.transport.session
    second = bench.meter("JH-0002")
    for meter in (first, second):
        meter.block(1)
        meter.flush()
    assert bench.gateway.transport.session == before


def test_the_port_stays_the_same_over_a_restart(bench, make_bench, port):
    bench.stop()
    again = make_bench().start()
    assert again.gateway.broker_address.port == port


def read_late(broker, lines):
    """Reads what mosquitto said when it has ended, and everybody could know that."""
    broker._child.wait()
    broker._worker.wake()
    broker._failed.wait(0.2)
    READ_LOG(broker, lines)


READ_LOG = Broker._read_log


@pytest.mark.parametrize("read", [READ_LOG, read_late])
def test_a_taken_port_is_an_error_with_mosquittos_words(make_bench, monkeypatch, read):
    from gateway.errors import BrokerError

    monkeypatch.setattr(Broker, "_read_log", read)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bench = make_bench()
        bench.settings.broker_port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match="in use"):
            bench.start()
    assert not bench.clock.workers


def test_an_external_broker(make_bench, bench, tmp_path):
    """The second gateway uses the first one's broker, with a user of its own."""
    own = bench.gateway.broker_address
    second = make_bench(
        folder=tmp_path / "second", external=Address(own.host, own.port, own.user, own.password)
    )
    # One client id, one gateway: the first one leaves the broker to the second.
    bench.gateway.transport.stop()
    second.start()
    document = second.register("JH-0007")
    bench.gateway.broker._users = lambda: [
        User("JH-0007", "JH-0007", password_hash(document["broker"]["password"]))
    ]
    bench.gateway.broker.reload()
    meter = FakeMeter(document)
    second.meters.append(meter)
    meter.connect()
    meter.block(5)
    meter.flush()
    assert len(second.get("/api/meters/JH-0007/readings")) == 1
    bench.gateway._undo.remove(bench.gateway.transport.stop)


def trusts(port, ca):
    """Whether a client that pins the authority in `ca` takes the broker's certificate."""
    context = ssl.create_default_context(cafile=str(ca))
    try:
        with socket.create_connection(("127.0.0.1", port), WAIT_S) as plain:
            context.wrap_socket(plain, server_hostname="127.0.0.1").close()
    except ssl.SSLCertVerificationError:
        return False
    return True


def speaks_plain(port):
    """Whether the broker answers an MQTT CONNECT that comes without TLS."""
    connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x1e\x00\x01x"
    try:
        with socket.create_connection(("127.0.0.1", port), WAIT_S) as plain:
            plain.sendall(connect)
            return plain.recv(4)[:1] == b"\x20"
    except ConnectionResetError:
        return False


def test_tls_with_an_authority_of_its_own(make_bench, tmp_path):
    port = free_port("127.0.0.1")
    bench = make_bench(tls_port=port).start()
    document = bench.register()
    assert document["broker"]["port"] == port
    ca = tmp_path / "pinned.pem"
    ca.write_text(document["broker"]["ca"])
    Config(document)  # the firmware takes it
    other, _key = certificate_files(tmp_path / "other")
    assert trusts(port, ca)
    assert not trusts(port, other)
    assert not speaks_plain(port)
    assert speaks_plain(bench.gateway.broker_address.port), "the gateway's own, on this computer"
    meter = FakeMeter(document)
    bench.meters.append(meter)
    meter.client.tls_set(ca_certs=str(ca))
    meter.connect()
    meter.block(1)
    meter.flush()
    bench.recharge_is(bench.recharge().json()["id"], "confirmed")
    stranger = Probe(port, "JH-0001", "wrong", ca=ca)
    assert stranger.reason.is_failure
    stranger.close()
    # The authority stays over a restart, and so does a certificate that is valid.
    files = [(bench.folder / "tls" / name).read_bytes() for name in ("ca.pem", "server.pem")]
    bench.stop()
    again = make_bench(tls_port=port).start()
    assert files == [(again.folder / "tls" / n).read_bytes() for n in ("ca.pem", "server.pem")]
    for name in ("ca.key", "server.key"):
        assert (again.folder / "tls" / name).stat().st_mode & 0o777 == 0o600


def test_a_configuration_for_somebody_elses_mosquitto(bench, make_bench, tmp_path):
    """`bijli broker config`, a mosquitto that knows nothing of us, the gateway by TLS."""
    document = bench.register("JH-0001")
    other = bench.register("JH-0002")
    bench.stop()
    out, port = tmp_path / "broker", free_port("127.0.0.1")

    def configure():
        result = CliRunner().invoke(
            app,
            [
                *[
                    "broker",
                    "config",
                    "--tls",
                    "--host",
                    "127.0.0.1",
                    "--name",
                    "127.0.0.1",
                    "--port",
                ],
                str(port),
                *("--out", str(out), "--data", str(bench.folder)),
            ],
        )
        assert result.exit_code == 0, result.output

    configure()
    password = (out / "gateway.password").read_text().strip()
    passwords = (out / "passwords").read_text()
    for name in ("passwords", "gateway.password", "server.key", "ca.key", "mosquitto.conf", "acl"):
        assert (out / name).stat().st_mode & 0o777 == 0o600
    secrets = (password, document["broker"]["password"], other["broker"]["password"])
    assert not any(secret in passwords for secret in secrets)
    configure()
    assert (out / "gateway.password").read_text().strip() == password
    with mosquitto(out, port):
        ca = out / "ca.pem"
        assert not speaks_plain(port)
        assert trusts(port, ca)
        wrong, _key = certificate_files(tmp_path / "wrong")
        assert not trusts(port, wrong)
        for user, secret in ((None, None), ("JH-0001", "x"), ("JH-0001", secrets[2])):
            probe = Probe(port, user, secret, ca=ca)
            assert probe.reason.is_failure
            probe.close()
        external = Address("127.0.0.1", port, "bijli.gateway", password, str(ca))
        again = make_bench(external=external).start()
        document["broker"]["port"] = port
        mine = FakeMeter(document)
        again.meters.append(mine)
        mine.client.tls_set(ca_certs=str(ca))
        mine.connect()
        spy = Probe(
            port, "JH-0002", secrets[2], "JH-0002", topics=("bijli/1/JH-0001/#", "#"), ca=ca
        )
        spy.client.publish("bijli/1/JH-0001/up", b"forged", 1).wait_for_publish(WAIT_S)
        mine.block(1)
        mine.flush()
        again.recharge_is(again.recharge().json()["id"], "confirmed")
        assert spy.got == []
        spy.close()
        assert again.get("/api/quarantine") == []
        # What is handed out from now on names this broker and pins its authority.
        assert again.register("JH-0003")["broker"]["ca"] == ca.read_text()
        mine.close()
        again.stop()


@contextmanager
def mosquitto(folder, port):
    """A mosquitto of its own on the files in `folder`."""
    config = folder / "mosquitto.conf"
    if os.geteuid() == 0:
        config.write_text("user root\n" + config.read_text())
    child = subprocess.Popen(
        [*mosquitto_or_skip(), "-c", str(config)], stderr=subprocess.PIPE, text=True
    )
    try:
        for line in child.stderr:
            if line.rstrip().endswith("running"):
                break
        yield child
    finally:
        child.terminate()
        child.communicate(timeout=WAIT_S)


def certificate_files(folder):
    """A self-signed certificate for 127.0.0.1 and its key, PEM."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bijli test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"
