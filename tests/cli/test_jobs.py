"""`onnxscape jobs`: each command beside a fake server."""

from __future__ import annotations

import json
import re

import pytest

import onnxscape as ox


@pytest.fixture
def jobs(cli, server):
    """Runs `onnxscape jobs` on the fake server."""

    def run(command, *arguments):
        return cli("jobs", command, *arguments, "--server", server.address)

    return run


@pytest.fixture
def submit(jobs, reference):
    """Orders a small landscape."""

    def run(*more):
        model = reference / "model.onnx"
        return jobs("submit", model, "--data", "digits", "--grid", "3x3", *more)

    return run


def test_an_order_prints_the_id_of_its_job_and_nothing_else(submit, server):
    done = submit("--priority", "7", "--name", "mine")
    assert (done.status, done.out) == (0, "j1\n")
    assert done.err == "the fake is no server\n"
    assert (server.job.message.priority, server.job.message.display_name) == (7, "mine")


def test_an_equal_order_says_that_it_is_the_same_job(submit):
    submit()
    again = submit()
    assert again.out == "j1\n"
    assert "an equal order was made before" in again.err


def test_an_estimate_orders_nothing(submit, server):
    done = submit("--estimate")
    assert "estimate    9 points, 3.0 s of a device" in done.out
    assert "ordered     not yet" in done.out
    assert server.jobs == {}


def test_jobs_are_listed_the_newest_first(submit, jobs, server):
    for seed in ("0", "1", "2"):
        submit("--seed", seed)
    header, *rows = jobs("list").out.splitlines()
    assert header.split() == ["JOB", "STATE", "POINTS", "ORDERED", "NAME"]
    assert [row.split()[0] for row in rows] == ["j3", "j2", "j1"]
    assert re.fullmatch(
        r"j3   succeeded  9/9     2027-01-15 08:00:00 UTC  model on digits", rows[0]
    )
    assert len(jobs("list", "--limit", "2").out.splitlines()) == 3
    assert jobs("list", "--state", "failed").err == "no jobs\n"
    assert [job["id"] for job in json.loads(jobs("list", "--json").out)] == ["j3", "j2", "j1"]


def test_a_job_is_shown(submit, jobs):
    submit()
    lines = jobs("show", "j1").out.splitlines()
    assert "state       succeeded" in lines
    assert "points      9 of 9" in lines
    assert "model       fake" in lines
    values = json.loads(jobs("show", "jobs/j1", "--json").out)
    assert (values["state"], values["done"], values["spec"]["seed"]) == ("succeeded", 9, 0)


def test_a_job_is_watched_to_its_end(submit, jobs, server):
    submit()
    done = jobs("watch", "j1")
    assert done.status == 0
    assert "state       succeeded" in done.out.splitlines()
    server.failing_points = {(1, 1): "no"}
    submit("--seed", "1")
    failed = jobs("watch", "j2")
    assert failed.status == 5
    assert "job j2 failed: POINTS_FAILED" in failed.err


def test_jobs_are_cancelled_and_deleted(submit, jobs, server):
    server.at_once = False
    submit()
    submit("--seed", "1")
    refused = jobs("delete", "j1")
    assert (refused.status, refused.error()) == (2, "it is not finished")
    assert jobs("cancel", "j1", "j2").out == (
        "j1  cancelled, 0 of 9 points\nj2  cancelled, 0 of 9 points\n"
    )
    assert jobs("delete", "j1", "j2").out == "j1  deleted\nj2  deleted\n"
    assert server.jobs == {}


def test_a_surface_is_fetched_with_its_pictures(submit, jobs, here):
    submit()
    done = jobs("fetch", "j1")
    assert (done.status, done.err) == (0, "")
    assert ox.load(here / "j1.h5").complete
    assert list(here.glob("j1*.png"))
    assert "grid        loss 1 to 4" in done.out


def test_a_job_without_a_point_has_nothing_to_fetch(submit, jobs, server, here):
    server.at_once = False
    submit()
    done = jobs("fetch", "j1", "--out", "s.h5")
    assert done.status == 5
    assert "0 of 9 points are there" in done.error()
    assert not list(here.glob("s*"))


def test_the_server_says_its_limits(jobs):
    assert "limits      grids of " in jobs("server").out


def test_a_partial_surface_is_fetched_with_a_warning_and_again(submit, jobs, server, here):
    server.at_once = False
    submit()
    server.job.advance(4)
    done = jobs("fetch", "j1", "--no-plot", "--out", "s.h5")
    assert done.status == 0
    assert "job j1 is running: 4 of 9 points are there; fetch it again later" in done.err
    assert ox.load(here / "s.h5").evaluated.sum() == 4
    server.job.advance()
    values = json.loads(jobs("fetch", "j1", "--no-plot", "--out", "s.h5", "--json").out)
    assert (values["complete"], values["job"]) == (True, "j1")


def test_another_landscape_is_not_replaced(submit, jobs, here):
    submit()
    submit("--seed", "1")
    jobs("fetch", "j1", "--no-plot", "--out", "s.h5")
    assert jobs("fetch", "j2", "--no-plot", "--out", "s.h5").status == 2
    assert ox.load(here / "s.h5").spec.seed == 0
    assert jobs("fetch", "j2", "--no-plot", "--out", "s.h5", "--restart").status == 0
    assert ox.load(here / "s.h5").spec.seed == 1


def test_the_server_is_shown(jobs):
    lines = jobs("server").out.splitlines()
    assert "version     0.fake" in lines
    assert "devices     cpu (no processor, 2 at a time)" in lines
    assert "data        digits" in lines
    assert json.loads(jobs("server", "--json").out)["offered"] == {"digits": ["train"]}


def test_a_job_that_is_not_there_is_a_usage_error(jobs):
    done = jobs("show", "nothing")
    assert (done.status, done.error()) == (2, "no job jobs/nothing")


def test_a_server_is_needed(cli, server):
    done = cli("jobs", "list")
    assert done.status == 2
    assert done.error() == "expected --server HOST:PORT, or ONNXSCAPE_SERVER, got neither"
