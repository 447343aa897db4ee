from __future__ import annotations

import itertools

import numpy as np
import pytest

import onnxscape.core.direction
from onnxscape.core.direction import (
    MAX_SEED,
    Direction,
    Ignore,
    noise,
    random_direction,
)
from onnxscape.core.filters import FilterLayout
from onnxscape.core.normalization import Normalization
from onnxscape.core.parameter import Parameter, Role
from onnxscape.errors import NoParametersError, UsageError


def weight(name, values, key, *, axis=0, signs=None):
    return Parameter(
        name=name,
        shape=values.shape,
        role=Role.WEIGHT,
        op="Conv",
        nodes=(),
        values=values,
        filter_axis=axis,
        layout=FilterLayout.along(values.shape, (axis,)),
        noise_key=key,
        signs=signs,
    )


def other(name, values, role):
    return Parameter(
        name=name, shape=values.shape, role=role, op="Any", nodes=(), values=values
    )


@pytest.fixture
def parameters():
    """Weights of several shapes and filter axes, and one tensor of every other role."""
    rng = np.random.default_rng(0)

    def values(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    return [
        weight("conv", values(6, 3, 3, 3), 0),
        weight("transposed", 100 * values(4, 5, 2), 1, axis=1),
        weight("dense", values(7, 9) / 100, 2, axis=-1),
        *(other(role.value, values(4), role) for role in Role if role is not Role.WEIGHT),
    ]


# The first four values, by numpy's Philox with the key written out: for (1, 0, 0, 0)
# SeedSequence((1, 0, 0, 0)).generate_state(2, numpy.uint64) is
# (0x672d8ee56d6791ff, 0x8ae19ca14eb1072c), and so on.
GOLDEN = {
    (0, 0, 0): (
        (0x672D8EE56D6791FF, 0x8AE19CA14EB1072C),
        [0.561455211185646, -0.9619375618162148, 0.025380113609183755, -0.49255514069541123],
    ),
    (7, 1, 3): (
        (0xED8666D233F5D676, 0xE1C51B6B628E204E),
        [0.18898403402184277, 1.2250767434230407, -0.6310073052490174, -0.5810839635192871],
    ),
    (MAX_SEED, 0, 41): (
        (0x4D52C91856379D29, 0x176DAB15C0F5D10F),
        [-0.9572352027289444, 0.37203333307929604, 0.9786638170647216, -0.26695716621726095],
    ),
}


@pytest.mark.parametrize("stream", GOLDEN)
def test_the_noise_never_changes(stream):
    _, expected = GOLDEN[stream]
    assert noise(*stream, 2, 2).ravel().tolist() == expected


@pytest.mark.parametrize("stream", GOLDEN)
def test_the_noise_is_that_of_the_documented_generator(stream):
    key, _ = GOLDEN[stream]
    plain = np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64)))
    assert (noise(*stream, 5, 8).ravel() == plain.standard_normal(40)).all()


def test_the_noise_is_drawn_filter_by_filter():
    # One filter more leaves those before it as they were.
    assert (noise(0, 0, 0, 3, 5) == noise(0, 0, 0, 4, 5)[:3]).all()


def test_seeds_axes_and_keys_have_streams_of_their_own():
    draws = [
        noise(seed, axis, key, 100, 100).ravel()
        for seed, axis, key in itertools.product((0, 1, MAX_SEED), (0, 1), (0, 1))
    ]
    for a, b in itertools.combinations(draws, 2):
        # 10 000 independent products have a mean of 0 +- 0.01.
        assert abs(np.mean(a * b)) < 0.05


def test_the_noise_is_standard_normal():
    draw = noise(3, 0, 0, 200, 200)
    assert draw.mean() == pytest.approx(0.0, abs=0.025)
    assert draw.std() == pytest.approx(1.0, abs=0.02)
    assert np.mean(np.abs(draw) < 1) == pytest.approx(0.6827, abs=0.012)


def test_the_same_seed_gives_the_same_direction_to_the_bit(parameters):
    first, second = (random_direction(parameters, seed=5, axis=0) for _ in range(2))
    assert first.digest() == second.digest()
    assert all((first.tensors[n] == second.tensors[n]).all() for n in first.tensors)


def test_another_seed_or_axis_gives_another_direction(parameters):
    choices = [(5, 0), (5, 1), (6, 0), (MAX_SEED, 0)]
    drawn = [random_direction(parameters, seed=s, axis=a) for s, a in choices]
    assert len({d.digest() for d in drawn}) == len(choices)
    for a, b in itertools.combinations(drawn, 2):
        assert abs(a.dot(b)) < 0.5 * a.norm() * b.norm()


def test_the_order_of_parameters_means_nothing(parameters):
    drawn = [random_direction(p, seed=5, axis=0) for p in (parameters, parameters[::-1])]
    assert drawn[0].digest() == drawn[1].digest()


def test_a_tensor_is_its_noise_in_its_own_layout(parameters):
    drawn = random_direction(parameters, seed=5, axis=1, normalization=Normalization.NONE)
    expected = noise(5, 1, 1, 5, 8).reshape(5, 4, 2).transpose(1, 0, 2)
    assert (drawn.tensors["transposed"] == expected.astype(np.float32)).all()


def test_a_filter_has_the_norm_of_the_weights_filter(parameters):
    drawn = random_direction(parameters, seed=0, axis=0)
    for parameter in parameters[:3]:
        rows = parameter.layout.to_filters(drawn.tensors[parameter.name])
        expected = np.linalg.norm(parameter.layout.to_filters(parameter.values), axis=1)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), expected, rtol=1e-6)


def test_by_default_only_weights_move(parameters):
    assert set(random_direction(parameters, seed=0, axis=0).tensors) == {
        "conv",
        "transposed",
        "dense",
    }


@pytest.mark.parametrize("normalization", Normalization)
def test_with_ignore_none_biases_and_normalizations_are_scaled_with_the_weights(
    normalization, parameters
):
    drawn = random_direction(
        parameters, seed=0, axis=0, normalization=normalization, ignore=Ignore.NONE
    )
    values = {p.name: p.values for p in parameters}
    assert (drawn.tensors["bias"] == values["bias"]).all()
    assert (drawn.tensors["normalization"] == values["normalization"]).all()
    assert not {"statistic", "constant"} & set(drawn.tensors)


@pytest.mark.parametrize("normalization", Normalization)
def test_what_is_ignored_does_not_change_the_weights_direction(normalization, parameters):
    every, some = (
        random_direction(parameters, seed=0, axis=0, normalization=normalization, ignore=i)
        for i in (Ignore.NONE, Ignore.BIASBN)
    )
    assert all((every.tensors[name] == some.tensors[name]).all() for name in some.tensors)


@pytest.fixture(scope="module")
def published(reference):
    with np.load(reference / "normalizations.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("ignore", Ignore)
@pytest.mark.parametrize("normalization", ["filter", "layer", "weight", "dfilter", "dlayer"])
def test_directions_are_those_of_the_reference_implementation(
    normalization, ignore, published, weights_of, reference, monkeypatch
):
    # Given its noise instead of ours, everything else must agree.
    names = [name.removeprefix("raw/") for name in published if name.startswith("raw/")]
    weights = weights_of(reference / "model.onnx")
    theta = {name: weights[name].astype(np.float32) for name in names}
    keys = [name for name in names if theta[name].ndim > 1]
    given = [
        weight(name, theta[name], keys.index(name))
        if name in keys
        else other(name, theta[name], Role.BIAS)
        for name in names
    ]
    monkeypatch.setattr(
        onnxscape.core.direction,
        "noise",
        lambda _seed, _axis, key, *shape: published[f"raw/{keys[key]}"].reshape(shape),
    )
    drawn = random_direction(
        given, seed=0, axis=0, normalization=Normalization(normalization), ignore=ignore
    )
    suffix = "_biasbn" if ignore is Ignore.BIASBN else ""
    for name in names:
        expected = published[f"{normalization}{suffix}/{name}"]
        ours = drawn.tensors.get(name, np.zeros_like(expected))
        np.testing.assert_allclose(
            ours, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max()
        )


@pytest.mark.parametrize("normalization", Normalization)
def test_orthogonal_directions_are_orthogonal(normalization, parameters):
    delta = random_direction(parameters, seed=0, axis=0, normalization=normalization)
    plain = random_direction(parameters, seed=0, axis=1, normalization=normalization)
    eta = random_direction(
        parameters, seed=0, axis=1, normalization=normalization, orthogonal_to=delta
    )
    assert abs(delta.dot(plain)) > 1e-4 * delta.norm() * plain.norm()
    assert abs(delta.dot(eta)) < 1e-7 * delta.norm() * eta.norm()


@pytest.mark.parametrize("normalization", ["filter", "dfilter"])
def test_orthogonal_filters_keep_their_norms_and_are_each_orthogonal(
    normalization, parameters
):
    delta, plain, eta = directions(parameters, normalization)
    for p in parameters[:3]:
        d, before, after = (
            p.layout.to_filters(x.tensors[p.name]) for x in (delta, plain, eta)
        )
        norms = np.linalg.norm(before, axis=1)
        np.testing.assert_allclose(np.linalg.norm(after, axis=1), norms, rtol=1e-6)
        dots = np.sum(d.astype(np.float64) * after, axis=1)
        assert (np.abs(dots) < 1e-6 * norms * np.linalg.norm(d, axis=1)).all()


@pytest.mark.parametrize("normalization", ["layer", "dlayer"])
def test_orthogonal_tensors_keep_their_norms_and_are_each_orthogonal(
    normalization, parameters
):
    delta, plain, eta = directions(parameters, normalization)
    for name in plain.tensors:
        d, before, after = (x.tensors[name].astype(np.float64) for x in (delta, plain, eta))
        assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), rel=1e-6)
        assert abs(np.vdot(d, after)) < 1e-6 * np.linalg.norm(d) * np.linalg.norm(after)


@pytest.mark.parametrize("normalization", ["weight", "none"])
def test_an_orthogonal_direction_keeps_its_norm(normalization, parameters):
    _, plain, eta = directions(parameters, normalization)
    assert eta.norm() == pytest.approx(plain.norm(), rel=1e-6)


def directions(parameters, normalization):
    """Return delta, eta as drawn, and eta made orthogonal."""
    chosen = Normalization(normalization)
    delta = random_direction(parameters, seed=0, axis=0, normalization=chosen)
    return (
        delta,
        random_direction(parameters, seed=0, axis=1, normalization=chosen),
        random_direction(
            parameters, seed=0, axis=1, normalization=chosen, orthogonal_to=delta
        ),
    )


def test_filters_of_one_element_cannot_turn_and_are_kept():
    given = [weight("single", np.float32([[2.0], [3.0]]), 0)]
    _, plain, eta = directions(given, "filter")
    assert (eta.tensors["single"] == plain.tensors["single"]).all()
    np.testing.assert_allclose(np.abs(eta.tensors["single"]), [[2.0], [3.0]], rtol=1e-6)


def test_a_filter_of_zeros_leaves_orthogonal_ones_finite():
    values = np.float32([[1.0, 2.0], [0.0, 0.0]])
    _, _, eta = directions([weight("w", values, 0)], "filter")
    assert eta.tensors["w"][1].tolist() == [0.0, 0.0]
    assert np.isfinite(eta.tensors["w"]).all()


def test_signs_turn_filters_under_filter_normalization(parameters):
    conv = parameters[0]
    signs = np.array([1.0, -1.0, 1.0, 1.0, -1.0, -1.0])
    plain, turned = (
        random_direction([weight("conv", conv.values, 0, signs=s)], seed=0, axis=0)
        for s in (None, signs)
    )
    expected = plain.tensors["conv"] * signs.astype(np.float32)[:, None, None, None]
    assert (turned.tensors["conv"] == expected).all()


@pytest.mark.parametrize("normalization", [n for n in Normalization if n != "filter"])
def test_signs_mean_nothing_under_other_normalizations(normalization, parameters):
    conv = parameters[0]
    plain, turned = (
        random_direction(
            [weight("conv", conv.values, 0, signs=s)],
            seed=0,
            axis=0,
            normalization=normalization,
        )
        for s in (None, -np.ones(6))
    )
    assert (turned.tensors["conv"] == plain.tensors["conv"]).all()


def test_a_direction_has_the_precision_of_its_weights():
    values = np.arange(1.0, 7.0).reshape(2, 3)
    given = [weight("double", values, 0), weight("single", values.astype(np.float32), 1)]
    drawn = random_direction(given, seed=0, axis=0)
    assert drawn.tensors["double"].dtype == np.float64
    assert drawn.tensors["single"].dtype == np.float32


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 10**30])
def test_a_seed_out_of_range_is_refused(seed, parameters):
    with pytest.raises(UsageError, match=f"seed from 0 to 4294967295, got {seed}"):
        random_direction(parameters, seed=seed, axis=0)


@pytest.mark.parametrize("ignore", Ignore)
def test_a_model_without_weights_has_no_direction(ignore):
    given = [other("mean", np.ones(3, np.float32), Role.STATISTIC)]
    with pytest.raises(NoParametersError, match="no weights to move"):
        random_direction(given, seed=0, axis=0, ignore=ignore)


def test_norm_and_dot_are_those_of_one_long_vector():
    a = Direction({"x": np.array([[3.0, 0.0]]), "y": np.array([4.0])})
    b = Direction({"y": np.array([2.0]), "z": np.array([100.0])})
    assert a.norm() == 5.0
    assert a.dot(b) == b.dot(a) == 8.0


def test_norms_of_float32_directions_do_not_overflow():
    assert Direction({"x": np.full(4, 1e30, np.float32)}).norm() == pytest.approx(2e30)


@pytest.mark.parametrize(
    "tensors",
    [
        {"y": np.float32([1, 2])},
        {"x": np.float32([1, 3])},
        {"x": np.float32([[1, 2]])},
        {"x": np.float64([1, 2])},
        {"x": np.float32([1, 2]), "y": np.float32([])},
    ],
)
def test_the_digest_tells_directions_apart(tensors):
    direction = Direction({"x": np.float32([1, 2])})
    assert direction.digest() == Direction({"x": np.float32([1, 2])}).digest()
    assert direction.digest() != Direction(tensors).digest()


def test_the_digest_does_not_see_the_order_of_names_or_memory():
    x = np.arange(6.0).reshape(2, 3)
    first = Direction({"x": x, "y": x})
    second = Direction({"y": np.asfortranarray(x), "x": x})
    assert first.digest() == second.digest()
