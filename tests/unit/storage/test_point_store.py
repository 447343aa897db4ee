from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxscape.core.grid import Point
from onnxscape.errors import SpecConflictError
from onnxscape.storage import PointStore
from onnxscape.storage.file_system import is_local

if TYPE_CHECKING:
    from onnxscape.core.plan import Plan
    from onnxscape.core.spec import EvalSpec


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def test_a_new_store_is_empty_and_stands_beside_the_output(
    store: PointStore, output: Path
) -> None:
    assert store.path == output.with_name("out.h5.points.sqlite").resolve()
    assert (store.spec, store.plan, store.provenance) == (None, None, {})
    assert store.count == 0
    assert store.results() == {}


def test_what_was_begun_is_there_after_reopening(
    output: Path, spec: EvalSpec, plan: Plan
) -> None:
    with PointStore.open(output) as store:
        store.begin(spec, plan, {"model": "nät.onnx", "threads": 2, "path": Path("x")})
    with PointStore.open(output) as store:
        assert store.spec == spec
        assert store.plan == plan
        assert store.provenance == {"model": "nät.onnx", "threads": 2, "path": "x"}


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
@given(
    patterns=st.lists(st.integers(0, 2**64 - 1), max_size=5),
    row=st.integers(-1, 2**31),
    column=st.integers(-1, 2**31),
)
def test_any_float_survives_to_the_bit(
    store: PointStore, patterns: list[int], row: int, column: int
) -> None:
    store.clear()
    values = struct.unpack(f"<{len(patterns)}d", struct.pack(f"<{len(patterns)}Q", *patterns))
    metrics = {f"metric {i}": value for i, value in enumerate(values)}
    store.put(Point(row, column, 0.5, -0.5), metrics)
    found = store.results()[row, column]
    assert list(found) == list(metrics)
    assert [bits(value) for value in found.values()] == [bits(value) for value in values]


def test_special_values_survive_reopening(output: Path) -> None:
    metrics = {
        "loss": float("nan"),
        "accuracy": -0.0,
        "a": float("inf"),
        "b": float("-inf"),
        "c": 5e-324,
    }
    with PointStore.open(output) as store:
        store.put(Point(-1, -1, 0.0, 0.0), metrics)
    with PointStore.open(output) as store:
        found = store.results()[-1, -1]
    assert {name: bits(value) for name, value in found.items()} == {
        name: bits(value) for name, value in metrics.items()
    }


def test_the_first_result_of_a_point_stays(store: PointStore) -> None:
    store.put(Point(1, 2, 0.1, 0.2), {"loss": 1.0})
    store.put(Point(1, 2, 0.1, 0.2), {"loss": 2.0, "accuracy": 0.5})
    assert store.count == 1
    assert store.results() == {(1, 2): {"loss": 1.0}}


def test_points_come_back_in_the_order_of_storing_with_their_own_metrics(
    store: PointStore,
) -> None:
    store.put(Point(2, 0, 0.0, 0.0), {"loss": 1.0, "accuracy": 0.5})
    store.put(Point(0, 0, 0.0, 0.0), {"accuracy": 0.25, "loss": 2.0})
    store.put(Point(1, 0, 0.0, 0.0), {"loss": 3.0})
    assert list(store.results().items()) == [
        ((2, 0), {"loss": 1.0, "accuracy": 0.5}),
        ((0, 0), {"loss": 2.0, "accuracy": 0.25}),
        ((1, 0), {"loss": 3.0}),
    ]


def test_beginning_again_alike_keeps_points_and_provenance(
    store: PointStore, spec: EvalSpec, plan: Plan
) -> None:
    store.begin(spec, plan, {"time": "first"})
    store.put(Point(0, 0, 0.0, 0.0), {"loss": 1.0})
    store.begin(spec, plan, {"time": "second"})
    assert store.provenance == {"time": "first"}
    assert store.count == 1


def test_beginning_with_another_spec_or_plan_is_refused(
    store: PointStore, spec: EvalSpec, plan: Plan
) -> None:
    store.begin(spec, plan, {})
    store.put(Point(0, 0, 0.0, 0.0), {"loss": 1.0})
    with pytest.raises(SpecConflictError, match=r"seed \(7, not 8\).*--restart"):
        store.begin(replace(spec, seed=8), plan, {})
    with pytest.raises(SpecConflictError, match=r"batch \(100, not 50\)"):
        store.begin(spec, replace(plan, batch=50), {})
    assert store.spec == spec
    assert store.count == 1


def test_clearing_forgets_everything_and_allows_another_spec(
    store: PointStore, spec: EvalSpec, plan: Plan
) -> None:
    store.begin(spec, plan, {"a": 1})
    store.put(Point(0, 0, 0.0, 0.0), {"loss": 1.0})
    store.clear()
    assert (store.spec, store.plan, store.provenance, store.count) == (None, None, {}, 0)
    store.begin(replace(spec, seed=8), plan, {})
    store.put(Point(0, 0, 0.0, 0.0), {"loss": 2.0})
    assert store.results() == {(0, 0): {"loss": 2.0}}


def test_removing_leaves_no_file(output: Path) -> None:
    store = PointStore.open(output)
    store.put(Point(0, 0, 0.0, 0.0), {"loss": 1.0})
    for suffix in ("-wal", "-shm", "-journal"):  # as a killed process would leave them
        store.path.with_name(store.path.name + suffix).touch()
    store.remove()
    assert list(output.parent.iterdir()) == []


def test_closing_leaves_the_database_alone(output: Path) -> None:
    store = PointStore.open(output)
    store.put(Point(0, 0, 0.0, 0.0), {"loss": 1.0})
    store.close()
    store.close()
    assert [path.name for path in output.parent.iterdir()] == ["out.h5.points.sqlite"]


READ = """
import sys
from pathlib import Path
from onnxscape.storage import PointStore
with PointStore.open(Path(sys.argv[1])) as store:
    print(store.count, store.results()[0, 2])
"""


@pytest.mark.parametrize("local", [True, False])
def test_another_process_reads_while_one_writes(
    output: Path, monkeypatch: pytest.MonkeyPatch, local: bool
) -> None:
    truth = is_local(output.parent)
    monkeypatch.setattr("onnxscape.storage.sqlite_file.is_local", lambda _: local)
    with PointStore.open(output) as writer:
        for column in range(3):
            writer.put(Point(0, column, 0.0, 0.0), {"loss": float(column)})
        if local == truth:  # the other process judges for itself, and may not switch now
            seen = subprocess.check_output([sys.executable, "-c", READ, output], text=True)
            assert seen == "3 {'loss': 2.0}\n"
        with PointStore.open(output) as reader:
            assert reader.count == 3
            writer.put(Point(0, 3, 0.0, 0.0), {"loss": 3.0})
            assert reader.results()[0, 3] == {"loss": 3.0}


def test_a_store_folder_tells_outputs_of_one_name_apart(tmp_path: Path) -> None:
    (tmp_path / "fast").mkdir()
    paths = set()
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        with PointStore.open(tmp_path / run / "out.h5", store_dir=tmp_path / "fast") as store:
            store.put(Point(0, 0, 0.0, 0.0), {"loss": 1.0})
            assert store.count == 1
            paths.add(store.path)
    assert len(paths) == 2
    assert {path.parent for path in paths} == {(tmp_path / "fast").resolve()}
    assert all(path.name.startswith("out.h5.") for path in paths)
    assert list((tmp_path / "a").iterdir()) == []


def test_a_relative_and_an_absolute_output_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for store_dir in (None, tmp_path):
        relative = PointStore.location(Path("out.h5"), store_dir)
        assert relative == PointStore.location(tmp_path / "out.h5", store_dir)


KILLED = """
import sys
from pathlib import Path
from onnxscape.core.grid import Point
from onnxscape.storage import PointStore
with PointStore.open(Path(sys.argv[1])) as store:
    column = store.count
    while True:
        store.put(Point(0, column, column / 7, 0.0), {"loss": column / 3, "accuracy": 0.5})
        print(column, flush=True)
        column += 1
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9 there")
def test_no_acknowledged_point_is_lost_by_kill_9(output: Path) -> None:
    moments = np.random.default_rng(0)
    acknowledged = -1
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(output)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(moments.uniform(0.0, 0.1))
            os.kill(process.pid, signal.SIGKILL)
            lines = process.stdout.read().split("\n")[:-1]  # the last may be cut
            process.wait(30)
        with PointStore.open(output) as store:
            results = store.results()
        if lines:
            assert int(lines[-1]) > acknowledged
            acknowledged = int(lines[-1])
        assert len(results) >= acknowledged + 1
        for column in range(len(results)):
            assert results[0, column] == {"loss": column / 3, "accuracy": 0.5}
    assert acknowledged > 10


FULL = """
import sys
from pathlib import Path
from onnxscape.core.grid import Point
from onnxscape.errors import OutputError, StorageError
from onnxscape.storage import PointStore, WriterLock, save_landscape, write_atomically

folder = Path(sys.argv[1])
output = folder / "out.h5"
(folder / "ballast").write_bytes(bytes(200_000))
(folder / "picture.png").write_bytes(b"old")

store = PointStore.open(output)
stored = 0
try:
    while True:
        store.put(Point(0, stored, 0.0, 0.0), {"loss": stored / 3})
        stored += 1
except StorageError as error:
    assert "points stored before are kept" in str(error), error
    assert "\\n" not in str(error), error
assert stored > 10, stored
expected = {(0, column): {"loss": column / 3} for column in range(stored)}
assert store.results() == expected
store.close()

with PointStore.open(output) as store:
    assert store.results() == expected

try:
    write_atomically(folder / "picture.png", bytes(2_000_000))
except StorageError as error:
    assert "No space left on device" in str(error), error
else:
    raise AssertionError("wrote 2 MB into 1 MiB")
assert (folder / "picture.png").read_bytes() == b"old"
assert not list(folder.glob(".onnxscape-*")), list(folder.iterdir())

try:
    with (folder / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
except OSError:
    pass
for attempt in (lambda: PointStore.open(folder / "new.h5"), WriterLock(output).__enter__):
    try:
        attempt()
    except OutputError as error:
        assert "free space" in str(error), error
    else:
        raise AssertionError("opened on a full disk")

(folder / "fill").unlink()
(folder / "ballast").unlink()
with PointStore.open(output) as store:
    store.put(Point(0, stored, 0.0, 0.0), {"loss": 0.0})
    assert store.count == stored + 1
print("all kept")
"""


def test_a_full_disk_stops_the_run_and_keeps_the_points(tmp_path: Path) -> None:
    """On a file system of 1 MiB, mounted for this test in a mount namespace of its own."""
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path}"
    try:
        trial = subprocess.run(
            ["unshare", "-m", "sh", "-c", mount], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("needs the program `unshare` (Linux)")
    if trial.returncode:
        pytest.skip(f"may not mount a small file system: {trial.stderr.decode().strip()}")
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("all kept\n", 0), done.stderr
