"""Processes that decode and store blocks of images; they load no torch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from multiprocessing.synchronize import Barrier
from types import ModuleType
from typing import Any

from gauntlet.core.errors import GauntletError
from gauntlet.learning.data.blocks import Block, BlockRecord, Slots, store_block

_MOST_PROCESSES = 4
_WAITING_BLOCKS, _WAITING_BYTES = 4, 32 << 20
"""Blocks per process, and bytes of all encoded images, that are read ahead."""

_arguments: tuple[Any, ...] = ()
"""In a decoding process: the arguments of `store_block` after the block and its slots."""


def available_processes() -> int:
    """Return how many processes may decode: one per CPU, at most 4; 0 where there is one CPU."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_PROCESSES, cpus) if cpus > 1 else 0


def stored_blocks(
    blocks: Iterator[tuple[Block, Slots]], arguments: tuple[Any, ...], processes: int
) -> Iterator[BlockRecord]:
    """Call `store_block` for each block with its slots and `arguments`; yield the records in the order of the blocks.

    Raises the error of the first block that has one, as `store_block` does, and GauntletError if a process is killed.
    """
    if not processes:
        for block, slots in blocks:
            yield store_block(block, slots, *arguments)
        return
    waiting: deque[tuple[Future[BlockRecord], int]] = deque()
    try:
        with _started(processes, arguments) as pool:
            try:
                for block, slots in blocks:
                    waiting.append((pool.submit(_store, block, slots), block.encoded_bytes))
                    while len(waiting) > _WAITING_BLOCKS * processes or _waiting_bytes(waiting) > _WAITING_BYTES:
                        yield waiting.popleft()[0].result()
                while waiting:
                    yield waiting.popleft()[0].result()
            finally:
                for future, _ in waiting:
                    future.cancel()
    except BrokenExecutor as error:  # while they start, too
        remedy = "run again, with more memory"
        raise GauntletError("a process that decodes images was killed", remedy=remedy) from error


def _waiting_bytes(waiting: Iterable[tuple[Future[BlockRecord], int]]) -> int:
    return sum(size for _, size in waiting)


def _started(processes: int, arguments: tuple[Any, ...]) -> ProcessPoolExecutor:
    # Forks would begin with the memory of this process, which has loaded torch.
    context = multiprocessing.get_context("spawn")
    all_started = context.Barrier(processes)
    pool = ProcessPoolExecutor(processes, context, initializer=_start, initargs=(arguments, all_started))
    main = sys.modules["__main__"]
    try:
        # A spawned process imports the main module of its parent, which may be a script that does everything again, or
        # have loaded torch. All are started now: the pool starts one per task until one is idle, and none is before.
        sys.modules["__main__"] = ModuleType("__main__")
        for future in [pool.submit(os.getpid) for _ in range(processes)]:
            future.result()
    finally:
        sys.modules["__main__"] = main
    return pool


def _start(arguments: tuple[Any, ...], all_started: Barrier) -> None:
    """Prepare a decoding process, and wait for the others: it ends with its parent, which alone reacts to Ctrl-C."""
    global _arguments
    _arguments = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    all_started.wait()


def _store(block: Block, slots: Slots) -> BlockRecord:
    return store_block(block, slots, *_arguments)
