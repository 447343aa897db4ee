"""What moves and why, and what the user says about it."""

from __future__ import annotations

import numpy as np
import pytest

from onnxscape.core.direction import Ignore, noise, random_direction
from onnxscape.core.filters import FilterLayout
from onnxscape.core.parameter import Choice, Parameter, Role
from onnxscape.core.selection import Overrides, Spare, overridden, perturbed
from onnxscape.errors import UsageError

RNG = np.random.default_rng(0)


def parameter(name, role, shape, op="Conv", **options):
    values = np.float32(RNG.standard_normal(shape))
    return Parameter(
        name=name, shape=values.shape, role=role, op=op, nodes=(), values=values, **options
    )


def weight(name, shape, key, axis=0, **options):
    layout = FilterLayout.along(shape, (axis,))
    return parameter(
        name, Role.WEIGHT, shape, layout=layout, noise_key=key, filter_axis=axis, **options
    )


W1 = weight("conv.weight", (4, 3), 0, signs=np.array([1.0, -1.0, 1.0, -1.0]))
W2 = weight("head.weight", (5, 4), 1)
BIAS = parameter("conv.bias", Role.BIAS, (4,))
GAMMA = parameter("bn.weight", Role.NORMALIZATION, (4,), "BatchNormalization")
MEAN = parameter("bn.running_mean", Role.STATISTIC, (4,), "BatchNormalization")
POSITIONS = parameter("pos[0]", Role.CONSTANT, (1, 6, 4), "Add")
SCALE = parameter("scale", Role.CONSTANT, (), "Mul")
MASK = parameter("mask", Role.CONSTANT, (6, 6), "Add", fixed="a mask")
ALL = [W1, BIAS, GAMMA, MEAN, POSITIONS, SCALE, MASK, W2]
SPARE = {"conv.bias": 2, "bn.weight": 3, "pos[0]": 4, "scale": 5, "mask": 6}
BANK = parameter("bank", Role.CONSTANT, (5, 3), "MatMul", fixed="a mel filter bank")


def apply(*, parameters=ALL, **overrides):
    spares = {name: Spare(noise_key=key) for name, key in SPARE.items()}
    found = overridden(parameters, spares, Overrides(**overrides))
    return {p.name: p for p in found}


@pytest.mark.parametrize(
    ("one", "ignore", "moves", "reason"),
    [
        (W1, "biasbn", True, "weight of Conv"),
        (BIAS, "biasbn", False, "bias: --ignore none moves it"),
        (BIAS, "none", True, "bias: moved by --ignore none"),
        (GAMMA, "biasbn", False, "normalization: --ignore none moves it"),
        (MEAN, "none", False, "running statistic: never moved"),
        (
            SCALE,
            "none",
            False,
            "constant of Mul: not known to be trained; --include moves it",
        ),
        (MASK, "none", False, "constant of Add: a mask; --include moves it"),
    ],
)
def test_a_verdict_says_why(one, ignore, moves, reason):
    verdict = perturbed(one, Ignore(ignore))
    assert (verdict.perturbed, verdict.reason) == (moves, reason)


def test_a_verdict_names_the_pattern_that_decided():
    found = apply(include=("pos*",), exclude=("*.weight",))
    assert perturbed(found["pos[0]"], Ignore.BIASBN).reason == "included by --include 'pos*'"
    excluded = perturbed(found["conv.weight"], Ignore.NONE)
    assert (excluded.perturbed, excluded.reason) == (False, "excluded by --exclude '*.weight'")
    assert found["pos[0]"].choice is Choice.INCLUDED
    assert found["head.weight"].choice is Choice.EXCLUDED


@pytest.mark.parametrize("ignore", Ignore)
def test_directions_move_what_verdicts_say(ignore):
    found = tuple(apply(include=("pos*", "conv.bias"), exclude=("head*", "bn.*")).values())
    moved = {p.name for p in found if perturbed(p, ignore).perturbed}
    assert moved == {"conv.weight", "conv.bias", "pos[0]"}
    direction = random_direction(found, seed=0, axis=0, ignore=ignore)
    assert direction.tensors.keys() == moved


def test_nothing_said_changes_nothing():
    assert list(apply().values()) == ALL


def test_excluding_wins_over_including():
    found = apply(include=("pos*", "conv*"), exclude=("pos[0]",))
    assert found["pos[0]"].choice is Choice.EXCLUDED
    assert found["conv.bias"].choice is Choice.INCLUDED


def test_brackets_in_a_name_match_themselves():
    assert apply(include=("pos[0]",))["pos[0]"].choice is Choice.INCLUDED


def test_including_a_weight_changes_nothing():
    assert apply(include=("conv.weight",))["conv.weight"] is W1


@pytest.mark.parametrize(
    ("name", "filters", "elements"), [("pos[0]", 1, 24), ("conv.bias", 1, 4), ("mask", 6, 6)]
)
def test_an_included_tensor_moves_by_noise_with_filters_along_its_first_axis(
    name, filters, elements
):
    found = apply(include=(name,))[name]
    assert (found.layout.filters, found.layout.elements) == (filters, elements)
    assert found.filter_axis == (0 if len(found.shape) > 1 else None)
    d = random_direction([found], seed=7, axis=1).tensors[name]
    drawn = noise(7, 1, SPARE[name], filters, elements)
    w = found.values.reshape(filters, elements).astype(np.float64)
    scale = np.linalg.norm(w, axis=1) / np.linalg.norm(drawn, axis=1)
    np.testing.assert_allclose(
        d.reshape(filters, elements), drawn * scale[:, None], rtol=1e-6, atol=1e-9
    )


def test_an_included_tensor_has_the_filters_of_its_operator_where_that_has_some():
    signs = np.array([1.0, -1.0, 1.0])
    spare = Spare(
        noise_key=2, layout=FilterLayout.along((5, 3), (1,)), filter_axis=1, signs=signs
    )
    (found,) = overridden([BANK], {"bank": spare}, Overrides(include=("bank",)))
    assert (found.filter_axis, found.layout.filters, found.choice) == (1, 3, Choice.INCLUDED)
    d = random_direction([found], seed=7, axis=0).tensors["bank"]
    drawn = noise(7, 0, 2, 3, 5) * signs[:, None]
    lengths = np.linalg.norm(BANK.values.astype(np.float64), axis=0)
    expected = drawn * (lengths / np.linalg.norm(drawn, axis=1))[:, None]
    np.testing.assert_allclose(d.T, expected, rtol=1e-6, atol=1e-9)


def test_an_included_single_number_moves():
    found = apply(include=("scale",))["scale"]
    d = random_direction([found], seed=0, axis=0).tensors["scale"]
    assert abs(d) == pytest.approx(abs(float(found.values)), rel=1e-6)
    assert d.shape == ()


def test_choices_never_change_the_noise_of_other_tensors():
    plain = random_direction(ALL, seed=0, axis=0).tensors
    for overrides in (
        {"include": ("pos*",)},
        {"include": ("*bias", "mask")},
        {"exclude": ("conv.weight",)},
    ):
        found = tuple(apply(**overrides).values())
        moved = random_direction(found, seed=0, axis=0).tensors
        for name in plain.keys() & moved.keys():
            np.testing.assert_array_equal(moved[name], plain[name])


@pytest.mark.parametrize("pattern", ["bn.running*", "bn.running_mean"])
def test_asking_for_statistics_alone_is_refused(pattern):
    with pytest.raises(UsageError, match=r"a running statistic.*variance becomes negative"):
        apply(include=(pattern,))


def test_a_pattern_that_touches_statistics_leaves_them():
    found = apply(include=("bn.*",))
    assert found["bn.weight"].choice is Choice.INCLUDED
    assert found["bn.running_mean"] is MEAN


@pytest.mark.parametrize(
    "overrides",
    [
        {"include": ("head.wieght",)},
        {"exclude": ("head.wieght",)},
        {"filter_axis": {"head.wieght": 0}},
    ],
)
def test_what_matches_nothing_is_refused_with_near_names(overrides):
    (option,) = overrides
    with pytest.raises(UsageError) as error:
        apply(**overrides)
    text = str(error.value)
    assert text.startswith(
        f"--{option.replace('_', '-')} 'head.wieght' matches no float tensor"
    )
    assert "near it are 'head.weight'" in text


def test_a_pattern_on_a_model_without_tensors_is_refused():
    with pytest.raises(UsageError, match=r"near it are none \(0 in all\)"):
        apply(parameters=[], include=("w",))


@pytest.mark.parametrize("axis", [1, -1])
def test_another_filter_axis_changes_the_filters_and_drops_the_signs(axis):
    found = apply(filter_axis={"conv.weight": axis})["conv.weight"]
    assert (found.filter_axis, found.layout.filters, found.signs) == (1, 3, None)
    d = random_direction([found], seed=0, axis=0).tensors["conv.weight"]
    np.testing.assert_allclose(
        np.linalg.norm(d, axis=0), np.linalg.norm(W1.values, axis=0), rtol=1e-6
    )


@pytest.mark.parametrize("axis", [0, -2])
def test_the_same_filter_axis_changes_nothing(axis):
    assert apply(filter_axis={"conv.weight": axis})["conv.weight"] is W1


def test_an_included_tensor_can_have_another_filter_axis():
    found = apply(include=("pos*",), filter_axis={"pos[0]": 1})["pos[0]"]
    assert (found.filter_axis, found.layout.filters) == (1, 6)


@pytest.mark.parametrize(
    ("name", "axis", "message"),
    [
        ("conv.weight", 2, "from -2 to 1, got 2: its shape is"),
        ("conv.weight", -3, "from -2 to 1, got -3"),
        ("conv.bias", 0, "a bias of Conv, which has no filters; add --include 'conv.bias'"),
        ("bn.running_mean", 0, "a statistic of BatchNormalization, which has no filters$"),
    ],
)
def test_an_axis_that_cannot_be_is_refused(name, axis, message):
    with pytest.raises(UsageError, match=message):
        apply(filter_axis={name: axis})
