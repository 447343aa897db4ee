"""What is asked by HTTP must be true, also when the server hangs, and harm nobody."""

from __future__ import annotations

import asyncio
import http.client
import socket
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from onnxscape.errors import UsageError
from onnxscape.jobs.states import JobState
from onnxscape.service.monitoring import operations
from onnxscape.service.monitoring.metrics import Reading, ServerMetrics
from onnxscape.service.monitoring.operations import Operations


def get(address, path):
    """Returns status and text of an answer."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def asked(*paths, read=Reading, ready=lambda: None, during=None, **options):
    """Returns the answers of a server whose loop runs meanwhile."""

    async def run():
        with Operations(ServerMetrics(read), ready=ready, **options) as http_side:
            if during is not None:
                return await asyncio.to_thread(during, http_side)
            return [await asyncio.to_thread(get, http_side.address, path) for path in paths]

    return asyncio.run(run())


def samples(text):
    """Returns name and labels of each sample to its value."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_server_that_takes_work_is_healthy_and_ready():
    assert asked("/healthz", "/readyz") == [(200, "ok\n")] * 2


def test_a_server_that_takes_no_work_lives_and_says_why():
    answers = asked("/healthz", "/readyz", ready=lambda: "going down")
    assert answers == [(200, "ok\n"), (503, "going down\n")]


def test_a_server_whose_loop_hangs_is_neither_healthy_nor_ready():
    async def run():
        options = {"ready": lambda: None, "loop_seconds": 0.05}
        with Operations(ServerMetrics(Reading), **options) as http_side:
            answers = []

            def ask():
                answers.extend(
                    get(http_side.address, path) for path in ("/healthz", "/readyz")
                )

            asking = asyncio.to_thread(ask)
            task = asyncio.create_task(asking)
            await asyncio.sleep(0)  # the thread begins
            deadline = time.monotonic() + 30
            while len(answers) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)  # nobody else has a turn
            await task
            return answers, await asyncio.to_thread(get, http_side.address, "/healthz")

    hanging, afterwards = asyncio.run(run())
    assert [status for status, _ in hanging] == [503, 503]
    assert afterwards == (200, "ok\n")


def test_metrics_tell_what_the_parts_know_at_that_moment():
    now = Reading(
        jobs={JobState.RUNNING: 3},
        jobs_ended={"failed": 2},
        points=17,
        device_seconds=2.5,
        workers_lost={"memory": 2},
        watchers=4,
        draining=True,
    )
    ((status, text),) = asked("/metrics", read=lambda: now)
    assert status == 200
    told = samples(text)
    assert told["onnxscape_jobs", ("state", "running")] == 3
    assert told["onnxscape_jobs", ("state", "queued")] == 0
    assert told["onnxscape_jobs_ended_total", ("state", "failed")] == 2
    assert told["onnxscape_jobs_ended_total", ("state", "succeeded")] == 0
    assert told["onnxscape_points_total",] == 17
    assert told["onnxscape_device_seconds_total",] == 2.5
    assert told["onnxscape_workers_lost_total", ("reason", "memory")] == 2
    assert told["onnxscape_watchers",] == 4
    assert told["onnxscape_draining",] == 1
    assert told["process_resident_memory_bytes",] > 1 << 20


def test_names_follow_the_conventions_and_no_label_can_name_a_user():
    metrics = ServerMetrics(lambda: Reading(workers_lost={"time": 1}, leases_lost={"time": 1}))
    metrics.call_begins("/a.B/C")
    metrics.call_ends("/a.B/C", "UNAUTHENTICATED", 0.1)
    families = list(text_string_to_metric_families(metrics.exposition().decode()))
    for family in families:
        prefix, _, rest = family.name.partition("_")
        assert prefix in {"onnxscape", "process"}
        assert rest == rest.lower()
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert set(sample.labels) <= {"state", "reason", "method", "code", "le", "version"}
            counted = family.type == "counter" and not sample.name.endswith("_created")
            assert not counted or sample.name.endswith("_total")
    told = samples(metrics.exposition().decode())
    assert told["onnxscape_unauthenticated_total",] == 1


@pytest.mark.parametrize(("path", "part"), [("/metrics", "read"), ("/readyz", "ready")])
def test_a_part_that_fails_is_an_error_to_the_monitor_and_not_an_empty_answer(
    path, part, caplog
):
    def fails():
        raise OSError("the store is gone: /secret")

    (status, text), (alive, _) = asked(path, "/healthz", **{part: fails})
    assert status == 500
    assert "secret" not in text
    assert alive == 200
    assert "cannot answer by HTTP" in caplog.text


@pytest.mark.parametrize("path", ["/", "/metrics/..", "/../etc/passwd", "/healthz/", "//"])
def test_there_is_nothing_else(path):
    ((status, text),) = asked(path)
    assert status == 404
    assert text == "try /healthz, /readyz or /metrics\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE"])
def test_nothing_can_be_changed(method):
    def during(http_side):
        connection = http.client.HTTPConnection("127.0.0.1", http_side.port, timeout=30)
        connection.request(method, "/metrics")
        status = connection.getresponse().status
        connection.close()
        return status

    assert asked(during=during) == 501


def test_clients_that_say_nothing_are_closed_and_hinder_nobody(monkeypatch):
    monkeypatch.setattr(operations._Handler, "timeout", 0.5)

    def during(http_side):
        silent = [socket.create_connection(("127.0.0.1", http_side.port)) for _ in range(40)]
        ended = 0
        for one in silent:
            one.settimeout(30)
            ended += one.recv(1) == b""
            one.close()
        return ended, get(http_side.address, "/healthz")

    assert asked(during=during) == (40, (200, "ok\n"))


def test_a_port_in_use_is_a_clear_error():
    def during(http_side):
        async def second():
            with Operations(ServerMetrics(Reading), ready=lambda: None, port=http_side.port):
                pass

        with pytest.raises(UsageError, match="--http-port"):
            asyncio.run(second())
        return True

    assert asked(during=during)


def test_it_listens_on_loopback_unless_told_otherwise():
    assert asked(during=lambda http_side: http_side.address.split(":")[0]) == "127.0.0.1"
