"""Calls go to threads; writes are tried again until the disk works."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from coordination import SPEC

from onnxscape.errors import StorageError
from onnxscape.jobs.ledger import Ledger


class Disk:
    """Fails so many times."""

    def __init__(self, failures):
        self.failures, self.calls = failures, 0

    def write(self, value):
        self.calls += 1
        if self.calls <= self.failures:
            raise StorageError(f"full, {self.calls}")
        return value


def test_calls_do_not_block_the_loop(in_loop):
    async def body():
        ledger = Ledger(0.01)
        slow = asyncio.create_task(ledger.call(time.sleep, 0.2))
        assert await ledger.call(threading.get_ident) != threading.get_ident()
        assert not slow.done()
        await ledger.close()
        assert slow.done()

    in_loop(body)


def test_a_failed_write_is_trouble_until_it_works(in_loop):
    async def body():
        ledger, disk = Ledger(0.05), Disk(3)
        write = asyncio.create_task(ledger.write(disk.write, 7))
        while disk.calls != 2:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.01)
        assert ledger.trouble == "full, 2"
        assert await ledger.write(Disk(0).write, 1) == 1  # another disk, say
        assert ledger.trouble == "full, 2"
        assert await write == 7
        assert ledger.trouble is None
        await ledger.close()

    in_loop(body)


def test_a_write_that_is_given_up_is_no_trouble_any_more(in_loop):
    async def body():
        ledger = Ledger(10.0)
        write = asyncio.create_task(ledger.write(Disk(9).write, 7))
        while ledger.trouble is None:
            await asyncio.sleep(0.005)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
        assert ledger.trouble is None
        await ledger.close()

    in_loop(body)


def test_other_errors_and_plain_calls_are_not_tried_again(in_loop):
    async def body():
        ledger, disk = Ledger(0.01), Disk(1)
        with pytest.raises(StorageError):
            await ledger.call(disk.write, 1)
        with pytest.raises(ZeroDivisionError):
            await ledger.write(lambda: 1 // 0)
        assert ledger.trouble is None
        await ledger.close()

    in_loop(body)


def test_a_job_that_comes_back_wakes_who_waits_for_it(in_loop, site):
    async def body():
        ledger, job_id = Ledger(0.01), site.order(SPEC)

        async def look():
            return 1

        waits = asyncio.create_task(ledger.changes.above(job_id, 1, 5.0, look))
        await asyncio.sleep(0.01)
        await ledger.call(site.store.set_total, job_id, 7)
        assert await waits
        await ledger.close()

    in_loop(body)
