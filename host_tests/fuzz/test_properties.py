"""The parsers on CPython with arbitrary values: JSON of every shape.

test_on_micropython.py has arbitrary bytes, which are too seldom JSON.
"""

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware.core.config import Config, ConfigError
from firmware.core.records import RECORDS, RESULTS
from firmware.core.records import members as members_of
from firmware.core.sealing import SealError, unseal
from firmware.credit import charges
from firmware.credit import tariff as tariffs
from firmware.link import codec, mqtt
from firmware.storage import packing
from host_tests.fakes.bench import Bench
from host_tests.fakes.documents import KEY_HEX, meter_config, rich_tariff, tariff_document

# Nothing is judged by time: the machine may be busy.
settings.register_profile(
    "fuzz", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
UNTIMED = settings.get_profile("fuzz")

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 0, 1, 2**30, 2**31, 2**32, 2**63, 2**64])
    | st.floats()
    | st.text(max_size=40)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def damaged(document):
    """Copies of a document in which some members, at any depth, are missing or something else."""

    def change(value, draw):
        what = draw(st.integers(0, 11))
        if what == 0:
            return draw(VALUES)
        if isinstance(value, dict):
            changed = {name: change(item, draw) for name, item in value.items()}
            if what == 1 and changed:
                changed.pop(draw(st.sampled_from(sorted(changed))))
            if what == 2:
                changed[draw(st.text(max_size=8))] = draw(VALUES)
            return changed
        if isinstance(value, list):
            return [change(item, draw) for item in value]
        return value

    return st.composite(lambda draw: change(document, draw))()


@UNTIMED
@given(
    damaged(tariff_document((50, 600_000), (100, 700_000), (None, 800_000)))
    | damaged(rich_tariff())
)
def test_a_tariff_is_refused_by_name_or_can_be_charged_stored_and_read(document):
    try:
        tariff = tariffs.parse(codec.check_document(document))
    except (tariffs.TariffError, codec.CodecError) as error:
        assert error.field and error.why
        return
    quantities = charges.Quantities(tariff, 10**7)
    lines = charges.charge_lines(tariff, quantities)
    assert charges.charge_mp(tariff, quantities) == charges.total_mp(lines)
    again = {}
    members = {"document": tariff.document, "import_wh": 0, "balance_mp": 0}
    code, payload = packing.pack("tariff", members | prev_of("tariff"))
    assert packing.unpack(code, payload, again)
    assert tariffs.parse(again["document"]).lines == tariff.lines


def prev_of(kind):
    """The digest that a record of the ledger carries besides."""
    return {field: "00" * 16 for field, _form in members_of(kind) if field == "prev"}


@UNTIMED
@given(damaged(meter_config()))
def test_a_configuration_is_refused_by_name_or_complete(values):
    try:
        config = Config(values)
    except ConfigError as error:
        assert error.field and KEY_HEX not in str(error)
        return
    assert len(config.key) == 32 and config.window_start_min < config.window_end_min


@UNTIMED
@given(st.sampled_from(sorted(RECORDS)), st.data())
def test_a_record_is_refused_by_name_or_within_the_table(kind, data):
    record = {"type": kind, "seq": 1, "boot": 1, "utc_s": 0, "time_valid": 0, "up_s": 0}
    for field, form in members_of(kind):
        record[field] = form[0] if isinstance(form, tuple) else 1
        record[field] = {"text": "a", "json": {}}.get(form, record[field])
    try:
        codec.check_record(data.draw(damaged(record)))
    except codec.CodecError as error:
        assert error.field and error.why


@UNTIMED
@given(st.integers(0, 255), st.binary(max_size=200))
def test_any_payload_of_a_record_is_unpacked_or_not(code, payload):
    assert packing.unpack(code, payload, {}) in (True, False)


@UNTIMED
@given(st.binary(max_size=300))
def test_any_stream_is_packets_or_a_protocol_error(stream):
    decoder = mqtt.Decoder()
    at = 0
    try:
        while at + decoder.need <= len(stream):
            chunk, at = stream[at : at + decoder.need], at + decoder.need
            packet = decoder.feed(chunk)
            assert 1 <= decoder.need <= mqtt.PACKET_MAX
            if packet and packet[0] == mqtt.PUBLISH:
                mqtt.parse_publish(*packet[1:])
    except mqtt.ProtocolError:
        pass


@UNTIMED
@given(st.text() | st.binary().map(bytes.hex) | st.integers())
def test_any_sealed_text_opens_or_does_not(sealed):
    """One in 256 of whole blocks looks like padding: the order around it is signed."""
    with contextlib.suppress(SealError):
        assert len(unseal(bytes(32), sealed)) < len(sealed) // 2


ORDERS = (
    {"kind": "recharge", "amount_mp": 5},
    {"kind": "tariff", "document": tariff_document()},
    {"kind": "settings", "document": {"grace_s": 60}},
    {"kind": "relay", "state": "disconnected", "expires_utc_s": 2**32 - 1},
    {"kind": "arrears", "amount_mp": 5, "share_percent": 5},
    {"kind": "adjustment", "entry": "adjustment", "amount_mp": -5},
    {"kind": "account", "action": "opened", "document": {"account": "A-2", "balance_mp": 5}},
    {"kind": "account", "action": "closed", "document": {}},
    {"kind": "emergency", "limit_mp": 5},
    {"kind": "mode", "mode": "credit", "share_percent": 5, "per_day_mp": 5},
    {"kind": "key", "salt": "00" * 32},
    {"kind": "link", "sealed": "00" * 48},
    {"kind": "clock", "utc_s": 1_767_600_000},
    {"kind": "resync", "document": {"credits_mp": 5}},
    {"kind": "resend", "store": "00000000", "seq": 5},
)


@pytest.fixture(scope="module")
def meter(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("meter"), opening_balance_mp=10**9)
    yield bench
    bench.meter.journal.close()


@UNTIMED
@given(st.sampled_from(ORDERS), st.data())
def test_an_order_signed_with_the_right_key_is_answered_by_the_table(meter, order, data):
    """Whatever it says: refused is a result, and changes no balance and no contact."""
    body = {
        "v": 1,
        "meter": "JH-0001",
        "id": f"o-{meter.meter.journal.last_seq}",
        "counter": meter.meter.orders.highest + 1,
        **order,
    }
    payload = json.dumps(data.draw(damaged(body))).encode()
    before = (meter.meter.balance_mp(), meter.contact.closed, meter.meter.journal.last_seq)
    answer = meter.meter.handle_order(codec.sign(meter.meter.config.key, "JH-0001", payload))
    meter.meter.finish_operation()
    after = (meter.meter.balance_mp(), meter.contact.closed, meter.meter.journal.last_seq)
    if answer is None:
        assert after == before
        return
    assert answer["result"] in RESULTS
    if answer["result"] != "accepted":
        assert after[:2] == before[:2]
        assert after[2] <= before[2] + 1
    if meter.meter.orders.highest > 2**30:  # used up: go on with another meter
        meter.nvs.kept.clear()
        meter.meter.orders.highest = 0
