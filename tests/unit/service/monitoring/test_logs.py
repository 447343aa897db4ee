"""Log lines must be one JSON object each, whatever is logged, and name the call."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re

import pytest

from onnxscape.service.monitoring import logs


@pytest.fixture
def written():
    """Logs to a text, as a server does; the text is returned."""
    root = logging.getLogger()
    before = root.handlers[:], root.level

    def begin(form="json", level="info"):
        stream = io.StringIO()
        logs.configure(form=form, level=level, stream=stream)
        return stream

    yield begin
    root.handlers[:], level = before
    root.setLevel(level)


def in_a_call(function):
    """Runs a function as a call is run: what it binds ends with it."""

    async def call():
        return function()

    return asyncio.run(call())


def test_a_line_has_time_level_event_and_what_it_is_about(written):
    text = written()
    logging.getLogger("onnxscape.x").warning(
        "job %s", "lost", extra={"job": "a1", "points": 3}
    )
    line = json.loads(text.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "warning",
        "event": "job lost",
        "logger": "onnxscape.x",
        "job": "a1",
        "points": 3,
    }


def test_what_is_bound_is_in_all_lines_of_the_call_and_in_no_other(written):
    text = written()
    log = logging.getLogger("onnxscape.x")

    async def call(user):
        logs.bind(request_id=f"of-{user}")
        await asyncio.sleep(0)
        logs.bind(user=user)
        await asyncio.to_thread(log.info, "in a thread")

    async def both():
        await asyncio.gather(call("a"), call("b"))
        log.info("outside")

    asyncio.run(both())
    lines = [json.loads(line) for line in text.getvalue().splitlines()]
    inside = {(line["request_id"], line["user"]) for line in lines[:2]}
    assert inside == {("of-a", "a"), ("of-b", "b")}
    assert "request_id" not in lines[2]


@pytest.mark.parametrize("form", ["json", "text"])
def test_nothing_that_is_logged_can_look_like_another_line(written, form):
    text = written(form)
    evil = 'x\n{"time": "now", "level": "info", "event": "all is well"}\r\x1b[2J'
    logging.getLogger("onnxscape.x").error("told %s", evil, extra={"name_of": evil})
    assert text.getvalue().count("\n") == 1
    assert "\x1b" not in text.getvalue()
    assert "\r" not in text.getvalue()


def test_an_error_is_one_line_with_its_traceback(written):
    text = written()
    error = OSError("disk\nfull")
    logging.getLogger("onnxscape.x").error("cannot write", exc_info=error)
    (line,) = [json.loads(line) for line in text.getvalue().splitlines()]
    assert line["error"] == "OSError"
    assert line["traceback"] == "OSError: disk\nfull\n"


def test_a_value_of_any_kind_and_length_is_written(written):
    text = written()
    extra = {"path": {"a": object()}, "long": "x" * 100_000, "number": float("nan")}
    logging.getLogger("onnxscape.x").info("odd", extra=extra)
    assert len(text.getvalue()) < 20_000
    assert json.loads(text.getvalue())["event"] == "odd"


def test_what_an_event_is_about_cannot_stand_for_the_event_itself(written):
    text = written()
    extra = {"event": "another", "time": "never", "level": "none", "job": "a1"}
    logging.getLogger("onnxscape.x").info("the event", extra=extra)
    line = json.loads(text.getvalue())
    assert (line["event"], line["level"], line["job"]) == ("the event", "info", "a1")
    assert line["time"] != "never"


def test_lines_below_the_level_are_left_out(written):
    text = written(level="warning")
    logging.getLogger("onnxscape.x").info("nothing of note")
    assert not text.getvalue()


def test_text_is_for_people(written):
    text = written("text")
    logging.getLogger("onnxscape.x").info("job finished", extra={"job": "a1"})
    assert re.fullmatch(r"\S+Z info    job finished job=a1\n", text.getvalue())


@pytest.mark.parametrize("asked", ["a", "0af7-651.9_Z", "x" * 64])
def test_a_plain_request_id_of_the_client_is_taken(asked):
    assert logs.request_id(asked) == asked


@pytest.mark.parametrize("asked", [None, "", "x" * 65, "a b", "a\n", "ä", "{}"])
def test_any_other_gets_a_new_one_each_time(asked):
    made = {logs.request_id(asked), logs.request_id(asked)}
    assert len(made) == 2
    assert asked not in made
    assert all(re.fullmatch(r"[0-9a-f]{16}", one) for one in made)


def test_what_one_call_binds_is_not_bound_afterwards():
    in_a_call(lambda: logs.bind(user="a"))
    assert logs.bound() == {}
