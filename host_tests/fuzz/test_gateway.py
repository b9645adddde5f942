"""The gateway's parsers against mutated messages; `make fuzz` takes longer."""

import msgspec
import pytest

from gateway import messages
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
