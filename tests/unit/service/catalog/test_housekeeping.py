import asyncio
import hashlib
import os
import time

import pytest

from onnxscape.errors import StorageError
from onnxscape.service.catalog.housekeeping import GRACE_SECONDS, collect, keep_house
from onnxscape.service.catalog.records import ModelRecord, model_id
from onnxscape.service.catalog.store import CatalogStore
from onnxscape.service.catalog.tables import SCHEMA
from onnxscape.service.settings.config import ServerConfig
from onnxscape.storage.blob_folder import BlobFolder
from onnxscape.storage.database import Database

DAY = 86400.0
KEPT = 14 * DAY


class House:
    """Blobs, who has them, and which of them jobs need."""

    def __init__(self, root, database):
        self.folder = BlobFolder(root / "blobs")
        self.folder.create()
        self.catalog = CatalogStore(database)
        self.jobs = {}
        self.now = time.time()

    def blob(self, data, *users, used=0.0):
        """Write a blob that users have, last used so many seconds ago."""
        name = hashlib.sha256(data).hexdigest()
        with self.folder.open_upload("x", name, len(data)) as upload:
            upload.write(0, data)
            upload.finish()
        for user in users:
            self.catalog.grants.add(user, name, len(data), now=self.now - used)
        os.utime(self.folder.path(name), (self.now - used, self.now - used))
        return name

    def needed(self, user):
        """Return what jobs of a user need; of None, what all jobs need."""
        if user is not None:
            return self.jobs.get(user, set())
        return set().union(*self.jobs.values())

    def clean(self, later=0.0):
        return collect(
            ServerConfig(keep_blobs=KEPT),
            folder=self.folder,
            catalog=self.catalog,
            needed=self.needed,
            now=self.now + later,
        )


@pytest.fixture
def house(tmp_path):
    with Database.open(tmp_path / "catalog.sqlite", SCHEMA) as database:
        yield House(tmp_path, database)


def model(user, name):
    return ModelRecord(
        id=model_id(name), user=user, display_name="", sha256=name, size=1, created=0.0,
        parameters=1, moved=1, version="1",
    )  # fmt: skip


def test_a_blob_that_nobody_has_goes_after_a_while(house):
    name = house.blob(b"orphan")
    assert house.clean(later=GRACE_SECONDS - 60) == 0
    assert house.folder.has(name)
    assert house.clean(later=GRACE_SECONDS + 60) == len(b"orphan")
    assert not house.folder.has(name)


def test_what_a_user_has_stays_as_long_as_it_is_used_now_and_then(house):
    name = house.blob(b"used", "ann", used=KEPT - DAY)
    assert house.clean() == 0
    assert house.catalog.grants.size("ann", name) == 4  # which is a use
    assert house.clean(later=KEPT - DAY) == 0
    assert house.folder.has(name)


def test_what_a_user_did_not_use_for_long_goes_and_gives_its_bytes_back(house):
    name = house.blob(b"stale", "ann", used=KEPT + DAY)
    house.clean()
    assert house.catalog.grants.total("ann") == 0
    assert house.folder.has(name)  # an order may be on its way
    assert house.clean(later=GRACE_SECONDS + 60) == len(b"stale")


def test_models_jobs_and_other_users_keep_a_blob(house):
    old = KEPT + DAY
    of_model = house.blob(b"model", "ann", used=old)
    house.catalog.models.put(model("ann", of_model), audit="{}")
    of_job = house.blob(b"job", "ann", used=old)
    house.jobs["ann"] = {of_job}
    shared = house.blob(b"shared", "ann", used=old)
    house.catalog.grants.add("bob", shared, 6)
    house.clean()
    assert house.clean(later=GRACE_SECONDS + 60) == 0
    assert all(map(house.folder.has, (of_model, of_job, shared)))
    assert house.catalog.grants.size("ann", shared) is None
    assert house.catalog.grants.size("ann", of_model) == 5
    assert house.catalog.grants.size("ann", of_job) == 3


def test_a_blob_goes_when_the_last_job_that_needs_it_is_deleted(house):
    name = house.blob(b"job")
    house.jobs["ann"] = {name}
    assert house.clean(later=DAY) == 0
    house.jobs.clear()
    assert house.clean(later=DAY) == 3


def test_a_job_of_somebody_else_keeps_the_bytes_but_not_who_has_them(house):
    name = house.blob(b"shared", "ann", used=KEPT + DAY)
    house.jobs["bob"] = {name}
    house.clean()
    assert house.catalog.grants.total("ann") == 0
    assert house.clean(later=DAY) == 0
    assert house.folder.has(name)


@pytest.mark.parametrize("error", [StorageError("no luck"), OSError("no luck"), KeyError("a")])
def test_no_trouble_ends_the_cleaning(error, caplog):
    done = []

    async def clean():
        done.append(1)
        raise error

    async def test():
        task = asyncio.create_task(keep_house(clean, every=0.0))
        while len(done) < 3:
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(test())
    assert "cleaning up failed" in caplog.text
