"""Specs become orders with the meaning that `onnxscape eval` gives its options."""

from __future__ import annotations

import dataclasses

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxscape.core.grid import Axis
from onnxscape.evaluation.request import EvalRequest
from onnxscape.jobs.job_inputs import checked_options
from onnxscape.jobs.order import DataRef
from onnxscape.service.orders.messages import (
    DEFAULTS,
    blobs_of,
    execution_of,
    order_of,
    spec_of,
)
from onnxscape.v1 import blobs_pb2, jobs_pb2
from onnxscape_cli import eval as eval_command

PLACES = {
    "model": "spec.model",
    "data": "spec.data",
    "grid": "spec.grid",
    "seed": "spec.directions.seed",
    "normalization": "spec.directions.normalization",
    "ignore": "spec.directions.ignore",
    "orthogonal": "spec.directions.orthogonal",
    "directions": "spec.directions.file",
    "include": "spec.directions.include",
    "exclude": "spec.directions.exclude",
    "filter_axis": "spec.directions.filter_axis",
    "loss": "spec.loss.name",
    "metrics": "spec.loss.metrics",
    "output": "spec.loss.output",
    "class_axis": "spec.loss.class_axis",
    "ignore_index": "spec.loss.ignore_index",
    "label_smoothing": "spec.loss.label_smoothing",
    "huber_delta": "spec.loss.huber_delta",
    "graphs": "spec.loss.graphs",
    "split": "spec.split",
    "samples": "spec.samples",
    "layout": "spec.input_format.layout",
    "mean": "spec.input_format.mean",
    "std": "spec.input_format.std",
    "scale": "spec.input_format.scale",
    "precision": "spec.precision",
    "weights": "spec.weights",
    "adaptive": "spec.savings.adaptive",
    "tolerance": "spec.savings.tolerance",
    "stderr": "spec.savings.stderr",
    "two_level": "spec.savings.two_level",
    "device": "execution.device",
    "strategy": "execution.strategy",
    "batch_size": "execution.batch_size",
}
"""Field of a request to where it is in an order."""

THE_SERVERS = {
    "name": "the model's, in the catalog",
    "data_dir": "the server's own",
    "provider": "a device of the server's is chosen by its kind",
    "threads": "of the server's workers",
    "workers": "of the server's slots",
}
"""Fields that no order has, and why."""

NOT_OPTIONS = {"model", "data", "grid", "directions", "weights", "graphs", "device",
               "strategy", "batch_size"}  # fmt: skip

MODEL = {"model": "a" * 64, "model_name": "net", "data": DataRef(name="digits")}
NO_EXECUTION = jobs_pb2.Execution()


def order(spec: jobs_pb2.JobSpec, execution: jobs_pb2.Execution = NO_EXECUTION):
    return order_of(spec, execution, **MODEL)


def test_every_field_of_a_request_has_its_place_in_an_order_or_a_reason_to_have_none():
    fields = {f.name for f in dataclasses.fields(EvalRequest)}
    assert set(PLACES) | set(THE_SERVERS) == fields
    assert not set(PLACES) & set(THE_SERVERS)


@pytest.mark.parametrize("place", PLACES.values())
def test_every_place_is_there(place):
    descriptor = jobs_pb2.CreateJobRequest.DESCRIPTOR
    for name in place.split("."):
        field = descriptor.fields_by_name[name]
        descriptor = field.message_type


def test_every_field_of_a_spec_has_a_request_that_it_is_for():
    parts = ("grid", "samples")  # are one field of a request
    found = set()

    def walk(descriptor, path):
        for field in descriptor.fields:
            here = f"{path}.{field.name}"
            inner = field.message_type
            if (
                inner is None
                or field.name in parts
                or inner.name == "Digest"
                or inner.GetOptions().map_entry
            ):
                found.add(here)
            else:
                walk(inner, here)

    walk(jobs_pb2.JobSpec.DESCRIPTOR, "spec")
    walk(jobs_pb2.Execution.DESCRIPTOR, "execution")
    assert found - set(PLACES.values()) == {"spec.loss.no_metrics"}


def test_the_options_of_an_order_are_those_of_a_request_with_their_defaults():
    defaults = {f.name: f.default for f in dataclasses.fields(EvalRequest)}
    assert set(DEFAULTS) == set(PLACES) - NOT_OPTIONS
    for name, value in DEFAULTS.items():
        of_request = defaults[name]
        if name == "filter_axis":
            of_request = {}
        assert (tuple(value) if isinstance(value, list) else value) == of_request, name


def test_an_empty_spec_asks_for_what_the_command_line_does_without_options(monkeypatch):
    seen = []

    def remember(request, _output, _observer):
        seen.append(request)
        raise KeyboardInterrupt

    monkeypatch.setattr(eval_command, "run_to_file", remember)
    CliRunner().invoke(eval_command.command, ["net.onnx", "--data", "digits"])
    (local,) = seen
    remote = order(jobs_pb2.JobSpec())
    request = EvalRequest(
        model=local.model, data=local.data, name=local.name, device=remote.device,
        strategy=remote.strategy, batch_size=remote.batch_size, **checked_options(remote),
    )  # fmt: skip
    for field in dataclasses.fields(EvalRequest):
        assert getattr(request, field.name) == getattr(local, field.name), field.name


def test_defaults_that_are_written_out_make_the_same_order():
    axis = jobs_pb2.Axis(start=-1, stop=1, num=25)
    written = jobs_pb2.JobSpec(
        split="train",
        grid=jobs_pb2.Grid(x=axis, y=axis),
        directions=jobs_pb2.Directions(normalization="filter", ignore="biasbn"),
        loss=jobs_pb2.Loss(huber_delta=1.0),
        input_format=jobs_pb2.InputFormat(),
        precision="fp32",
        savings=jobs_pb2.Savings(),
    )
    execution = jobs_pb2.Execution(device="auto")
    assert order(written, execution) == order(jobs_pb2.JobSpec())
    assert order(written, execution).digest() == order(jobs_pb2.JobSpec()).digest()


def test_a_grid_of_one_axis_is_a_line():
    line = jobs_pb2.JobSpec(grid=jobs_pb2.Grid(y=jobs_pb2.Axis(start=-2, stop=3, num=7)))
    grid = checked_options(order(line))["grid"]
    assert (grid.x, grid.y) == (None, Axis(-2, 3, 7))


def test_a_class_axis_and_an_ignored_label_of_zero_are_no_defaults():
    made = order(jobs_pb2.JobSpec(loss=jobs_pb2.Loss(class_axis=0, ignore_index=0)))
    assert (made.options["class_axis"], made.options["ignore_index"]) == (0, 0)


def test_no_metrics_is_another_wish_than_none_named():
    assert (
        order(jobs_pb2.JobSpec(loss=jobs_pb2.Loss(no_metrics=True))).options["metrics"] == []
    )
    assert "metrics" not in order(jobs_pb2.JobSpec()).options


def test_a_scale_means_its_number_however_it_is_written():
    texts = ("255", "255.0", "2.55e2")
    scales = [order(jobs_pb2.JobSpec(input_format={"scale": text})) for text in texts]
    assert {made.options["scale"] for made in scales} == {255.0}
    assert len({made.digest() for made in scales}) == 1


texts = st.text(min_size=1, max_size=8)
shas = st.text("0123456789abcdef", min_size=64, max_size=64)
digests = st.builds(blobs_pb2.Digest, sha256=shas, size=st.just(7))
positive = st.floats(1e-300, 1e300)
finite = st.floats(-1e300, 1e300)


@st.composite
def specs(draw: st.DrawFn) -> jobs_pb2.JobSpec:
    """Any spec that `refuse_violations` lets pass, and more."""
    graphs = draw(st.dictionaries(st.just("own.onnx"), digests))
    spec = jobs_pb2.JobSpec(
        model="models/m",
        data="dataSets/d",
        split=draw(st.sampled_from(["train", "test"])),
        precision=draw(st.sampled_from(["fp32", "bf16"])),
        directions=jobs_pb2.Directions(
            seed=draw(st.integers(0, 2**32 - 1)),
            normalization=draw(st.sampled_from(["filter", "none"])),
            ignore=draw(st.sampled_from(["biasbn", "none"])),
            orthogonal=draw(st.booleans()),
            include=draw(st.lists(texts, max_size=3)),
            exclude=draw(st.lists(texts, max_size=3)),
            filter_axis=draw(st.dictionaries(texts, st.integers(-4, 4), max_size=2)),
            file=draw(st.none() | digests),
        ),
        loss=jobs_pb2.Loss(
            name=draw(st.sampled_from(["", "mse", *graphs])),
            metrics=draw(st.lists(st.sampled_from(["error", *graphs]), max_size=2)),
            output=draw(st.just("") | texts),
            class_axis=draw(st.none() | st.integers(-3, 3)),
            ignore_index=draw(st.none() | st.integers(-(2**63), 2**63 - 1)),
            label_smoothing=draw(st.floats(0, 1)),
            huber_delta=draw(positive),
            graphs=graphs,
        ),
        weights=draw(st.none() | digests),
        savings=jobs_pb2.Savings(
            adaptive=draw(st.booleans()),
            tolerance=draw(st.none() | positive),
            stderr=draw(st.none() | positive),
            two_level=draw(st.none() | st.integers(1, 2**40)),
        ),
    )
    spec.loss.no_metrics = not spec.loss.metrics and draw(st.booleans())
    for name in draw(st.sampled_from(["x", "y", "xy"])):
        start, stop = sorted(draw(st.lists(finite, min_size=2, max_size=2, unique=True)))
        axis = jobs_pb2.Axis(start=start, stop=stop, num=draw(st.integers(2, 9)))
        getattr(spec.grid, name).CopyFrom(axis)
    match draw(st.sampled_from(["", "count", "all", "auto"])):
        case "count":
            spec.samples.count = draw(st.integers(1, 2**40))
        case "":
            pass
        case choice:
            setattr(spec.samples, choice, True)
    given_format = jobs_pb2.InputFormat(
        layout=draw(st.sampled_from(["", "NCHW", "flat"])),
        mean=draw(st.lists(finite, max_size=3)),
        std=draw(st.lists(positive, max_size=3)),
        scale=draw(st.sampled_from(["", "raw", "unit"]) | positive.map(repr)),
    )
    if given_format.ByteSize():
        spec.input_format.CopyFrom(given_format)
    return spec


@settings(max_examples=40)
@given(
    specs(),
    st.builds(
        jobs_pb2.Execution,
        device=st.sampled_from(["auto", "cpu", "cuda"]),
        strategy=st.sampled_from(["", "constant"]),
        batch_size=st.integers(0, 2**31 - 1),
    ),
)
def test_an_order_tells_its_spec_to_the_last_bit(spec, execution):
    made = order(spec, execution)
    told = spec_of(made, model_id="m", data_id="d", size=lambda _: 7)
    assert told == spec
    assert execution_of(made) == execution
    assert order(told, execution_of(made)) == made
    assert made.blobs - {made.model} == {digest.sha256 for digest in blobs_of(spec)}


@settings(max_examples=20)
@given(specs())
def test_an_order_survives_as_text(spec):
    made = order(spec)
    again = type(made).from_json(made.to_json())
    assert again == made
    assert checked_options(again).keys() == {*made.options, "grid"} - {"x", "y"}
