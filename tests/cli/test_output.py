"""What the command prints and writes."""

from __future__ import annotations

import json
import math
import re

import h5py
import numpy as np
import onnx
import pytest
from PIL import Image

from onnxscape import __version__, load
from onnxscape.core.grid import Point
from onnxscape_cli.terminal import Terminal, duration


def with_pictures(arguments):
    return [a for a in arguments if a != "--no-plot"]


def test_a_plane_gets_a_surface_and_four_pictures(cli, arguments, here):
    result = cli(*with_pictures(arguments(grid="5x5")))
    assert (result.status, result.err) == (0, "")
    names = ["s.h5"] + [f"s_{k}.png" for k in ("contour", "filled", "heatmap", "surface")]
    assert sorted(path.name for path in here.iterdir()) == names
    for name in names[1:]:
        with Image.open(here / name) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 100
        assert name in result.out


def test_a_line_gets_one_picture(cli, arguments, here):
    assert cli(*with_pictures(arguments(grid="5"))).status == 0
    assert sorted(path.name for path in here.iterdir()) == ["s.h5", "s_line.png"]


def test_without_a_name_the_surface_is_named_like_the_model(cli, arguments, here):
    assert cli(*arguments(out=None)).status == 0
    assert [path.name for path in here.iterdir()] == ["model.h5"]


def test_the_run_is_described_before_it_starts(cli, arguments):
    lines = cli(*arguments()).out.splitlines()
    rows = dict(line.split(maxsplit=1) for line in lines)
    assert "5 tensors of 9,880 values move, 8 trainable ones stay" in rows["model"]
    assert rows["samples"] == "50 of 300"
    assert rows["points"] == "9"
    assert "constant weights" in rows["strategy"]
    assert rows["wrote"] == "s.h5"
    assert re.fullmatch(r"loss 0\.\d{4}, accuracy \d+\.\d\d %", rows["center"])


def test_the_loss_is_described_and_its_metrics_printed(cli, arguments):
    rows = dict(line.split(maxsplit=1) for line in cli(*arguments()).out.splitlines())
    assert rows["loss"] == (
        "cross-entropy of 'logits' [N, 10] "
        "(proposed: labels are classes, the output looks like logits); accuracy"
    )
    options = ["--loss", "cross-entropy", "--label-smoothing", "0.1", "--metric", "top5,error"]
    lines = cli(*arguments(*options, "--restart")).out.splitlines()
    rows = dict(line.split(maxsplit=1) for line in lines)
    assert (
        rows["loss"] == "cross-entropy of 'logits' [N, 10], label smoothing 0.1; top5, error"
    )
    number = r"\d+\.\d\d %"
    assert re.fullmatch(rf"loss \S+, top5 {number}, error {number}", rows["center"])


def test_samples_of_probability_zero_are_told_at_the_end(cli, arguments, dense_model, here):
    onnx.save(dense_model(np.eye(2), np.zeros(2), softmax=True), here / "m.onnx")
    x = np.float32([[0, 200], [200, 0], [0, 0]])
    np.savez(here / "d.npz", x=x, y=[0, 0, 1])
    result = cli(*arguments("--samples", "all", model="m.onnx", data="d.npz", grid="2"))
    rows = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert rows["clamped"].startswith("1 of 3 samples at the center: probability 0")
    report = json.loads(
        cli(
            *arguments("--samples", "all", model="m.onnx", data="d.npz", grid="2"), "--json"
        ).out
    )
    assert report["center"]["clamped"] == 1.0
    assert report["center"]["loss"] == report["center_loss"]
    (warning,) = report["warnings"]
    assert warning.startswith("2 of 2 points have samples of probability 0")
    assert f"onnxscape: warning: {warning}" in result.err


def test_a_loss_may_be_a_file(cli, arguments, here, make_model):
    nodes = [onnx.helper.make_node("ReduceL1", ["logits"], ["z"], axes=[1])]
    model = make_model(nodes, {"logits": ["n", 10]}, {"z": ["n", 1]}, {})
    onnx.save(model, here / "own.onnx")
    result = cli(*arguments("--loss", "own.onnx", "--metric", "own.onnx"))
    assert (result.status, result.err) == (0, "")
    landscape = load(here / "s.h5")
    assert np.array_equal(landscape.surfaces["own"], landscape.loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--loss", "hinge"], "--loss as one of cross-entropy, "),
        (["--loss", "missing.onnx"], "no loss or metric file at missing.onnx"),
        (["--loss", "log-loss"], "--loss cross-entropy"),
        (["--metric", "f1"], "got f1"),
        (["--output", "out"], "--output to be one of logits"),
    ],
)
def test_a_loss_that_cannot_be_is_bad_usage(options, message, cli, arguments):
    result = cli(*arguments(*options))
    assert result.status == 2
    assert message in result.error()


def test_quiet_prints_nothing(cli, arguments):
    result = cli(*arguments("--quiet"))
    assert (result.status, result.out, result.err) == (0, "", "")


def test_quiet_still_warns(cli, arguments, here):
    with h5py.File(here / "d.h5", "w") as file:
        file["xdirection/0"] = np.ones((10, 32))
        file["xdirection/0"].attrs["name"] = "f2.weight"
    result = cli(*arguments("--quiet", "--directions", "d.h5", grid="3"))
    assert (result.status, result.out) == (0, "")
    assert result.err.startswith("onnxscape: warning: ")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_json_is_one_object_on_stdout(cli, arguments, here, quiet):
    result = cli(*with_pictures(arguments("--json", *quiet)))
    (line,) = result.out.splitlines()
    report = json.loads(line)
    landscape = load(here / "s.h5")
    assert report["out"] == "s.h5"
    assert report["complete"] is True
    assert (report["points"], report["points_computed"], report["points_reused"]) == (9, 9, 0)
    assert report["center_loss"] == landscape.center["loss"]
    assert report["center_accuracy"] == landscape.center["accuracy"]
    assert report["spec"] == landscape.spec.to_dict()
    assert report["plan"] == landscape.plan.to_dict()
    assert len(report["pictures"]) == 4
    assert sorted(report["pictures"]) == sorted(path.name for path in here.glob("*.png"))
    assert report["warnings"] == []
    assert set(report["seconds"]) == {"start", "self_test", "evaluation", "pictures"}
    assert (result.err == "") == bool(quiet)


def test_a_finished_surface_is_said_to_be_finished(cli, arguments):
    cli(*arguments())
    result = cli(*arguments())
    assert result.status == 0
    assert "s.h5 is finished: 9 points, nothing to compute" in result.out
    report = json.loads(cli(*arguments("--json")).out)
    assert (report["points_computed"], report["points_reused"]) == (0, 9)


def test_losses_that_are_not_finite_are_null_in_json_and_counted_in_text(cli, arguments):
    grid = ["--radius", "1e39"]
    result = cli(*arguments(*grid))
    assert "; 8 points are not finite" in result.out
    report = json.loads(cli(*arguments("--json", *grid)).out)
    assert math.isfinite(report["center_loss"])


def test_x_and_y_replace_the_grid(cli, arguments, here):
    assert cli(*arguments("--x", "-0.5:1:4", "--y", "-1:1:3")).status == 0
    landscape = load(here / "s.h5")
    assert landscape.loss.shape == (3, 4)
    assert landscape.alphas.tolist() == [-0.5, 0.0, 0.5, 1.0]


def test_options_reach_the_spec(cli, arguments, here):
    flags = ["--seed", "9", "--normalize", "layer", "--ignore", "biasbn", "--orthogonal"]
    flags += ["--strategy", "overriding", "--batch-size", "16", "--metric", "accuracy"]
    assert cli(*arguments(*flags)).status == 0
    landscape = load(here / "s.h5")
    spec, plan = landscape.spec, landscape.plan
    assert (spec.seed, spec.normalization, spec.ignore) == (9, "layer", "biasbn")
    assert spec.orthogonal
    assert spec.metrics == ("accuracy",)
    assert spec.samples == 50
    assert (plan.strategy, plan.batch) == ("overriding", 16)


def test_values_are_preprocessed_as_asked(cli, arguments, here):
    flags = ["--scale", "2", "--mean", "0.5", "--std", "0.25"]
    assert cli(*arguments(*flags)).status == 0
    assert cli(*arguments(out="plain.h5")).status == 0
    changed, plain = load(here / "s.h5"), load(here / "plain.h5")
    assert changed.spec.data == plain.spec.data
    assert changed.center["loss"] != plain.center["loss"]
    assert changed.spec.preprocessing["input"]["scale"] == 2.0


def test_help_names_the_commands(cli):
    result = cli("--help")
    assert result.status == 0
    for name in ("eval", "inspect", "plot", "data"):
        assert f"\n  {name} " in result.out


@pytest.mark.parametrize("command", ["eval", "inspect", "plot", "data"])
def test_every_command_has_its_help(cli, command):
    result = cli(command, "--help")
    assert result.status == 0
    assert result.out.startswith(f"Usage: onnxscape {command}")


def test_the_help_of_eval_names_every_option_in_the_section_of_its_subject(cli):
    sections = {
        "Data": "data split samples layout scale mean std data-dir",
        "Grid": "grid radius x y",
        "Loss": "loss metric output class-axis ignore-index label-smoothing huber-delta",
        "Directions": "seed normalize orthogonal directions save-directions",
        "What moves": "ignore include exclude filter-axis",
        "Model": "precision weights",
        "Fewer evaluations": "adaptive tolerance stderr two-level",
        "Running": "device batch-size strategy provider threads workers explain",
        "Server": "server token tls-ca tls-cert tls-key insecure",
        "Output": "out restart store no-plot quiet json",
    }
    text = cli("eval", "--help").out
    found = re.findall(r"^([A-Z][\w ]+):\n((?:  .*\n)+)", text, re.MULTILINE)
    listed = {title: re.findall(r"^  --([\w-]+)", body, re.MULTILINE) for title, body in found}
    assert {title: names.split() for title, names in sections.items()} == {
        title: names for title, names in listed.items() if title != "Help"
    }
    assert "--help" in text


def test_version_is_that_of_the_package(cli):
    assert cli("--version").out.strip().endswith(__version__)


def test_an_unknown_command_is_2(cli):
    result = cli("evaluate")
    assert result.status == 2
    assert "evaluate" in result.err


# --- the other commands ----------------------------------------------------------------------


def test_plot_draws_beside_the_surface(cli, reference, here):
    for name in ("surface_2d.h5", "surface_1d.h5"):
        (here / name).write_bytes((reference / name).read_bytes())
    result = cli("plot", "surface_2d.h5", "surface_1d.h5", "--format", "svg")
    assert (result.status, result.err) == (0, "")
    assert len(list(here.glob("surface_2d_*.svg"))) == 4
    assert len(list(here.glob("surface_1d_*.svg"))) == 1


def test_plot_draws_one_picture_where_it_is_told(cli, reference, here):
    path = reference / "surface_2d.h5"
    result = cli("plot", path, "--kind", "heatmap", "--out", "p.png")
    assert (result.status, result.out) == (0, "wrote p.png\n")
    assert [p.name for p in here.iterdir()] == ["p.png"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["nope.h5"], "nope.h5"),
        (["SURFACE", "--kind", "line", "--out", "p.png"], "line"),
        (["SURFACE", "--together"], "--out"),
        (["SURFACE", "SURFACE", "--out", "p.png"], "--together"),
        (["SURFACE", "--title", "a", "--title", "b"], "--title"),
        (["SURFACE", "--metric", "speed", "--out", "p.png"], "speed"),
        (["SURFACE", "--out", "no/p.png"], "no/p.png"),
    ],
)
def test_plot_refuses_what_it_cannot_draw(cli, reference, options, named):
    path = str(reference / "surface_2d.h5")
    result = cli("plot", *(path if option == "SURFACE" else option for option in options))
    assert result.status == 2
    assert named in result.error()


def test_data_lists_what_is_known(cli, tmp_path):
    result = cli("data", "list", "--data-dir", tmp_path)
    assert (result.status, result.err) == (0, "")
    for name in ("digits", "cifar10", "fashion-mnist", "mnist"):
        assert any(line.split()[0] == name for line in result.out.splitlines())


def test_data_gets_what_comes_with_the_package(cli):
    result = cli("data", "get", "digits")
    assert (result.status, result.err) == (0, "")
    assert "[1438, 8, 8]" in result.out


def test_data_refuses_an_unknown_name(cli):
    result = cli("data", "get", "cifra10")
    assert result.status == 2
    assert "cifar10" in result.error()


# --- the terminal ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "40 ms"),
        (9.94, "9.9 s"),
        (42.4, "42 s"),
        (119.0, "119 s"),
        (200.0, "3 min 20 s"),
        (7500.0, "2 h 5 min"),
        (math.inf, "unknown"),
    ],
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


def test_a_log_gets_lines_now_and_then(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("onnxscape_cli.terminal.time.monotonic", lambda: now[0])
    terminal = Terminal(quiet=False, to_stderr=False)
    for done in range(1, 101):
        now[0] += 1.0
        terminal.point(Point(0, 0, 0.0, 0.0), {"loss": float(done)}, done, 100)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0] == "10/100 points  loss 1 … 10  1 points/s  90 s left"
    assert lines[-1].startswith("100/100 points")


def test_a_log_of_losses_that_are_not_finite_says_so(capsys):
    terminal = Terminal(quiet=False, to_stderr=False)
    terminal.point(Point(0, 0, 0.0, 0.0), {"loss": math.nan}, 1, 1)
    assert "no finite loss" in capsys.readouterr().out


def test_tensors_are_chosen_by_name(cli, arguments, here):
    options = ["--include", "b1.*", "--include", "b2.bias", "--exclude", "f2.*"]
    options += ["--filter-axis", "f1.weight=-1", "--save-directions", "d.h5"]
    assert cli(*arguments(*options)).status == 0
    spec = load(here / "s.h5").spec
    assert (spec.include, spec.exclude) == (("b1.*", "b2.bias"), ("f2.*",))
    assert spec.filter_axis == {"f1.weight": 1}
    with h5py.File(here / "d.h5") as file:
        moved = {d.attrs["name"] for d in file["xdirection"].values() if np.any(d[()])}
    normalizations = {"b1.weight", "b1.bias", "b2.bias"}
    assert moved == {"c1.weight", "c2.weight", "dw.weight", "f1.weight"} | normalizations


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--include", "nope*"], "--include 'nope*' matches no float tensor"),
        (["--include", "b1.running_var"], "a running statistic"),
        (["--exclude", "*"], "--exclude matches all weights"),
        (["--filter-axis", "f1.weight"], "NAME=AXIS, the axis a number, got 'f1.weight'"),
        (["--filter-axis", "=1"], "NAME=AXIS, the axis a number, got '=1'"),
        (["--filter-axis", "f1.weight=one"], "got 'f1.weight=one'"),
        (["--filter-axis", "f1.weight=9"], "from -2 to 1, got 9"),
    ],
)
def test_choices_of_tensors_that_mean_nothing_are_2(cli, arguments, options, named):
    result = cli(*arguments(*options))
    assert result.status == 2
    assert named in result.error()


def test_choices_without_effect_besides_a_direction_file_are_said(cli, arguments, here):
    assert cli(*arguments("--save-directions", "d.h5")).status == 0
    options = ["--directions", "d.h5", "--filter-axis", "f1.weight=1", "--include", "b1.bias"]
    result = cli(*arguments(*options, out="t.h5"))
    assert result.status == 0
    assert "--include and --filter-axis have no effect besides --directions" in result.err


def test_a_folder_in_place_of_a_surface_is_named_once(cli, here):
    (here / "runs").mkdir()
    error = cli("plot", "runs").error()
    assert error == "runs: expected an HDF5 file, this is a folder or device"


def test_one_option_without_effect_has_none(cli, arguments):
    result = cli(*arguments("--x", "-1:1:3", "--radius", "2"))
    assert "--radius has no effect besides --x" in result.err
