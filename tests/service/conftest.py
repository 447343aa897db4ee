"""Fixtures of tests that talk to a server."""

from __future__ import annotations

import pytest
from fake_server import FakeServer

import onnxscape as ox
from onnxscape.service.client.retries import Patience

QUICK = Patience(call=2.0, stream=5.0, silence=1.0, first=0.01, longest=0.05)


@pytest.fixture
def server():
    """A fake server; the test's end ends it."""
    fake = FakeServer()
    yield fake
    fake.stop()


@pytest.fixture
def client(server):
    """A client of the fake that does not wait long."""
    with ox.Client(server.address, patience=QUICK) as made:
        yield made
