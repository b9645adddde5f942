"""The clock conductor: its rules without I/O, its server, and the clock of CPython participants."""

import socket
import threading

import pytest

from boards.emulated.conductor import CAP_S, Conductor, Timekeeper
from boards.emulated.sim_clock import ClockGone, ConductedClock

START_MS = 1_767_225_600_000
A, B, SUPERVISOR = 1, 2, 9


def keeper(rate=None, names=("a", "b")):
    """A timekeeper at START_MS with busy participants of keys 1, 2, ..."""
    k = Timekeeper(START_MS, rate)
    for key, name in enumerate(names, 1):
        assert k.receive(key, f"join {name}", 0.0) == [(key, f"now 0 {START_MS}")]
    return k


def say(k, key, line, wall_s=0.0):
    return k.receive(key, line, wall_s)


def after(ms):
    return START_MS + ms


# ---- order and holds ----


def test_time_moves_to_the_earliest_only_when_all_are_idle():
    k = keeper()
    assert say(k, A, f"idle 1 {after(500)} 0") == []
    assert k.advance(0.0)[0] == []
    assert say(k, B, f"idle 1 {after(200)} 0") == []
    assert k.advance(0.0)[0] == [(B, f"now 1 {after(200)}")]
    assert k.advance(0.0)[0] == []  # b is busy now
    say(k, B, "idle 2 - 0")
    assert k.advance(0.0)[0] == [(A, f"now 1 {after(500)}")]


def test_all_whose_time_has_come_are_granted_together():
    k = keeper()
    say(k, A, f"idle 1 {after(100)} 0")
    say(k, B, f"idle 7 {after(100)} 0")
    assert k.advance(0.0)[0] == [(A, f"now 1 {after(100)}"), (B, f"now 7 {after(100)}")]


def test_idle_until_the_past_is_answered_at_once():
    k = keeper()
    assert say(k, A, f"idle 1 {START_MS} 0") == [(A, f"now 1 {START_MS}")]


def test_nobodys_time_moves_while_one_holds():
    k = keeper()
    say(k, A, f"idle 1 {after(10_000)} 1")
    say(k, B, f"idle 1 {after(10)} 0")
    assert k.advance(0.0)[0] == []
    assert say(k, A, "busy 2") == [(A, f"now 2 {START_MS}")]
    say(k, A, "idle 3 - 0")
    assert k.advance(0.0)[0] == [(B, f"now 1 {after(10)}")]


def test_idle_for_ever_of_all_leaves_time_alone():
    k = keeper()
    say(k, A, "idle 1 - 0")
    say(k, B, "idle 1 - 0")
    assert k.advance(0.0) == ([], None)
    assert k.now_ms == START_MS


# ---- who comes and goes ----


def test_leave_is_for_good():
    k = keeper()
    say(k, A, "leave")
    say(k, B, f"idle 1 {after(10)} 0")
    assert k.advance(0.0)[0] == [(B, f"now 1 {after(10)}")]


@pytest.mark.parametrize("says_so", [True, False])
def test_reborn_or_vanished_is_waited_for(says_so):
    k = keeper()
    if says_so:
        say(k, A, "reborn")
    k.gone(A, 0.0)
    say(k, B, f"idle 1 {after(10)} 0")
    assert k.advance(0.0)[0] == []
    say(k, 3, "join a")
    assert k.advance(0.0)[0] == []  # joined, and busy
    say(k, 3, "idle 1 - 0")
    assert k.advance(0.0)[0] == [(B, f"now 1 {after(10)}")]


def test_expected_is_waited_for_until_it_joins_or_is_forgotten():
    k = keeper(names=("a",))
    say(k, A, f"idle 1 {after(10)} 0")
    assert say(k, SUPERVISOR, "watch") == [(SUPERVISOR, "ok")]
    assert say(k, SUPERVISOR, "expect new") == [(SUPERVISOR, "ok")]
    assert k.advance(0.0)[0] == []
    assert say(k, SUPERVISOR, "forget new") == [(SUPERVISOR, "ok")]
    assert k.advance(0.0)[0] == [(A, f"now 1 {after(10)}")]


def test_forgotten_participant_is_not_waited_for_when_its_connection_ends():
    k = keeper()
    say(k, SUPERVISOR, "watch")
    say(k, SUPERVISOR, "forget a")
    k.gone(A, 0.0)
    say(k, B, f"idle 1 {after(10)} 0")
    assert k.advance(0.0)[0] == [(B, f"now 1 {after(10)}")]


def test_a_name_is_taken_once():
    k = keeper()
    with pytest.raises(ValueError, match="refused: a takes part already"):
        say(k, 3, "join a")


@pytest.mark.parametrize("line", ["", "join", "idle 1", "hello", "idle x y z", "forget"])
def test_what_is_not_understood_is_refused(line):
    k = keeper(names=("a",))
    say(k, SUPERVISOR, "watch")
    for key in (A, SUPERVISOR, 5):
        with pytest.raises(ValueError, match="refused: not understood here"):
            say(k, key, line)


# ---- caps ----


def test_a_deaf_participant_is_passed_over_once_and_comes_back(caplog):
    k = keeper()
    say(k, B, f"idle 1 {after(10)} 0")
    out, at_s = k.advance(0.0)
    assert (out, at_s) == ([], CAP_S)  # a is busy
    assert k.advance(CAP_S - 0.001)[0] == []
    assert k.advance(CAP_S)[0] == [(B, f"now 1 {after(10)}")]
    assert [r.getMessage() for r in caplog.records] == [
        f"a was busy for 10 s: time goes on without it from {START_MS}"
    ]
    say(k, B, f"idle 2 {after(20)} 0", CAP_S)
    say(k, A, "busy 1", CAP_S)  # it speaks again: it counts again
    assert k.advance(CAP_S)[0] == []


def test_a_hold_ends_at_its_cap_and_then_its_own_time_counts(caplog):
    k = keeper(names=("a",))
    say(k, A, f"idle 1 {after(30_000)} 1")
    assert k.advance(0.0) == ([], CAP_S)
    assert k.advance(CAP_S)[0] == [(A, f"now 1 {after(30_000)}")]
    assert "awaited an answer" in caplog.text


def test_an_expectation_ends_at_its_cap(caplog):
    k = keeper()
    say(k, A, "reborn")
    say(k, B, f"idle 1 {after(10)} 0")
    assert k.advance(CAP_S)[0] == [(B, f"now 1 {after(10)}")]
    assert "a did not come" in caplog.text


# ---- paced time ----


@pytest.mark.parametrize(("rate", "wall_s"), [(1, 30.0), (60, 0.5)])
def test_paced_time_waits_for_the_wall_clock(rate, wall_s):
    k = keeper(rate, names=("a",))
    say(k, A, f"idle 1 {after(30_000)} 0")
    out, at_s = k.advance(0.0)
    assert (out, at_s) == ([], pytest.approx(wall_s))
    assert k.advance(wall_s - 0.001)[0] == []
    assert k.advance(at_s)[0] == [(A, f"now 1 {after(30_000)}")]


def test_paced_time_flows_while_all_idle():
    k = keeper(60, names=("a",))
    say(k, A, f"idle 1 {after(30_000)} 0")
    k.advance(0.0)
    assert say(k, A, "busy 2", 0.25) == [(A, f"now 2 {after(15_000)}")]
    say(k, A, "idle 3 - 0", 0.25)
    k.advance(0.25)
    assert say(k, A, "busy 4", 10.25) == [(A, f"now 4 {after(615_000)}")]


def test_paced_time_never_passes_a_time_that_was_not_granted():
    k = keeper(60, names=("a",))
    say(k, A, f"idle 1 {after(1000)} 0")
    k.advance(0.0)
    assert say(k, A, "busy 2", 5.0) == [(A, f"now 2 {after(1000)}")]


def test_a_short_delay_is_made_up_for_and_a_long_one_is_dropped():
    k = keeper(1, names=("a",))
    say(k, A, f"idle 1 {after(100)} 0", 0.5)  # busy for 0.5 s
    assert k.advance(0.5)[0] == [(A, f"now 1 {after(100)}")]
    say(k, A, f"idle 2 {after(20_000)} 1", 0.5)  # holds for 9 s
    k.advance(0.5)
    say(k, A, "busy 3", 9.5)
    say(k, A, f"idle 4 {after(1100)} 0", 9.5)
    assert k.advance(9.5)[0] == [(A, f"now 4 {after(1100)}")]  # the last second is made up for
    say(k, A, f"idle 5 {after(1200)} 0", 9.5)
    assert k.advance(9.5) == ([], pytest.approx(9.6))


def test_the_rate_changes_while_time_runs():
    k = keeper(1, names=("a",))
    say(k, A, f"idle 1 {after(60_000)} 0")
    k.advance(0.0)
    k.set_rate(60, 10.0)
    assert k.now_ms == after(10_000)
    out, at_s = k.advance(10.0)
    assert (out, at_s) == ([], pytest.approx(10.0 + 50 / 60))
    k.set_rate(None, 10.1)
    assert k.advance(10.1)[0] == [(A, f"now 1 {after(60_000)}")]


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ValueError, match="rate"):
        Timekeeper(START_MS, rate)


# ---- going ahead ----


def test_the_only_one_with_something_to_do_is_told_how_far_it_may_go_by_itself():
    k = Timekeeper(START_MS)
    say(k, A, "join a ahead")
    say(k, B, "join b")
    say(k, A, f"idle 1 {after(1000)} 0")
    say(k, B, f"idle 1 {after(5500)} 0")
    assert k.advance(0.0)[0] == [(A, f"now 1 {after(1000)} {after(5500)}")]
    say(k, A, f"at {after(4000)}")
    assert k.now_ms == after(4000)
    say(k, A, f"idle 2 {after(6000)} 0")
    assert k.advance(0.0)[0] == [(B, f"now 1 {after(5500)}")]  # b did not ask to be told


def test_nobody_goes_ahead_beside_another_or_further_than_it_was_told():
    k = Timekeeper(START_MS)
    say(k, A, "join a ahead")
    say(k, B, "join b ahead")
    say(k, A, f"idle 1 {after(1000)} 0")
    say(k, B, f"idle 1 {after(1000)} 0")
    assert k.advance(0.0)[0] == [(A, f"now 1 {after(1000)}"), (B, f"now 1 {after(1000)}")]
    with pytest.raises(ValueError, match="refused"):
        say(k, A, f"at {after(1001)}")


def test_paced_time_goes_on_from_where_one_went_ahead():
    k = Timekeeper(START_MS)
    say(k, A, "join a ahead")
    say(k, A, f"idle 1 {after(1000)} 0")
    assert k.advance(0.0)[0] == [(A, f"now 1 {after(1000)} {after(61_000)}")]
    k.set_rate(1, 0.0)
    say(k, A, f"at {after(50_000)}", 0.1)
    say(k, A, f"idle 2 {after(51_000)} 0", 0.1)
    assert k.advance(0.1) == ([], pytest.approx(1.1))


# ---- the server ----


class Line:
    """A participant by hand."""

    def __init__(self, conductor):
        self.socket = socket.create_connection(conductor.address, timeout=10)
        self.answers = self.socket.makefile("r")

    def say(self, line):
        self.socket.sendall(line.encode() + b"\n")

    def ask(self, line):
        self.say(line)
        return self.hear()

    def hear(self):
        return self.answers.readline().rstrip("\n")

    def close(self):
        self.answers.close()
        self.socket.close()


@pytest.fixture
def conductor():
    with Conductor(start_ms=START_MS) as c:
        yield c


@pytest.fixture
def line(conductor):
    made = []

    def make():
        made.append(Line(conductor))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_server_grants_in_order(line):
    a, b = line(), line()
    assert a.ask("join a") == f"now 0 {START_MS}"
    assert b.ask("join b") == f"now 0 {START_MS}"
    b.say(f"idle 1 {after(20)} 0")
    assert a.ask(f"idle 1 {after(10)} 0") == f"now 1 {after(10)}"
    a.say("idle 2 - 0")
    assert b.hear() == f"now 1 {after(20)}"


def test_server_says_why_it_refuses_and_hangs_up(line):
    a, b = line(), line()
    a.ask("join a")
    assert b.ask("join a") == "refused: a takes part already"
    assert b.hear() == ""


def test_server_takes_pieces_of_lines_and_several_at_once(line):
    a = line()
    a.socket.sendall(b"jo")
    assert a.ask("in a") == f"now 0 {START_MS}"
    assert a.ask(f"idle 1 {after(5)} 1\nbusy 2") == f"now 2 {START_MS}"


def test_server_changes_rate_while_running(conductor, line):
    conductor.rate = 0.001
    a = line()
    a.ask("join a")
    a.say(f"idle 1 {after(60_000)} 0")  # would take 60,000 s
    conductor.rate = None
    assert a.hear() == f"now 1 {after(60_000)}"
    assert conductor.now_ms() == after(60_000)


# ---- the clock of CPython participants ----


def test_worker_waits_in_simulated_time(conductor):
    clock = ConductedClock(conductor.address, "gateway")
    worker = clock.worker("only")
    assert clock.utc_ms() == START_MS
    assert worker.wait(after(3_600_000)) is False
    assert clock.utc_ms() == after(3_600_000)
    worker.close()
    clock.close()


def test_time_stands_between_a_wake_and_the_next_wait(conductor, line):
    clock = ConductedClock(conductor.address, "gateway")
    results = []
    worker = clock.worker("ingest")
    woken, go_on = threading.Event(), threading.Event()

    def work():
        results.append(worker.wait(None))
        woken.set()
        go_on.wait(10)
        results.append(clock.utc_ms())
        worker.close()

    thread = threading.Thread(target=work)
    thread.start()
    board = line()
    board.ask("join board")
    assert board.ask(f"idle 1 {after(1000)} 0") == f"now 1 {after(1000)}"
    worker.wake()
    assert woken.wait(10)
    board.say(f"idle 2 {after(2000)} 0")
    assert conductor.now_ms() == after(1000)  # the worker has not waited again
    go_on.set()
    assert board.hear() == f"now 2 {after(2000)}"
    thread.join()
    assert results == [True, after(1000)]
    clock.close()


def test_a_wake_before_the_wait_is_not_lost(conductor):
    clock = ConductedClock(conductor.address, "gateway")
    worker = clock.worker("w")
    worker.wake()
    assert worker.wait(after(10)) is True
    assert worker.wait(after(10)) is False
    clock.close()


def test_the_earliest_worker_comes_first_and_a_hold_stops_all(conductor, line):
    clock = ConductedClock(conductor.address, "gateway")
    order = []
    workers = {ms: clock.worker(str(ms)) for ms in (300, 100, 200)}

    def work(ms):
        workers[ms].wait(after(ms))
        order.append((ms, clock.utc_ms()))
        workers[ms].close()

    threads = [threading.Thread(target=work, args=(ms,)) for ms in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert order == [(100, after(100)), (200, after(200)), (300, after(300))]
    clock.close()


def test_busy_holds_time_for_foreign_work(conductor, line):
    clock = ConductedClock(conductor.address, "gateway")
    board = line()
    board.ask("join board")
    with clock.busy():
        board.say(f"idle 1 {after(10)} 0")
        with clock.busy():
            assert clock.utc_ms() == START_MS
        assert conductor.now_ms() == START_MS
    assert board.hear() == f"now 1 {after(10)}"
    with clock.busy():
        assert clock.utc_ms() == after(10)
    clock.close()


def test_who_is_busy_for_long_gives_signs_of_life():
    wall_s = 0.0
    with socket.create_server(("127.0.0.1", 0)) as server:
        box = []

        def accept():
            connection = server.accept()[0]
            connection.sendall(f"now 0 {START_MS}\n".encode())
            box.append(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        clock = ConductedClock(server.getsockname(), "gateway", lambda: wall_s)
        thread.join()
        with box[0] as connection, connection.makefile("rb") as lines:
            assert lines.readline() == b"join gateway\n"
            with clock.busy():
                with clock.busy():
                    wall_s = 0.9
                with clock.busy():  # a piece of work that ends while another goes on
                    wall_s = 1.5
            assert lines.readline() == b"busy 0\n"
            assert lines.readline() == b"idle 1 - 0\n"
            clock.close()


def test_a_second_clock_of_the_same_name_is_refused(conductor):
    clock = ConductedClock(conductor.address, "gateway")
    with pytest.raises(ClockGone, match="gateway takes part already"):
        ConductedClock(conductor.address, "gateway")
    clock.close()


def test_who_waits_when_the_clock_ends_is_told():
    with Conductor(start_ms=START_MS) as conductor:
        clock = ConductedClock(conductor.address, "gateway")
        worker = clock.worker("w")
        told = []

        def work():
            try:
                worker.wait(None)
            except ClockGone:
                told.append(True)

        thread = threading.Thread(target=work)
        thread.start()
    thread.join(10)
    assert told == [True]
    clock.close()


def test_a_hold_that_was_passed_over_does_not_stop_time_again_at_its_next_timer():
    k = keeper()
    say(k, B, "idle 1 - 0")
    say(k, A, f"idle 1 {after(5)} 1")
    assert k.advance(CAP_S)[0] == [(A, f"now 1 {after(5)}")]
    say(k, A, f"idle 2 {after(9)} 1", CAP_S)  # the same answer is awaited still
    assert k.advance(CAP_S)[0] == [(A, f"now 2 {after(9)}")]
    say(k, A, f"idle 3 {after(12)} 0", CAP_S)  # it gave up
    assert k.advance(CAP_S)[0] == [(A, f"now 3 {after(12)}")]
    say(k, A, f"idle 4 {after(20)} 1", CAP_S)  # another question
    assert k.advance(CAP_S)[0] == []
