"""The gateway's parsers against mutated messages; `make fuzz` takes longer."""

import json

import msgspec
import pytest
import sqlalchemy as sa

from firmware.link import codec
from gateway import messages, tables
from gateway.transport import Incoming
from host_tests.fuzz import gateway, run

SEED = 20260105


@pytest.mark.parametrize(("name", "inputs"), [("gateway messages", 300), ("gateway time", 1500)])
def test_no_message_of_a_meter_makes_the_gateway_fail(name, inputs):
    line = gateway.fuzz(name, SEED, inputs, 60)
    assert run.failure(line) is None
    assert line["inputs"] == inputs
    assert 0 < line["refused"] < inputs


@pytest.mark.parametrize("payload", [b'{"v":1,"nonce":"\x80"}', b'{"v":1,"x":' + b"[" * 5000])
@pytest.mark.parametrize(
    "decode",
    [messages.decode_up, messages.decode_live, messages.decode_answer, messages.decode_ask],
)
def test_a_decoder_refuses_by_one_exception_only(decode, payload):
    """msgspec alone raises UnicodeDecodeError and RecursionError, too."""
    with pytest.raises(msgspec.DecodeError):
        decode(payload)


def test_impossible_settings_in_a_record_are_not_taken(tmp_path):
    """Records are not signed: whoever has the meter's broker password can write one."""
    parser = gateway.Messages(tmp_path)

    def kept():
        with parser.store.reading() as connection:
            return json.loads(connection.execute(sa.select(tables.meters.c.settings)).scalar_one())

    before = kept()
    documents = ({"key": "00"}, {"rules": 5}, {"grace_s": "long"}, {"grace_s": 60})
    for seq, document in enumerate(documents, 1):
        record = {**gateway.some_record("settings", seq), "document": document}
        message = {"v": 1, "store": "9f3a01bc", "records": [record]}
        topic = codec.topic(gateway.METER, "up")
        incoming = Incoming(topic, codec.encode(message), 1, 1, 1)
        assert kept() == before
        with parser.store.writer.begin() as connection:
            parser.ingest.handle(connection, [incoming], gateway.NOW_UTC_MS)
    assert kept()["rules"]["grace_s"] == 60
    parser.close()
