"""Signals whose handler waits for a lock."""

import signal
import threading

from gauntlet.core.signals import handle_in_thread


def test_a_handler_may_wait_for_a_lock_that_the_main_thread_holds() -> None:
    """As Snakemake's does: in the main thread it would wait for itself."""
    lock, handled = threading.Lock(), threading.Event()

    def handler(number: int, frame: object) -> None:
        with lock:
            handled.set()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        handle_in_thread(signal.SIGUSR1)
        with lock:
            signal.raise_signal(signal.SIGUSR1)
            assert not handled.is_set()
        assert handled.wait(timeout=60)
    finally:
        signal.signal(signal.SIGUSR1, before)
