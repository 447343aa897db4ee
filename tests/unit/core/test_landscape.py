from __future__ import annotations

import numpy as np
import pytest

from onnxscape.core.grid import Axis, Grid
from onnxscape.core.landscape import Landscape


@pytest.fixture
def landscape():
    grid = Grid(Axis(-1.0, 1.0, 3), Axis(0.0, 1.0, 2))
    return Landscape(
        grid=grid,
        surfaces={"loss": np.arange(6.0).reshape(grid.shape)},
        evaluated=np.ones(grid.shape, dtype=bool),
        center={"loss": 1.0},
        provenance={"model": "net", "data": "digits train"},
    )


def test_it_is_complete_when_every_point_was_evaluated(landscape):
    assert landscape.complete
    landscape.evaluated[1, 2] = False
    assert not landscape.complete


def test_surfaces_go_by_their_names(landscape):
    assert landscape.loss[1, 2] == 5.0
    assert landscape.accuracy is None
    assert landscape.loss_stderr is None
    assert landscape.alphas.tolist() == [-1.0, 0.0, 1.0]
    assert landscape.betas.tolist() == [0.0, 1.0]


def test_it_says_what_it_is(landscape):
    text = "Landscape(net on digits train, 3x2 points, center loss 1)"
    assert repr(landscape) == text


def test_one_without_provenance_or_center_can_be_shown():
    grid = Grid(Axis(-1.0, 1.0, 2), None)
    bare = Landscape(
        grid=grid,
        surfaces={"loss": np.full(2, np.nan)},
        evaluated=np.zeros(2, dtype=bool),
        center={},
    )
    assert repr(bare) == "Landscape(? on ?, 2 points, center loss nan)"
