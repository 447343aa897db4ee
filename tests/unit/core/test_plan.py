from __future__ import annotations

import dataclasses
import json

import pytest

from onnxscape.core.plan import Plan
from onnxscape.errors import SurfaceFileError

PLAN = Plan(
    provider="CPUExecutionProvider",
    strategy="constant",
    batch=128,
    folded=True,
    runtime="1.32.0",
    machine="x86_64",
)

OTHERS = {
    "provider": "CUDAExecutionProvider",
    "strategy": "overriding",
    "batch": 64,
    "folded": False,
    "reduction": "pairwise",
    "runtime": "1.33.0",
    "machine": "arm64",
}


def test_these_tests_know_every_field():
    assert set(OTHERS) == {field.name for field in dataclasses.fields(Plan)}


def test_a_plan_survives_json():
    assert Plan.from_dict(json.loads(PLAN.to_json())) == PLAN


@pytest.mark.parametrize("field", OTHERS)
def test_a_difference_is_named_with_both_values(field):
    other = dataclasses.replace(PLAN, **{field: OTHERS[field]})
    mine = getattr(PLAN, field)
    assert PLAN.differences(other) == [f"{field} ({mine}, not {OTHERS[field]})"]
    assert other.to_json() != PLAN.to_json()


def test_equal_plans_do_not_differ():
    assert PLAN.differences(dataclasses.replace(PLAN)) == []


@pytest.mark.parametrize("values", [{}, {"wobble": 1}, PLAN.to_dict() | {"wobble": 1}, [1]])
def test_what_is_no_plan_is_an_error_that_says_what_to_do(values):
    with pytest.raises(SurfaceFileError, match=r"not one this version can read.*--restart"):
        Plan.from_dict(values)
