"""`onnxscape eval --server`: the output and the rules of a run here."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time

import numpy as np
import pytest
from fake_server import AWAY

import onnxscape as ox
from onnxscape.service.client import retries
from onnxscape.storage import PointStore


@pytest.fixture
def remote(arguments, server):
    """Returns the arguments of a small evaluation by the fake server."""

    def build(*more, **options):
        line = arguments("--server", server.address, *more, data="digits", **options)
        at = line.index("--threads")
        return line[:at] + line[at + 2 :]

    return build


def test_the_surface_is_written_and_said_what_of(cli, remote, server, here):
    done = cli(*remote())
    assert (done.status, done.err) == (0, "")
    landscape = ox.load(here / "s.h5")
    alphas, betas = np.meshgrid(landscape.alphas, landscape.betas)
    np.testing.assert_array_equal(landscape.loss, alphas**2 + 2 * betas**2 + 1)
    lines = done.out.splitlines()
    assert lines[0] == f"server      {server.address}: reads and checks the order first"
    assert lines[1] == "job         j1"
    assert "the fake is no server" in lines
    assert "model       fake: 2 tensors of 10 values move, 1 trainable one stays" in lines
    assert "9/9 points  loss 1 … 4  " in done.out
    assert "center      loss 1" in lines
    assert "grid        loss 1 to 4" in lines
    assert lines[-1] == "wrote       s.h5"


def test_the_order_is_what_the_options_say(cli, remote, server):
    more = ["--seed", "3", "--normalize", "layer", "--device", "cpu", "--batch-size", "7"]
    cli(*remote(*more, "--label-smoothing", "0.1", "--filter-axis", "w=1"))
    spec = server.job.message.spec
    assert (spec.directions.seed, spec.directions.normalization) == (3, "layer")
    assert dict(spec.directions.filter_axis) == {"w": 1}
    assert spec.loss.label_smoothing == 0.1
    assert spec.samples.count == 50
    assert spec.data == "dataSets/digits"
    execution = server.job.message.execution
    assert (execution.device, execution.batch_size) == ("cpu", 7)


def test_data_that_the_server_does_not_offer_are_uploaded(cli, remote, server, reference):
    line = remote()
    line[line.index("digits")] = str(reference / "data.npz")
    assert cli(*line).status == 0
    assert server.job.message.display_name == "model on data.npz"
    assert len(server.blobs.whole) == 2


def test_a_split_that_the_server_does_not_offer_is_uploaded(cli, remote, server):
    assert cli(*remote("--split", "test")).status == 0
    assert len(server.blobs.whole) == 2
    assert server.job.message.spec.split == "test"


def test_json_tells_what_a_run_here_tells_and_the_job(cli, remote, server):
    done = cli(*remote("--json"))
    values = json.loads(done.out)
    assert values["complete"]
    assert (values["points"], values["points_computed"]) == (9, 9)
    assert values["center_loss"] == 1.0
    assert (values["job"], values["server"]) == ("j1", server.address)
    assert set(values["seconds"]) == {"start", "waiting", "evaluation", "pictures"}
    assert values["plan"]["batch"] == 64


def test_pictures_are_drawn_here(cli, remote, here):
    line = [a for a in remote() if a != "--no-plot"]
    done = cli(*line)
    assert done.status == 0
    assert (here / "s_contour.png").exists() or list(here.glob("s*.png"))


def test_quiet_says_nothing(cli, remote):
    done = cli(*remote("--quiet"))
    assert (done.status, done.out, done.err) == (0, "", "")


def test_a_finished_file_of_the_same_spec_is_used(cli, remote, server, here):
    cli(*remote())
    before = (here / "s.h5").stat().st_mtime_ns
    server.jobs.clear()
    done = cli(*remote())
    assert "s.h5 is finished: 9 points, nothing to compute" in done.out
    assert (here / "s.h5").stat().st_mtime_ns == before
    assert server.jobs == {}


def test_a_file_of_another_spec_is_not_replaced(cli, remote, server, here):
    cli(*remote())
    before = (here / "s.h5").read_bytes()
    done = cli(*remote("--seed", "1"))
    assert done.status == 2
    assert "it differs in seed (0, not 1)" in done.error()
    assert (here / "s.h5").read_bytes() == before
    assert len(server.jobs) == 1


def test_restart_replaces_a_file_of_another_spec(cli, remote, here):
    cli(*remote())
    assert cli(*remote("--seed", "1", "--restart")).status == 0
    assert ox.load(here / "s.h5").spec.seed == 1


def test_a_file_that_is_no_landscape_is_never_replaced(cli, remote, server, here):
    (here / "s.h5").write_text("a diary")
    for more in ([], ["--restart"]):
        assert cli(*remote(*more)).status == 2
    assert (here / "s.h5").read_text() == "a diary"
    assert server.jobs == {}


def test_points_of_another_run_here_are_not_passed_over(cli, remote, here, arguments):
    # The points of an interrupted run, of the same output, with another spec.
    cli(*arguments(out="other.h5"))
    other = ox.load(here / "other.h5")
    with contextlib.closing(PointStore.open(here / "s.h5")) as store:
        store.begin(other.spec, other.plan, {})
    done = cli(*remote())
    assert done.status == 2
    assert "holds another landscape" in done.error()
    assert cli(*remote("--restart")).status == 0
    assert not PointStore.location(here / "s.h5").exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--threads", "2"], "--threads says"),
        (["--workers", "2", "--store", "x"], "--workers and --store say"),
        (["--provider", "CPUExecutionProvider"], "--provider says"),
        (["--save-directions", "d.h5"], "--save-directions says"),
        (["--device", "cuda:1"], "expected --device auto, cpu or cuda"),
        (["--device", "openvino"], "expected --device auto, cpu or cuda"),
    ],
)
def test_options_of_a_run_here_are_refused(cli, remote, server, flags, named):
    done = cli(*remote(*flags))
    assert done.status == 2
    assert named in done.error()
    assert server.calls == []


def test_the_server_of_the_environment_is_used_and_can_be_left_out(
    cli, remote, arguments, server, monkeypatch, here
):
    monkeypatch.setenv("ONNXSCAPE_SERVER", server.address)
    monkeypatch.setenv("ONNXSCAPE_TOKEN", "onnxscape_x")
    line = remote()
    at = line.index("--server")
    assert cli(*line[:at], *line[at + 2 :]).status == 0
    assert set(server.tokens) == {"Bearer onnxscape_x"}
    error = cli(*arguments(out="here.h5")).error()
    assert error.endswith(
        "leave it out, or say --server '' to run it here although ONNXSCAPE_SERVER is set"
    )
    assert cli(*arguments("--server", "", out="here.h5")).status == 0
    assert len(server.jobs) == 1


def test_credentials_without_a_server_are_refused(cli, arguments):
    error = cli(*arguments("--token", "x", "--insecure")).error()
    assert error.startswith("--token and --insecure have no meaning without a server")


def test_a_server_that_is_not_there_is_status_5(cli, remote, server, monkeypatch, here):
    server.stop()
    monkeypatch.setattr(
        "onnxscape.service.client.async_client.Patience",
        lambda: retries.Patience(call=0.3, first=0.05),
    )
    done = cli(*remote())
    assert done.status == 5
    assert f"cannot reach a server at {server.address} (nobody listens there)" in done.error()
    assert done.out.count("is away (nobody listens there); trying again") == 1
    assert "check the address, that `onnxscape serve` runs there" in done.error()
    assert list(here.iterdir()) == []


def test_a_job_that_fails_is_status_5_with_its_reason_and_points(cli, remote, server, here):
    server.failing_points = {(0, 0): "it killed three workers"}
    done = cli(*remote())
    assert done.status == 5
    warning, error = done.err.splitlines()
    assert warning == "onnxscape: warning: no loss at (-1, -1): it killed three workers"
    assert "job j1 failed: POINTS_FAILED: 1 points failed; 8 of 9 points are there" in error
    assert error.endswith(", and in s.h5")
    assert ox.load(here / "s.h5").evaluated.sum() == 8


def test_a_job_that_fails_before_its_first_point_leaves_no_file(cli, remote, server, here):
    server.at_once = False

    def fail():
        while not server.jobs:
            time.sleep(0.01)
        server.job.fail("SelfTestError", "the outputs differ")

    thread = threading.Thread(target=fail)
    thread.start()
    done = cli(*remote())
    thread.join()
    assert done.status == 5
    assert done.error().startswith("job j1 failed: SelfTestError: the outputs differ")
    assert list(here.iterdir()) == []


def test_broken_connections_do_not_show_in_the_result(cli, remote, server, here):
    server.job_service.breaks = [3, 0, 2]
    server.fail("CreateJob", AWAY)
    server.fail("ReadSurface", AWAY)
    done = cli(*remote())
    assert (done.status, done.err) == (0, "")
    assert f"{server.address} is away (going down); trying again" in done.out
    assert ox.load(here / "s.h5").complete


def test_an_interrupt_leaves_the_job_and_the_same_command_attaches(
    start, cli, remote, server, here
):
    server.at_once = False
    running = start(remote("--json"))
    while not server.jobs or not server.job_service.watched:
        assert running.process.poll() is None
        time.sleep(0.02)
    server.job.advance(4)
    time.sleep(0.5)
    running.process.send_signal(signal.SIGINT)
    done = running.end()
    assert done.status == 130
    assert done.err.splitlines()[-1] == (
        f"onnxscape: detached: job j1 goes on at {server.address} (4 of 9 points); the same "
        f"command attaches to it again, and `onnxscape jobs cancel j1 --server "
        f"{server.address}` stops it"
    )
    values = json.loads(done.out)
    assert (values["job"], values["points"], values["complete"]) == ("j1", 4, False)
    assert list(here.iterdir()) == []
    server.job.advance()
    again = cli(*remote())
    assert again.status == 0
    assert "points      9 (9 of them are there already)" in again.out
    assert "wrote       s.h5" in again.out
    assert list(server.jobs) == ["jobs/j1"]


def test_an_interrupt_before_the_order_is_only_an_interrupt(start, remote, server, here):
    server.holds["CreateModel"] = threading.Event()
    running = start(remote())
    while "CreateModel" not in server.calls:
        assert running.process.poll() is None
        time.sleep(0.02)
    running.process.send_signal(signal.SIGINT)
    done = running.end()
    server.holds["CreateModel"].set()
    assert (done.status, done.err.strip()) == (130, "onnxscape: interrupted")
    assert list(here.iterdir()) == []


def test_directions_of_a_file_are_called_as_the_user_calls_them(
    cli, remote, server, arguments
):
    cli(*arguments("--save-directions", "mine.h5", out="other.h5"))
    done = cli(*remote("--directions", "mine.h5"))
    assert "directions  from mine.h5" in done.out.splitlines()
    assert server.job.message.spec.directions.file.size > 0
