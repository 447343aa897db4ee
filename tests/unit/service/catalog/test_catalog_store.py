"""The catalog keeps audits apart from what it lists, and none that no message can hold."""

from __future__ import annotations

import tracemalloc

import pytest

from onnxscape.service.catalog.records import LARGEST_AUDIT, ModelRecord
from onnxscape.service.catalog.store import CatalogStore
from onnxscape.service.catalog.tables import SCHEMA
from onnxscape.storage.database import Database


@pytest.fixture
def catalog(tmp_path):
    with Database.open(tmp_path / "catalog.sqlite", SCHEMA) as database:
        yield CatalogStore(database)


def model(number):
    sha256 = f"{number:064x}"
    return ModelRecord(
        id=sha256, user="ann", display_name="a name", sha256=sha256, size=1, created=0.0,
        parameters=1, moved=1, version="1",
    )  # fmt: skip


def test_lists_do_not_read_the_audits(catalog):
    for number in range(10):
        catalog.models.put(model(number), audit="x" * (1 << 20))
    tracemalloc.start()
    try:
        assert len(catalog.models.page("ann", limit=100)) == 10
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert catalog.models.audit("ann", model(3).id) == "x" * (1 << 20)


def test_an_audit_that_no_message_holds_is_not_kept(catalog):
    first, second = model(1), model(2)
    catalog.models.put(first, audit="x" * LARGEST_AUDIT)
    catalog.models.put(second, audit="x" * (LARGEST_AUDIT + 1))
    assert len(catalog.models.audit("ann", first.id)) == LARGEST_AUDIT
    assert catalog.models.audit("ann", second.id) is None
    assert catalog.models.own("ann", second.id) is not None
    assert catalog.models.audit("bob", first.id) is None


def test_a_new_name_leaves_the_audit_and_another_version_has_none(catalog):
    kept = catalog.models.put(model(1), audit="{}")
    assert catalog.models.rename("ann", kept.id, "", version="1") == kept
    renamed = catalog.models.rename("ann", kept.id, "other", version="1")
    assert renamed.display_name == "other"
    assert catalog.models.audit("ann", kept.id) == "{}"
    assert catalog.models.rename("ann", kept.id, "newer", version="2") is None
    assert catalog.models.rename("bob", kept.id, "his", version="1") is None
    assert catalog.models.own("ann", kept.id) == renamed
