"""MQTT packets against the bytes of the standard, and the decoder against anything."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.link import mqtt
from firmware.link.mqtt import Decoder, ProtocolError, parse_publish


def decode(stream):
    """Packets of a byte string, as the client reads them."""
    decoder, packets, at = Decoder(), [], 0
    while at + decoder.need <= len(stream):
        need = decoder.need
        packet = decoder.feed(stream[at : at + need])
        at += need
        if packet:
            packets.append(packet)
    return packets, len(stream) - at


def test_connect_is_the_one_of_the_standard():
    packet = mqtt.connect_packet("JH-1", "user", "pass", "t/link", b"offline", 60)
    assert packet == (
        b"\x10\x2d"
        b"\x00\x04MQTT\x04\xec\x00\x3c"
        b"\x00\x04JH-1"
        b"\x00\x06t/link"
        b"\x00\x07offline"
        b"\x00\x04user"
        b"\x00\x04pass"
    )


def test_subscribe_is_the_one_of_the_standard():
    assert mqtt.subscribe_packet(10, ["a/b", "c"]) == (
        b"\x82\x0c\x00\x0a\x00\x03a/b\x01\x00\x01c\x01"
    )


def test_publish_is_the_one_of_the_standard():
    assert mqtt.publish_head("a/b", 2, 10, False) + b"hi" == b"\x32\x09\x00\x03a/b\x00\x0ahi"
    assert mqtt.publish_head("a/b", 2, 0, False) + b"hi" == b"\x30\x07\x00\x03a/bhi"
    assert mqtt.publish_head("a/b", 2, 10, True)[:1] == b"\x33"
    assert mqtt.puback_packet(0x1234) == b"\x40\x02\x12\x34"


@pytest.mark.parametrize(
    ("length", "coded"),
    [(0x7F - 3, b"\x7f"), (0x80 - 3, b"\x80\x01"), (16_384 - 3, b"\x80\x80\x01")],
)
def test_the_length_takes_as_many_bytes_as_it_needs(length, coded):
    assert mqtt.publish_head("a", length, 0, False)[1:-3] == coded


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60),
    st.binary(max_size=2_000),
    st.integers(0, 0xFFFF),
    st.booleans(),
)
def test_a_published_message_is_read_back(topic, payload, packet_id, retain):
    stream = mqtt.publish_head(topic, len(payload), packet_id, retain) + payload
    packets, rest = decode(stream * 2)
    assert rest == 0
    assert len(packets) == 2
    for kind, flags, body in packets:
        assert kind == mqtt.PUBLISH
        assert parse_publish(flags, body) == (topic, payload, packet_id)


def test_an_answer_that_is_too_long_is_refused_before_it_is_read():
    decoder = Decoder()
    decoder.feed(b"\x40")
    decoder.feed(b"\x81")
    with pytest.raises(ProtocolError):
        decoder.feed(b"\x20")  # 4,097
    assert decoder.need == 1


@pytest.mark.parametrize("length", [4_097, 5_120, 5_121, mqtt.SKIP_MAX])
def test_a_message_that_is_too_long_is_read_in_pieces_and_dropped(length):
    topic = "bijli/1/JH-1/order"
    payload = bytes(length - 4 - len(topic))
    stream = mqtt.publish_head(topic, len(payload), 7, False) + payload
    packets, rest = decode(stream + mqtt.puback_packet(9))
    assert rest == 0
    (kind, flags, begin), after = packets
    assert kind == mqtt.SKIPPED
    assert len(begin) <= 512
    assert parse_publish(flags, begin)[::2] == (topic, 7)
    assert after == (mqtt.PUBACK, 0, b"\0\x09")


def test_a_message_longer_than_is_skipped_is_refused_before_it_is_read():
    head = mqtt.publish_head("a", mqtt.SKIP_MAX, 7, False)
    with pytest.raises(ProtocolError):
        decode(head)


def test_a_length_of_five_bytes_is_refused():
    decoder = Decoder()
    decoder.feed(b"\x30")
    for _ in range(3):
        decoder.feed(b"\xff")
    with pytest.raises(ProtocolError):
        decoder.feed(b"\xff")


@pytest.mark.parametrize(
    ("flags", "body"),
    [
        (0, b""),
        (0, b"\0"),
        (0, b"\0\x05abc"),
        (2, b"\0\x03abc"),
        (2, b"\0\x03abc\0"),
        (2, b"\0\x03abc\0\0"),
        (4, b"\0\x03abc\0\x01"),
        (6, b"\0\x03abc\0\x01"),
        (0, b"\0\x02\xff\xfe"),
    ],
)
def test_a_malformed_publish_is_refused(flags, body):
    with pytest.raises(ProtocolError):
        parse_publish(flags, body)


@given(st.binary(max_size=200))
def test_any_bytes_end_in_packets_or_a_protocol_error(stream):
    try:
        packets, _ = decode(stream)
        for kind, flags, body in packets:
            assert len(body) <= mqtt.PACKET_MAX
            if kind == mqtt.PUBLISH:
                topic, payload, packet_id = parse_publish(flags, body)
                assert len(topic.encode()) + len(payload) + 2 <= len(body)
                assert packet_id == 0 or struct.pack(">H", packet_id) in body
    except ProtocolError:
        pass
