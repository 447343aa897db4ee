"""Functions in a limited child process: results come back, and no harm does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onnxscape.files import limited_child
from onnxscape.files.limited_child import ChildError, WaitingChild, run_in_child

GENEROUS = {"seconds": 30, "memory": 1 << 30, "most": 1 << 22}


@pytest.fixture
def function(tmp_path, monkeypatch):
    """Returns a function of a module that the child can import."""

    def build(body):
        path = tmp_path / "in_child.py"
        path.write_text(f"def call(data):\n    {body}\n")
        monkeypatch.syspath_prepend(tmp_path)

        def call(_data):
            raise AssertionError("called in the parent")

        call.__module__, call.__qualname__ = "in_child", "call"
        return call

    return build


def test_a_result_comes_back(function):
    data = bytes(range(256)) * 8000
    assert run_in_child(function("return data[::-1]"), data, **GENEROUS) == data[::-1]


def test_the_child_is_another_process(function):
    call = function("import os; return str(os.getpid()).encode()")
    assert run_in_child(call, b"", **GENEROUS) != str(os.getpid()).encode()


def test_an_exception_is_told_in_one_line(function):
    call = function("raise ValueError('bad\\n  bytes')")
    with pytest.raises(ChildError, match=r"^bad bytes$"):
        run_in_child(call, b"", **GENEROUS)


def test_an_argument_that_is_not_read_does_no_harm(function):
    # The function is not found: the child ends before it reads.
    call = function("return data")
    call.__qualname__ = "absent"
    with pytest.raises(ChildError, match="absent"):
        run_in_child(call, bytes(1 << 22), **GENEROUS)


@pytest.mark.parametrize("size", [100, 1 << 20])
def test_a_child_that_dies_before_it_is_given_its_argument(size, function, monkeypatch):
    feed = limited_child._feed

    def feed_late(child, data):
        time.sleep(0.5)
        feed(child, data)

    monkeypatch.setattr(limited_child, "_feed", feed_late)
    with pytest.raises(ChildError, match=r"more than 0 seconds|ended with status"):
        run_in_child(function("return b''"), bytes(size), **GENEROUS | {"seconds": 0})


def test_a_crash_is_an_error(function):
    call = function(f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    with pytest.raises(ChildError, match="ended with status -11"):
        run_in_child(call, b"", **GENEROUS)


def test_memory_is_limited(function):
    with pytest.raises(ChildError, match="MemoryError"):
        run_in_child(function("return bytes(1 << 31)"), b"", **GENEROUS)


def test_time_is_limited_though_the_child_sleeps(function):
    start = time.monotonic()
    with pytest.raises(ChildError, match="took more than 1 seconds"):
        run_in_child(function("import time; time.sleep(60)"), b"", **GENEROUS | {"seconds": 1})
    assert time.monotonic() - start < 30


def test_processor_time_is_limited(function):
    with pytest.raises(ChildError, match=r"took more than 1 seconds|status -9|status -24"):
        run_in_child(function("exec('while True: pass')"), b"", **GENEROUS | {"seconds": 1})


def test_a_large_result_is_refused(function):
    with pytest.raises(ChildError, match="more than 100 bytes"):
        run_in_child(function("return bytes(101)"), b"", **GENEROUS | {"most": 100})
    assert run_in_child(function("return bytes(100)"), b"", **GENEROUS | {"most": 100})


@pytest.mark.parametrize("number", [1, 2])
def test_what_else_is_printed_neither_blocks_nor_counts(number, function):
    # More than a pipe holds: nobody may wait for it to be read.
    call = function(f"import os; [os.write({number}, bytes(1 << 16)) for _ in range(64)]; "
                    "return data")  # fmt: skip
    assert run_in_child(call, b"result", **GENEROUS | {"most": 100}) == b"result"


def test_a_failure_is_told_though_much_was_printed(function):
    call = function("import os; [os.write(2, bytes(1 << 16)) for _ in range(64)]; call.absent")
    with pytest.raises(ChildError, match=r"no attribute 'absent'"):
        run_in_child(call, b"", **GENEROUS)


def test_a_long_message_is_cut(function):
    with pytest.raises(ChildError) as caught:
        run_in_child(function("raise ValueError('long ' * 10**6)"), b"", **GENEROUS)
    assert len(str(caught.value)) == 300


def test_the_child_writes_no_files(function, tmp_path):
    call = function(f"print(1, file=open({str(tmp_path / 'new')!r}, 'w'), flush=True)")
    with pytest.raises(ChildError):
        run_in_child(call, b"", **GENEROUS)
    assert (tmp_path / "new").stat().st_size == 0


# --- without waiting ------------------------------------------------------------------------


def awaited(call, data, **limits):
    """Return what a child that an event loop waits for returns."""
    name = f"{call.__module__}:{call.__qualname__}"
    return asyncio.run(answer_of(name, data, **limits))


async def answer_of(name, data, *, seconds, memory, most):
    child = await WaitingChild.start(name, seconds=seconds, memory=memory)
    return await child.answer(data, seconds=seconds, most=most)


def test_an_awaited_result_comes_back(function):
    data = bytes(range(256)) * 8000
    assert awaited(function("return data[::-1]"), data, **GENEROUS) == data[::-1]


@pytest.mark.parametrize(
    ("body", "limits", "message"),
    [
        ("raise ValueError('bad\\n  bytes')", {}, "^bad bytes$"),
        ("import os; os.kill(os.getpid(), 11)", {}, "ended with status -11"),
        ("return bytes(1 << 31)", {}, "MemoryError"),
        ("import time; time.sleep(60)", {"seconds": 1}, "more than 1 seconds"),
        ("return bytes(101)", {"most": 100}, "more than 100 bytes"),
        ("return bytes(1 << 24)", {"most": 100}, "more than 100 bytes"),
    ],
)
def test_an_awaited_child_that_fails_is_an_error(body, limits, message, function):
    with pytest.raises(ChildError, match=message):
        awaited(function(body), b"", **GENEROUS | limits)


def test_an_awaited_child_need_not_read_its_argument(function):
    call = function("return data")
    call.__qualname__ = "absent"
    with pytest.raises(ChildError, match="absent"):
        awaited(call, bytes(1 << 22), **GENEROUS)


def test_the_loop_goes_on_and_a_cancelled_child_is_killed(function):
    body = "import time; time.sleep(60)"

    async def cancelled():
        name = f"{function(body).__module__}:call"
        others = set(own_children())  # of tests before this one
        task = asyncio.create_task(answer_of(name, b"", **GENEROUS))
        await asyncio.sleep(0.3)
        children = set(own_children()) - others
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return children

    children = asyncio.run(cancelled())
    assert len(children) == 1
    assert not children & set(own_children())


def own_children():
    """Return the process IDs of this process's children."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    return [pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def test_a_child_that_is_not_asked_can_be_ended(function):
    async def started():
        name = f"{function('return data').__module__}:call"
        child = await WaitingChild.start(name, seconds=30, memory=1 << 30)
        before = child.alive
        await child.end()
        await child.end()
        return before, child.alive

    assert asyncio.run(started()) == (True, False)


def test_a_child_lets_others_go_first(function):
    call = function("import os; return str(os.nice(0)).encode()")

    async def asked(niceness):
        child = await WaitingChild.start(
            f"{call.__module__}:call", seconds=10, memory=1 << 30, niceness=niceness
        )
        return int(await child.answer(b"", seconds=10, most=100))

    own = os.nice(0)
    assert asyncio.run(asked(0)) == own
    assert asyncio.run(asked(3)) == min(own + 3, 19)


@pytest.mark.parametrize("waiting", [False, True])
def test_a_child_does_not_see_the_secrets_of_its_parent(function, monkeypatch, waiting):
    secrets = {"AWS_SECRET_ACCESS_KEY", "ONNXSCAPE_TOKEN", "SSH_AUTH_SOCK"}
    for name in secrets:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    call = function("import os; return chr(10).join(os.environ).encode()")

    async def asked():
        child = await WaitingChild.start("in_child:call", seconds=10, memory=1 << 30)
        return await child.answer(b"", seconds=10, most=10**5)

    if waiting:
        found = asyncio.run(asked())
    else:
        found = run_in_child(call, b"", seconds=10, memory=1 << 30, most=10**5)
    names = set(found.decode().split())
    assert names >= {"PATH", "PYTHONPATH", "OMP_WAIT_POLICY"}
    assert not names & secrets


PARENT = """
import os, signal, sys, threading, time
from onnxscape.files.limited_child import run_in_child
import in_child

def die():
    time.sleep(1.0)
    own = f"/proc/{os.getpid()}/task"
    print(*(p for t in os.listdir(own) for p in open(f"{own}/{t}/children").read().split()))
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=die).start()
run_in_child(in_child.call, b"", seconds=60, memory=1 << 30, most=10)
"""


def test_a_child_ends_with_a_parent_that_is_killed(function, tmp_path):
    function("import time; time.sleep(60)")
    run = subprocess.run(
        [sys.executable, "-c", PARENT],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    (child,) = map(int, run.stdout.split())
    for _ in range(100):
        try:
            if "State:\tZ" in Path(f"/proc/{child}/status").read_text():
                return
        except FileNotFoundError:
            return
        time.sleep(0.1)
    pytest.fail(f"the child {child} lives on")
