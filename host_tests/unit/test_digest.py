import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from firmware.core.digest import hmac_sha256, same


def test_rfc_4231_case_2():
    digest = hmac_sha256(b"Jefe", b"what do ya want ", b"for nothing?")
    assert digest.hex() == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"


@given(st.binary(max_size=200), st.binary(max_size=300))
def test_agrees_with_cpython(key, message):
    assert hmac_sha256(key, message) == hmac.new(key, message, hashlib.sha256).digest()


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_same_is_equality(left, right):
    assert same(left, right) == (left == right)
