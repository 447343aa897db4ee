"""Whatever the network: a prepared model computes what the user's model would."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st

from onnxscape.core.direction import Ignore, random_direction
from onnxscape.core.loss import Loss
from onnxscape.core.normalization import Normalization
from onnxscape.core.perturbation import displaced
from onnxscape.graph.model_file import read_model
from onnxscape.graph.prepared import analyse, prepare, rebuilt

steps = st.floats(-2, 2)


@given(
    data=st.data(),
    alpha=steps,
    beta=steps,
    seed=st.integers(0, 2**32 - 1),
    ignore=st.sampled_from(Ignore),
    fold=st.booleans(),
)
def test_the_prepared_model_is_the_rebuilt_one_at_any_point(
    data, alpha, beta, seed, ignore, fold, draw_network, run_model
):
    drawn = draw_network(data)
    file = read_model(drawn.model)
    parameters, warnings = analyse(file)
    assert warnings == ()
    delta, eta = (
        random_direction(parameters, seed=seed, axis=axis, ignore=ignore).tensors
        for axis in (0, 1)
    )
    moved = {
        p.name: displaced(p.values, delta[p.name], eta[p.name], alpha, beta)
        for p in parameters
        if p.name in delta
    }
    loss = Loss(
        name="cross-entropy",
        output="y",
        shape=run_model(drawn.model, drawn.feeds)[0].shape[1:],
        class_axis=1,
    )
    prepared = prepare(file, parameters, moved=set(delta), loss=loss, fold=fold)
    weights = {s.tensor: s.transfer(moved[s.parameter.name]) for s in prepared.slots}
    feeds = drawn.feeds | {"onnxscape::labels": drawn.labels} | weights
    ours, loss = run_model(
        prepared.with_overridable_weights(), feeds, ["y", "onnxscape::loss"]
    )
    truth, plain = (
        run_model(rebuilt(file, moved), drawn.feeds, optimized=optimized)[0]
        for optimized in (True, False)
    )
    # The output may be what is left of a difference: then ONNX Runtime itself is not sure of
    # the user's model, as its two ways to compute it show.
    unsure = np.abs(truth - plain).max()
    atol = 1e-5 * max(1.0, np.abs(truth).max()) + 4 * unsure
    np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=atol)
    shifted = ours.astype(float) - ours.max(axis=1, keepdims=True)
    expected = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    expected -= np.take_along_axis(shifted, drawn.labels, axis=1)
    np.testing.assert_allclose(loss, expected, rtol=1e-9, atol=1e-9)


@given(data=st.data())
def test_every_weight_is_found_and_has_the_norms_it_should(data, draw_network):
    drawn = draw_network(data)
    parameters, _ = analyse(read_model(drawn.model))
    weights = [p for p in parameters if p.role == "weight"]
    layers = [n for n in drawn.network.nodes if "Conv" in n.op_type or "Mat" in n.op_type]
    layers += [n for n in drawn.network.nodes if n.op_type == "Gemm"]
    assert len(weights) == len(layers)
    assert sorted(p.noise_key for p in weights) == list(range(len(layers)))
    direction = random_direction(parameters, seed=0, axis=0)
    for p in weights:
        theta, d = (p.layout.to_filters(t) for t in (p.values, direction.tensors[p.name]))
        np.testing.assert_allclose(
            np.linalg.norm(d, axis=1), np.linalg.norm(theta, axis=1), rtol=1e-5
        )


@given(data=st.data(), normalization=st.sampled_from(Normalization))
def test_the_direction_does_not_depend_on_how_the_file_is_written(
    data, normalization, draw_network
):
    drawn = draw_network(data)
    other = renamed(drawn.model)
    for part in (other.graph.node, other.graph.initializer):
        shuffled = data.draw(st.permutations(list(part)))
        del part[:]
        part.extend(shuffled)
    first, second = (
        random_direction(
            analyse(read_model(model))[0],
            seed=0,
            axis=0,
            normalization=normalization,
            ignore=Ignore.NONE,
        ).tensors
        for model in (drawn.model, other)
    )
    assert {f"other::{name}" for name in first} == set(second)
    assert all((first[name] == second[f"other::{name}"]).all() for name in first)


def renamed(model):
    """Return the model with every tensor and value under another name."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    for part in (*other.graph.initializer, *other.graph.input, *other.graph.output):
        part.name = f"other::{part.name}"
    for node in other.graph.node:
        node.name = ""
        for side in (node.input, node.output):
            side[:] = [f"other::{name}" for name in side]
    return other
