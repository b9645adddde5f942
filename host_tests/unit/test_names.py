"""Questions and answers of DNS, against RFC 1035 and against anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.link.mqtt import NameUnknown, is_address
from firmware.link.names import address_in, question

NUMBER = 0x1234
HEAD = b"\x12\x34\x81\x80\0\x01\0\x02\0\0\0\0"
ASKED = b"\x06broker\x04test\0\0\x01\0\x01"
CNAME = b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01b\xc0\x13"
ADDRESS = b"\x01b\xc0\x13\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\xa8\x01\x07"


def test_the_question_is_the_one_of_the_standard():
    assert question("broker.test", NUMBER) == (
        b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x06broker\x04test\0\0\x01\0\x01"
    )


@pytest.mark.parametrize("host", ["", ".", "a..b", "x" * 64, "a." + "x" * 64])
def test_what_is_no_name_is_not_asked_for(host):
    with pytest.raises(NameUnknown):
        question(host, NUMBER)


def test_the_first_address_is_taken_also_behind_another_name():
    assert address_in(HEAD + ASKED + CNAME + ADDRESS, NUMBER) == "192.168.1.7"


def test_a_multicast_answer_has_a_mark_in_its_group():
    packet = HEAD.replace(b"\0\x01\0\x02", b"\0\0\0\x01") + b"\x01b\x05local\0"
    assert address_in(packet + b"\0\x01\x80\x01\0\0\0\x3c\0\x04\x0a\0\0\x02", NUMBER) == "10.0.0.2"


def test_an_answer_without_an_address_says_so():
    assert address_in(HEAD + ASKED + CNAME + CNAME, NUMBER) == ""
    with pytest.raises(NameUnknown, match="code 3"):
        address_in(HEAD.replace(b"\x81\x80", b"\x81\x83") + ASKED, NUMBER)


def test_what_is_no_answer_to_this_question_is_none():
    assert address_in(HEAD + ASKED + CNAME + ADDRESS, NUMBER + 1) is None
    assert address_in(question("broker.test", NUMBER), NUMBER) is None
    whole = HEAD + ASKED + CNAME + ADDRESS
    for length in range(len(whole)):
        assert address_in(whole[:length], NUMBER) is None


@given(st.binary(max_size=120), st.booleans())
def test_any_bytes_end(packet, ours):
    try:
        found = address_in(HEAD + packet if ours else packet, NUMBER)
    except NameUnknown:
        return
    assert not found or is_address(found)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("10.0.0.1", True), ("broker.test", False), ("1.2.3", False), ("1.2.3.x", False)],
)
def test_an_address_is_told_from_a_name(host, expected):
    assert is_address(host) is expected
