"""Fixtures of the tests on jobs."""

from __future__ import annotations

import asyncio

import pytest
from coordination import Site


@pytest.fixture
def site(tmp_path):
    """A folder with a store in which coordinators run."""
    made = Site(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def in_loop():
    """Runs a coroutine function in a loop of its own."""
    return lambda body: asyncio.run(body())
