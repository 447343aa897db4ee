"""Specs are remembered, but neither long ones nor without end."""

from __future__ import annotations

from onnxscape.service.jobs import known_specs
from onnxscape.service.jobs.known_specs import KnownSpecs
from onnxscape.v1.jobs_pb2 import JobSpec


def test_a_spec_is_remembered_unless_it_is_long():
    known, short = KnownSpecs(), JobSpec(model="models/m")
    known.add("a", short)
    known.add("b", JobSpec(model="m" * known_specs._LONGEST))
    assert known.get("a") is short
    assert known.get("b") is None


def test_what_was_not_asked_for_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(known_specs, "_MOST", 2)
    known = KnownSpecs()
    for job_id in ("a", "b"):
        known.add(job_id, JobSpec(model=job_id))
    assert known.get("a").model == "a"
    known.add("c", JobSpec(model="c"))
    assert [job_id for job_id in "abc" if known.get(job_id) is not None] == ["a", "c"]
