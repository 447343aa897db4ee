"""Orders over the wire: placed once, shared, refused for a reason."""

from __future__ import annotations

import asyncio

from jobs_server import as_user, refused, run, served, spec_message

from onnxscape.v1 import jobs_pb2


def test_a_job_is_durable_and_computed_once_it_is_created(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create(display_name="mine", priority=7)
            assert job.name.startswith("jobs/")
            assert server.store.job(job.name.removeprefix("jobs/"), "alice") is not None
            done = await server.finished(job.name)
            assert done.state == jobs_pb2.JOB_STATE_SUCCEEDED
            assert (done.point_total, done.point_count, done.failed_count) == (25, 25, 0)
            assert (done.display_name, done.priority, done.shared) == ("mine", 7, False)
            assert done.notes == ["a note"]
            assert done.warnings == ["a warning"]
            assert done.create_time.seconds <= done.start_time.seconds <= done.end_time.seconds

    run(scenario)
