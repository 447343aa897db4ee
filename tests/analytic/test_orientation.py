"""Which axis is which: a landscape whose two directions act on different things.

For inputs (1, 0) and (0, 1), targets 0 and a diagonal weight (1, 3) the loss is
((1 + alpha)^2 + (3 + beta)^2) / 4 when delta moves the first number and eta the second.
"""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import onnxscape as ox

# The steps are not meant to look like the weights.
pytestmark = pytest.mark.filterwarnings("ignore:.*norms unlike the weights")

DATA = (np.eye(2, dtype=np.float32), np.zeros((2, 2), dtype=np.float32))


@pytest.fixture
def evaluate(dense_model, tmp_path):
    """Evaluates it along the two directions, on axes of different lengths and ranges."""
    path = tmp_path / "directions.h5"
    with h5py.File(path, "w") as file:
        for group, place in (("xdirection", 0), ("ydirection", 1)):
            step = np.zeros((2, 2))
            step[place, place] = 1.0
            file[f"{group}/0"] = step
            file[f"{group}/0"].attrs["name"] = "weight"
    model = dense_model(np.diag([1.0, 3.0]), np.zeros(2))

    def call(**options):
        return ox.evaluate(model, DATA, loss="mse", samples="all", directions=path, **options)

    return call


def expected(alpha, beta):
    return ((1 + alpha) ** 2 + (3 + beta) ** 2) / 4


def test_rows_are_beta_and_columns_are_alpha(evaluate, tmp_path):
    out = tmp_path / "s.h5"
    landscape = evaluate(x="0:1.5:4", y="-2:2:3", out=out)
    assert landscape.alphas.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert landscape.betas.tolist() == [-2.0, 0.0, 2.0]
    for row, beta in enumerate((-2.0, 0.0, 2.0)):
        for column, alpha in enumerate((0.0, 0.5, 1.0, 1.5)):
            assert landscape.loss[row, column] == pytest.approx(expected(alpha, beta))
    with h5py.File(out) as file:
        a, b = np.meshgrid(file["xcoordinates"][:], file["ycoordinates"][:])
        np.testing.assert_allclose(file["loss"][:], expected(a, b), rtol=1e-6)
        assert file["loss"].shape == file["evaluated"].shape == (3, 4)


def test_x_alone_is_a_line_along_delta(evaluate, tmp_path):
    out = tmp_path / "s.h5"
    landscape = evaluate(x="0:1.5:4", out=out)
    np.testing.assert_allclose(landscape.loss, expected(landscape.alphas, 0), rtol=1e-6)
    with h5py.File(out) as file:
        assert "xcoordinates" in file
        assert "ycoordinates" not in file


def test_y_alone_is_a_line_along_eta(evaluate, tmp_path):
    out = tmp_path / "s.h5"
    landscape = evaluate(y="-2:2:3", out=out)
    np.testing.assert_allclose(landscape.loss, expected(0, landscape.betas), rtol=1e-6)
    with h5py.File(out) as file:
        assert "xcoordinates" not in file
        assert "ycoordinates" in file


def test_grid_names_alphas_before_betas(evaluate):
    assert evaluate(grid="4x3").loss.shape == (3, 4)
