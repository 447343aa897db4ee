from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from onnxscape.errors import SurfaceFileError
from onnxscape.storage.recorded import (
    plan_from_json,
    provenance_from_json,
    provenance_to_json,
    spec_from_json,
)

if TYPE_CHECKING:
    from onnxscape.core.plan import Plan
    from onnxscape.core.spec import EvalSpec

FILE = Path("run.h5")


def test_spec_and_plan_come_back_equal(spec: EvalSpec, plan: Plan) -> None:
    assert spec_from_json(spec.to_json(), FILE) == spec
    assert plan_from_json(plan.to_json(), FILE) == plan


def test_nothing_stored_is_none_or_empty() -> None:
    assert spec_from_json(None, FILE) is None
    assert plan_from_json(None, FILE) is None
    assert provenance_from_json(None, FILE) == {}


def test_provenance_keeps_plain_values_and_names_others() -> None:
    text = provenance_to_json({"threads": 2, "path": Path("a"), "nested": {"x": [1.5, None]}})
    assert provenance_from_json(text, FILE) == {
        "threads": 2,
        "path": "a",
        "nested": {"x": [1.5, None]},
    }


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000, "NaN"])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    for read in (spec_from_json, plan_from_json, provenance_from_json):
        with pytest.raises(SurfaceFileError, match=r"^run\.h5: the stored \w+") as caught:
            read(text, FILE)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"x": 3},
        {"x": [0.0, 1.0]},
        {"x": ["a", "b", "c"]},
        {"x": [0.0, 1.0, float("inf")]},
        {"x": [float("nan"), 1.0, 5]},
        {"x": [0.0, 1.0, 10**30]},
        {"metrics": 3},
        {"preprocessing": 3},
        {"preprocessing": [1]},
        {"unknown": 1},
    ],
)
def test_a_spec_with_a_strange_field_is_refused(
    spec: EvalSpec, change: dict[str, object]
) -> None:
    text = json.dumps({**spec.to_dict(), **change})
    with pytest.raises(SurfaceFileError, match=r"^run\.h5: .*--restart"):
        spec_from_json(text, FILE)


def test_a_spec_with_a_missing_field_is_refused(spec: EvalSpec) -> None:
    values = spec.to_dict()
    del values["x"]
    with pytest.raises(SurfaceFileError, match=r"'x'.*--restart"):
        spec_from_json(json.dumps(values), FILE)


def test_a_plan_with_an_unknown_field_is_refused(plan: Plan) -> None:
    text = json.dumps({**plan.to_dict(), "warp": 9})
    with pytest.raises(SurfaceFileError, match=r"warp.*--restart"):
        plan_from_json(text, FILE)
