import contextlib
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.core import sealing

KEY = bytes(range(32))
IV = bytes(range(16))


def test_the_next_key_is_the_one_of_the_specification():
    salt = bytes(range(32, 64))
    expected = hmac.new(KEY, b"bijli key\0" + salt, hashlib.sha256).digest()
    assert sealing.next_key(KEY, salt) == expected


def test_a_sealed_text_is_the_one_of_openssl():
    # printf '{"wifi":{}}' | openssl enc -aes-256-cbc -K $(HMAC of "bijli link") -iv 0001..0f
    assert sealing.seal(KEY, IV, b'{"wifi":{}}') == IV.hex() + "34095607bf0072efad9df870d895d5e4"


@given(st.binary(max_size=200), st.binary(min_size=16, max_size=16))
def test_what_was_sealed_comes_back_and_under_no_other_key(plain, iv):
    sealed = sealing.seal(KEY, iv, plain)
    assert sealing.unseal(KEY, sealed) == plain
    with contextlib.suppress(sealing.SealError):  # one padding in 256 looks right by chance
        assert sealing.unseal(bytes(32), sealed) != plain


@pytest.mark.parametrize(
    "sealed", ["", "00", "zz" * 32, "00" * 16, "00" * 33, "00" * 1808, 5, None]
)
def test_what_cannot_be_opened_is_refused(sealed):
    with pytest.raises(sealing.SealError):
        sealing.unseal(KEY, sealed)
