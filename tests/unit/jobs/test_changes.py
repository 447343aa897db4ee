"""Who waits for a job is woken by its next revision, and by nothing else."""

from __future__ import annotations

import asyncio

import pytest

from onnxscape.jobs.changes import Changes


class Book:
    """Revisions as a store knows them."""

    def __init__(self, **revisions):
        self.revisions, self.looks = revisions, 0

    async def look(self, job):
        self.looks += 1
        await asyncio.sleep(0)
        return self.revisions.get(job)

    def above(self, changes, revision, timeout=5.0, job="a"):
        return changes.above(job, revision, timeout, lambda: self.look(job))


def test_a_revision_that_is_there_is_told_at_once(in_loop):
    async def body():
        changes, book = Changes(), Book(a=5)
        assert await book.above(changes, 4)
        assert not await book.above(changes, 5, 0.01)
        assert await book.above(changes, 0, 0.0)
        changes.tell("a", 6)
        assert await book.above(changes, 5)
        changes.tell("a", 3)  # late
        assert await book.above(changes, 5, 0.0)
        assert book.looks == 3

    in_loop(body)


def test_all_who_wait_are_woken(in_loop):
    async def body():
        changes, book = Changes(), Book(a=1, b=1)
        waiting = [asyncio.create_task(book.above(changes, r)) for r in (1, 1, 2)]
        other = asyncio.create_task(book.above(changes, 1, job="b"))
        await asyncio.sleep(0.01)
        changes.tell("a", 2)
        await asyncio.sleep(0.01)
        assert [task.done() for task in (*waiting, other)] == [True, True, False, False]
        changes.tell("a", 3)
        changes.forget("b")
        await asyncio.sleep(0.01)
        assert waiting[2].done()
        assert not other.done()  # b is still at 1
        del book.revisions["b"]
        changes.forget("b")
        assert await other
        assert not changes._waiting

    in_loop(body)


def test_a_change_between_looking_and_waiting_is_not_missed(in_loop):
    async def body():
        changes = Changes()

        async def look():
            changes.tell("a", 2)
            return 1

        assert await changes.above("a", 1, 5.0, look)

    in_loop(body)


def test_who_gave_up_is_forgotten(in_loop):
    async def body():
        changes, book = Changes(), Book(a=1)
        task = asyncio.create_task(book.above(changes, 1))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not await book.above(changes, 1, 0.01)
        assert not changes._waiting

    in_loop(body)
