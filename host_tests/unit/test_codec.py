import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.link import codec

KEY = bytes(range(32))
ORDER = {
    "v": 1,
    "meter": "JH-0001",
    "id": "r-1",
    "counter": 12,
    "kind": "recharge",
    "amount_mp": 5000000,
}


def test_the_signature_is_the_one_of_the_specification():
    # openssl: printf 'JH-0001\0{}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0001..1f
    import hashlib
    import hmac

    expected = hmac.new(KEY, b"JH-0001\0{}", hashlib.sha256).hexdigest().encode()
    assert codec.sign(KEY, "JH-0001", b"{}") == expected + b"{}"


@given(st.binary(max_size=100), st.integers(0, 8 * 64 - 1))
def test_any_changed_bit_of_a_signed_message_is_refused(payload, bit):
    message = bytearray(codec.sign(KEY, "JH-0001", payload))
    assert codec.open_signed(KEY, "JH-0001", message) == payload
    bit %= 8 * len(message)
    message[bit // 8] ^= 1 << bit % 8
    with pytest.raises(codec.CodecError):
        codec.open_signed(KEY, "JH-0001", message)


def test_another_meters_message_is_refused():
    message = codec.sign(KEY, "JH-0001", b"{}")
    with pytest.raises(codec.CodecError):
        codec.open_signed(KEY, "JH-0002", message)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_by_name(payload):
    for check in (
        lambda: codec.check_order("JH-0001", payload),
        lambda: codec.check_ack(payload),
        lambda: codec.check_time(payload, "00"),
        lambda: codec.open_signed(KEY, "JH-0001", payload),
    ):
        with pytest.raises(codec.CodecError):
            check()


@given(st.sampled_from(sorted(ORDER)), st.none() | st.booleans() | st.text() | st.integers())
def test_an_order_with_one_wrong_member_is_refused_or_harmless(member, value):
    payload = json.dumps({**ORDER, member: value}).encode()
    try:
        order = codec.check_order("JH-0001", payload)
    except codec.CodecError as refusal:
        assert refusal.field == member
    else:
        assert order["meter"] == "JH-0001"
        assert 1 <= order["counter"] <= codec.COUNTER_MAX


@pytest.mark.parametrize(
    "topic", ["", "bijli/1/A", "bijli/2/A/up", "bijli/1/A/nope", "bijli/1//up"]
)
def test_foreign_topics_are_refused(topic):
    with pytest.raises(codec.CodecError):
        codec.split_topic(topic)


def test_topics_go_both_ways():
    assert codec.split_topic(codec.topic("JH-0001", "up")) == ("JH-0001", "up")


RECORD = {
    "seq": 1,
    "boot": 1,
    "utc_s": 1767600000,
    "time_valid": 1,
    "up_s": 0,
    "prev": "0123456789abcdef" * 2,
    "type": "credit",
    "kind": "recharge",
    "id": "r-1",
    "counter": 1,
    "amount_mp": 5,
    "import_wh": 0,
    "balance_mp": 5,
}


@given(st.sampled_from(sorted(RECORD)), st.none() | st.booleans() | st.floats() | st.just(-1 << 70))
def test_a_record_with_one_wrong_member_is_refused_by_name(member, value):
    assert codec.check_record(dict(RECORD)) == RECORD
    with pytest.raises(codec.CodecError) as refusal:
        codec.check_record({**RECORD, member: value})
    assert refusal.value.field == member


@pytest.mark.parametrize(
    "member",
    [0.5, float("inf"), 2**63, -(2**63) - 1, "\ud800", "\0", "\u0928", {1: 2}, [[[[[[[[]]]]]]]]],
)
def test_a_document_that_does_not_survive_the_way_is_refused(member):
    with pytest.raises(codec.CodecError, match="document: must have integers"):
        codec.check_document({"id": "a", "x": member})


def test_a_document_keeps_members_that_nobody_knows():
    document = {"id": "a", "x": [{"y": [None, True, -(2**63), "z"]}]}
    assert codec.check_document(document) is document


def test_more_json_than_memory_is_refused(monkeypatch):
    def loads(_payload):
        raise MemoryError

    monkeypatch.setattr(codec.json, "loads", loads)
    with pytest.raises(codec.CodecError, match="payload"):
        codec.decode(b"{}")
