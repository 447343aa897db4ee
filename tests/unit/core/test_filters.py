from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxscape.core.filters import FilterLayout, Reshape, Transpose


@st.composite
def layouts(draw):
    """Any chain of reshapes and transposes that ends in a matrix."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    size = math.prod(shape)
    current, steps = shape, []
    for _ in range(draw(st.integers(0, 5))):
        if draw(st.booleans()):
            order = tuple(draw(st.permutations(range(len(current)))))
            steps.append(Transpose(order))
            current = tuple(current[axis] for axis in order)
        else:
            current = tuple(draw(st.permutations(draw(factors(size)))))
            steps.append(Reshape(current))
    rows = draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
    return FilterLayout(shape, (*steps, Reshape((rows, size // rows))))


@st.composite
def factors(draw, size):
    """Any list of whole numbers whose product is size."""
    found = []
    while size > 1 and draw(st.booleans()):
        found.append(draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0])))
        size //= found[-1]
    return [*found, size]


@given(layout=layouts())
def test_the_way_back_from_filters_is_exact(layout):
    tensor = np.arange(math.prod(layout.shape), dtype=np.float32).reshape(layout.shape)
    matrix = layout.to_filters(tensor)
    assert matrix.shape == (layout.filters, layout.elements)
    back = layout.from_filters(matrix.copy())
    assert back.shape == layout.shape
    assert (back == tensor).all()


@given(layout=layouts())
def test_the_way_there_from_any_matrix_is_exact(layout):
    matrix = np.arange(math.prod(layout.shape)).reshape(layout.filters, layout.elements)
    assert (layout.to_filters(layout.from_filters(matrix)) == matrix).all()


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_a_row_along_an_axis_is_the_slice_there_in_order(axis):
    tensor = np.arange(24).reshape(2, 3, 4)
    layout = FilterLayout.along(tensor.shape, (axis,))
    assert layout.filters == tensor.shape[axis]
    for j, row in enumerate(layout.to_filters(tensor)):
        assert row.tolist() == tensor.take(j, axis=axis).ravel().tolist()


def test_several_axes_count_filters_the_first_one_slowest():
    tensor = np.arange(24).reshape(2, 3, 4)
    layout = FilterLayout.along(tensor.shape, (2, 0))
    assert (layout.filters, layout.elements) == (8, 3)
    for j, row in enumerate(layout.to_filters(tensor)):
        assert row.tolist() == tensor[j % 2, :, j // 2].tolist()


def test_every_element_of_a_vector_may_be_a_filter():
    layout = FilterLayout.along((5,), (0,))
    assert layout.to_filters(np.arange(5)).tolist() == [[0], [1], [2], [3], [4]]


def test_a_layout_behind_a_view_is_expressed_on_the_source():
    # The operator sees the transpose [3, 2] and counts filters along its axis 0.
    source = np.arange(6).reshape(2, 3)
    layout = FilterLayout.along((3, 2), (0,)).behind((2, 3), (Transpose((1, 0)),))
    assert layout.shape == (2, 3)
    assert layout.to_filters(source).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert (layout.from_filters(layout.to_filters(source)) == source).all()


def test_filters_of_a_contiguous_tensor_are_a_view_of_it():
    tensor = np.zeros((4, 3, 3))
    assert np.shares_memory(FilterLayout.along(tensor.shape, (0,)).to_filters(tensor), tensor)
