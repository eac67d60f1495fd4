"""Items that a thread computes ahead of their use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterable[T], *, ahead: int = 2) -> Iterator[T]:
    """Yield items that a thread takes from an iterable, at most `ahead` of them before they are asked for.

    An error of the iterable is raised here. The thread ends with this generator.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None] | None] = queue.Queue(ahead)
    ended = threading.Event()

    def put(entry: tuple[T | None, BaseException | None] | None) -> bool:
        while not ended.is_set():
            try:
                ready.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put(None)
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (entry := ready.get()) is not None:
            item, error = entry
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        ended.set()
        thread.join()
