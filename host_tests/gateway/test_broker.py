"""The shipped broker configuration: who may do what, and what survives."""

import os
import socket
import threading
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from gateway.broker_files import User, password_hash
from host_tests.fakes.meter import FakeMeter

WAIT_S = 20


class Probe:
    """A plain MQTT client with any credentials."""

    def __init__(self, port, user=None, password=None, client_id="probe", topics=()):
        self.answered = threading.Event()
        self.subscribed = threading.Event()
        self.reason = None
        self.got = []
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, reconnect_on_failure=False
        )
        if user:
            self.client.username_pw_set(user, password)
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


def test_a_taken_port_is_an_error_with_mosquittos_words(make_bench):
    from gateway.errors import BrokerError

    with socket.create_server(("127.0.0.1", 0)) as taken:
        bench = make_bench()
        bench.settings.broker_port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match="in use"):
            bench.start()
    assert not bench.clock.workers


def test_an_external_broker(make_bench, bench, tmp_path):
    """The second gateway uses the first one's broker, with a user of its own."""
    from gateway.broker import Address

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


def test_tls_listener(make_bench, tmp_path):
    """A meter that pins the gateway's certificate connects, one that pins another does not."""
    import ssl

    from gateway.broker import TlsListener, free_port

    certificate, key = certificate_files(tmp_path / "right")
    other, _ = certificate_files(tmp_path / "wrong")
    port = free_port("127.0.0.1")
    bench = make_bench(tls=TlsListener("127.0.0.1", port, certificate, key)).start()
    document = bench.register()
    document["broker"]["port"] = port
    meter = FakeMeter(document)
    bench.meters.append(meter)
    meter.client.tls_set(ca_certs=str(certificate))
    meter.connect()
    meter.block(1)
    meter.flush()
    assert len(bench.get("/api/meters/JH-0001/readings")) == 1
    with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", port)) as plain:
        ssl.create_default_context(cafile=str(other)).wrap_socket(
            plain, server_hostname="127.0.0.1"
        )


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
