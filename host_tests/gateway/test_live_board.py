"""The live board of the gateway, which is told of things by several threads."""

import pytest

from gateway.live import LiveBoard

ORDER = {"id": "o-1", "meter": "JH-0001", "kind": "relay", "members": {"state": "connected"}}
RECHARGE = {"id": "r-1", "amount_mp": 100_000, "balance_mp": None, "code": "", "field": ""}
SENT = {"state": "sent", "times": {"queued_utc_ms": 1, "sent_utc_ms": 2}}
ENDED = {"state": "done", "times": {**SENT["times"], "ended_utc_ms": 3}}


@pytest.mark.parametrize(("kind", "view"), [("order", ORDER), ("recharge", RECHARGE)])
def test_what_was_read_before_the_end_and_told_behind_it_changes_nothing(kind, view):
    board = LiveBoard()
    tell = getattr(board, kind)
    tell({**view, **SENT})
    tell({**view, **ENDED})
    version, news = board.since(0)
    assert [shown["state"] for shown in news[kind + "s"]] == ["done"]
    tell({**view, **SENT})
    assert board.since(version) == (
        version, {"meters": [], "events": [], "recharges": [], "orders": [], "accounts": []}
    )  # fmt: skip
