"""The store of the jobs, killed at any moment, and on a disk that is full."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections import Counter

import job_store_writer as writer
import numpy as np
import pytest

from onnxscape.core.grid import Point
from onnxscape.errors import DiskFullError, OutputError
from onnxscape.jobs.executor import Ready
from onnxscape.jobs.job_store import JobStore
from onnxscape.jobs.records import Estimate
from onnxscape.jobs.states import JobEvent


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.sqlite"


def is_whole(path):
    """Whether SQLite itself finds nothing wrong with a database."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


# --- killed ----------------------------------------------------------------------------------


class Acknowledged:
    """All that the killed processes have said is done."""

    def __init__(self):
        self.epoch = 0
        self.numbers = {}
        self.rows = {}
        self.strikes = Counter()
        self.states = {}
        self.revisions = {}

    def hear(self, line):
        said = json.loads(line)
        if "epoch" in said:
            assert said["epoch"] > self.epoch
            self.epoch = said["epoch"]
            return
        job = said["job"]
        if "revision" in said:
            assert said["revision"] >= self.revisions.get(job, 0)
            self.revisions[job] = said["revision"]
        if "number" in said:
            assert self.numbers.setdefault(said["number"], job) == job  # one job per request
        elif "stored" in said:
            self.rows.setdefault(job, set()).add(said["stored"])
        elif "strikes" in said:
            assert said["strikes"] > self.strikes[job, said["row"]]
            self.strikes[job, said["row"]] = said["strikes"]
        else:
            self.states[job] = said["state"]

    def check(self, store):
        """Looks for all of it in the store."""
        for number, identifier in self.numbers.items():
            job = store.job(identifier, "ann")
            assert job.order == writer.order(number)
            assert job.revision >= self.revisions[identifier]
            stored = store.points_after(identifier, 0)
            revisions = [p.revision for p in stored]
            assert revisions == sorted(set(revisions))
            assert revisions[-1:] <= [job.revision]
            places = [(p.point.row, p.point.column) for p in stored]
            assert len(places) == len(set(places)) == job.done
            # A row is put in one transaction.
            assert set(Counter(row for row, _ in places).values()) <= {writer.SIDE}
            assert self.rows.get(identifier, set()) <= {row for row, _ in places}
            for p in stored:
                truth = writer.loss(number, p.point.row, p.point.column)
                assert p.metrics == {"loss": truth}
            strikes = store.strikes(identifier)
            for row in range(writer.SIDE):
                assert strikes.get((row, 0), 0) >= self.strikes[identifier, row]
            if self.states.get(identifier) == "succeeded":
                assert job.state == "succeeded"


def run_until_killed(path, heard, *, first, failpoint=None, lines=None):
    """Lets a process work until it kills itself, or has said so many lines."""
    environment = {"PYTHONPATH": ":".join(sys.path)}
    if failpoint is not None:
        environment["ONNXSCAPE_FAILPOINTS"] = failpoint
    process = subprocess.Popen(
        [sys.executable, writer.__file__, str(path), str(first)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for count, line in enumerate(process.stdout, 1):
            if line.endswith("\n"):
                heard.hear(line)
            if count == lines:
                process.kill()
    finally:
        process.kill()
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL


def test_whatever_was_acknowledged_outlives_a_kill_at_any_moment(path):
    choose = np.random.default_rng(5)
    heard = Acknowledged()
    for _ in range(4):
        run_until_killed(path, heard, first=len(heard.numbers), lines=choose.integers(1, 60))
        with JobStore.open(path) as store:
            heard.check(store)
    assert is_whole(path)
    assert len(heard.rows) > 1
    assert heard.epoch == 4


def test_whatever_was_acknowledged_outlives_a_kill_around_a_commit(path):
    choose = np.random.default_rng(6)
    heard = Acknowledged()
    for name in ("job.after_commit", "point.before_commit", "point.after_commit"):
        times = choose.integers(1, 7)
        failpoint = f"{name}=kill:{times}"
        run_until_killed(path, heard, first=len(heard.numbers), failpoint=failpoint)
        with JobStore.open(path) as store:
            heard.check(store)
    assert is_whole(path)
    assert heard.rows


# --- full ------------------------------------------------------------------------------------


def made(store, number, **changes):
    values = {
        "spec": "{}",
        "display_name": "",
        "priority": 0,
        "estimate": Estimate(9, 1.0, 1),
        "notes": (),
        "warnings": (),
        "total": 9,
        "request_id": f"request {number}",
        "now": 1.0,
    }
    return store.create_job(user="ann", order=writer.order(number), **(values | changes))[0]


LONG = "x" * 20_000

WRITES = {
    "create_job": lambda store, job: made(store, 1, spec=LONG),
    "put_points": lambda store, job: store.put_points(
        job.id, [(Point(0, i, 0.0, 0.0), {"loss": 1.0}, 0.1) for i in range(500)]
    ),
    "fail_point": lambda store, job: store.fail_point(job.id, Point(0, 0, 0.0, 0.0), LONG),
    "replan": lambda store, job: store.replan(job.id, LONG, "memory was short"),
    "record_ready": lambda store, job: store.record_ready(
        job.id, Ready(plan=LONG, provenance={}, outline={}, seconds_per_point=1.0)
    ),
    "charge": lambda store, job: store.charge(LONG, job.id, 1.0, 1.0),
    "set_weight": lambda store, job: store.set_weight(LONG, 2.0),
}


def limit(store, pages):
    """Lets the disk have room for so many more pages."""
    connection = store._database._writer
    count = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {count + pages}")


def everything(store):
    """All that the store would tell."""
    jobs = store.jobs("ann", limit=100)
    return (
        [(job, store.points_after(job.id, 0), store.strikes(job.id)) for job in jobs],
        [store.find_request("ann", f"request {number}") for number in range(3)],
        store.weights(),
        store.decayed_usage(60.0, 1.0),
    )


@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_finds_the_disk_full_changes_nothing_and_works_later(path, write):
    with JobStore.open(path) as store:
        job = made(store, 0)
        before = everything(store)
        limit(store, 1)
        for _ in range(3):
            with pytest.raises(DiskFullError, match="when the disk has room"):
                WRITES[write](store, job)
            assert everything(store) == before
        limit(store, 10_000)
        WRITES[write](store, job)
        after = everything(store)
        assert after != before
    with JobStore.open(path) as again:
        assert everything(again) == after
    assert is_whole(path)


_OPEN = """
import resource, sys
from pathlib import Path
from onnxscape.jobs.job_store import JobStore
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
JobStore.open(Path(sys.argv[1])).close()
"""


@pytest.mark.parametrize("room", [0, 5_000, 50_000])
def test_a_store_that_finds_no_room_when_it_is_made_is_made_later(path, room):
    child = subprocess.run(
        [sys.executable, "-c", _OPEN, str(path), str(room)],
        env={"PYTHONPATH": ":".join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert child.returncode == 1
    assert child.stderr.splitlines()[-1].startswith(
        "onnxscape.errors.OutputError: cannot open"
    )
    with JobStore.open(path) as store:
        job = made(store, 0)
        assert store.move(job.id, JobEvent.FIRST_CHUNK, now=1.0).revision == 2
    assert is_whole(path)


# --- other files -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("PRAGMA application_id = 7", "of another program"),
        ("PRAGMA user_version = 99", "has format 99, this version reads 1"),
    ],
)
def test_a_database_that_is_not_ours_stays_as_it_is(path, statement, named):
    JobStore.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(OutputError, match=named):
        JobStore.open(path)
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(OutputError, match=r"name a writable folder on a local disk"):
        JobStore.open(tmp_path / "absent" / "jobs.sqlite")


def test_the_writer_of_these_tests_comes_to_an_end_without_kills(path, capsys):
    with JobStore.open(path) as store:
        writer.work(store, 0)
        (job,) = store.jobs("ann", limit=2)
        assert (job.state, job.done) == ("succeeded", writer.SIDE**2)
        writer.work(store, 0)
        assert store.jobs("ann", limit=2) == [job]
    heard = Acknowledged()
    for line in capsys.readouterr().out.splitlines():
        heard.hear(line)
    assert heard.states == {job.id: "succeeded"}
