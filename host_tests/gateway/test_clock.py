"""The clock seam: the real clock, and the gateway on conducted time."""

import threading

from gateway.clock import RealClock, wait_until

WAIT_S = 20


def test_a_wake_before_the_wait_is_not_lost():
    worker = RealClock().worker("w")
    worker.wake()
    assert worker.wait(None) is True


def test_the_time_comes():
    clock = RealClock()
    worker = clock.worker("w")
    assert worker.wait(clock.utc_ms() + 5) is False
    assert worker.wait(clock.utc_ms() - 5) is False


def test_a_wake_from_another_thread_ends_the_wait():
    worker = RealClock().worker("w")
    woken = []
    thread = threading.Thread(target=lambda: woken.append(worker.wait(None)))
    thread.start()
    worker.wake()
    thread.join(WAIT_S)
    assert woken == [True]


def test_close_ends_the_wait():
    worker = RealClock().worker("w")
    thread = threading.Thread(target=lambda: worker.wait(None))
    thread.start()
    worker.close()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_wait_until_passes_over_wakes_and_ends_at_a_stop(clock):
    stop = threading.Event()
    worker = clock.worker("w")
    done = threading.Event()

    def run():
        wait_until(clock, worker, clock.utc_ms() + 1000, stop)
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    clock.worker_waits("w")
    worker.wake()
    clock.worker_waits("w")
    assert not done.is_set()
    clock.advance(1000)
    assert done.wait(WAIT_S)
    thread.join(WAIT_S)
