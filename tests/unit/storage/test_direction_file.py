from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from onnxscape.errors import DirectionError, StorageError
from onnxscape.storage import load_directions, save_directions

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from onnxscape.storage import StoredTensor

Pairs = list[tuple[str | None, "NDArray[np.floating]"]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "directions.h5"


def pairs(seed: int, count: int = 12) -> Pairs:
    """More than ten tensors: '10' must not come between '1' and '2'."""
    generator = np.random.default_rng(seed)
    return [
        (f"layer{i}.weight", generator.normal(size=(i + 1, 3)).astype(np.float32))
        for i in range(count)
    ]


def assert_equal(found: tuple[StoredTensor, ...] | None, expected: Pairs) -> None:
    assert found is not None
    assert [tensor.name for tensor in found] == [name for name, _ in expected]
    for tensor, (_, array) in zip(found, expected, strict=True):
        assert tensor.array.dtype == array.dtype
        assert tensor.array.shape == array.shape
        assert tensor.array.tobytes() == array.tobytes()
        assert not tensor.array.flags.writeable


def test_both_directions_come_back_in_order_and_to_the_bit(path: Path) -> None:
    x, y = pairs(0), pairs(1)
    save_directions(path, x, y)
    found = load_directions(path)
    assert_equal(found.x, x)
    assert_equal(found.y, y)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_every_precision_is_kept(path: Path, dtype: str) -> None:
    x: Pairs = [
        ("a", np.array([[-0.0, 1 / 3], [6e-8, 1.0]], dtype)),
        ("s", np.array(2, dtype)),
    ]
    save_directions(path, x, None)
    assert_equal(load_directions(path).x, x)


def test_one_direction_is_enough(path: Path) -> None:
    save_directions(path, None, pairs(0))
    found = load_directions(path)
    assert found.x is None
    assert_equal(found.y, pairs(0))


def test_names_are_optional_and_may_be_any_text(path: Path) -> None:
    x: Pairs = [(None, np.ones(2)), ("größe/0:1 weight", np.ones(2)), ("", np.ones(0))]
    save_directions(path, x, None)
    assert_equal(load_directions(path).x, x)


def test_the_layout_on_the_disk_is_that_of_the_reference(path: Path) -> None:
    """Read by plain h5py, as the reference does: sorted by number, float arrays."""
    x = pairs(0)
    save_directions(path, x, pairs(1))
    with h5py.File(path, "r") as file:
        assert set(file) == {"xdirection", "ydirection"}
        assert set(file["xdirection"]) == {str(i) for i in range(len(x))}
        for number, (name, array) in enumerate(x):
            dataset = file["xdirection"][str(number)]
            assert np.array_equal(dataset[()], array)
            assert dataset.dtype == np.float32
            assert dict(dataset.attrs) == {"name": name}


def test_directions_of_the_reference_are_read(reference: Path) -> None:
    found = load_directions(reference / "directions.h5")
    weights = np.load(reference / "normalizations.npz")
    shapes = {
        name.removeprefix("weight/"): weights[name].shape
        for name in weights.files
        if name.startswith("weight/")
    }
    for direction in (found.x, found.y):
        assert direction is not None
        assert len(direction) == 13
        assert sorted(t.array.shape for t in direction) == sorted(shapes.values())
        assert {tensor.name for tensor in direction} == {None}
        assert all(tensor.array.dtype == np.float32 for tensor in direction)
        # `biasbn`: one-dimensional parameters are present and zero.
        assert [bool(t.array.any()) for t in direction] == [
            t.array.ndim > 1 for t in direction
        ]
    with h5py.File(reference / "directions.h5", "r") as file:
        assert found.y is not None
        assert np.array_equal(found.y[11].array, file["ydirection"]["11"][()])


def test_the_digest_depends_on_everything_and_nothing_else(path: Path) -> None:
    def digest(x: Pairs | None, y: Pairs | None) -> str:
        save_directions(path, x, y)
        return load_directions(path).digest

    a, b = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
    base = digest([("a", a)], [("b", b)])
    assert len(base) == 64
    assert digest([("a", a.copy())], [("b", b.copy())]) == base
    others = [
        digest([("a", a)], None),
        digest(None, [("a", a)]),
        digest([("b", b)], [("a", a)]),
        digest([("a", a), ("b", b)], None),
        digest([(None, a)], [("b", b)]),
        digest([("a2", a)], [("b", b)]),
        digest([("a", a.T)], [("b", b)]),
        digest([("a", a.astype(np.float32))], [("b", b)]),
        digest([("a", np.nextafter(a, 9))], [("b", b)]),
        digest([("a", a)], [("b", -b)]),
    ]
    assert len({base, *others}) == len(others) + 1


def test_the_digest_does_not_depend_on_the_byte_order(path: Path) -> None:
    values = np.arange(6.0).reshape(2, 3)
    digests = set()
    for dtype in ("<f4", ">f4"):
        with h5py.File(path, "w") as file:
            file["xdirection/0"] = values.astype(dtype)
        found = load_directions(path)
        digests.add(found.digest)
        assert found.x is not None
        assert found.x[0].array.dtype.isnative
        assert np.array_equal(found.x[0].array, values)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (None, "no direction to write"),
        ([], "at least one array"),
        ([("a", np.arange(3))], "type int64, expected float16, 32 or 64"),
        ([("a", np.array([1.0, np.nan]))], r"array 0 \(a\) holds NaN or infinite"),
        ([(None, np.array([np.inf]))], "array 0 holds NaN or infinite"),
        ([("a", np.ones(1)), ("a", np.ones(1))], "same name"),
        ([("a\0b", np.ones(1))], "cannot be put into an HDF5 file"),
    ],
)
def test_what_is_no_direction_is_not_written(
    path: Path, x: Pairs | None, message: str
) -> None:
    with pytest.raises(DirectionError, match=message) as caught:
        save_directions(path, x, None)
    assert "\n" not in str(caught.value)
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        save_directions(tmp_path / "absent" / "d.h5", pairs(0), None)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"weights/0": np.ones(2)}, "expected groups 'xdirection' and 'ydirection'"),
        ({"xdirection/0": np.ones(2), "xdirection/2": np.ones(2)}, "without a gap"),
        ({"xdirection/1": np.ones(2)}, "without a gap"),
        ({"xdirection/00": np.ones(2)}, "among them ['00']"),
        ({"xdirection/0": np.ones(2), "xdirection/bias": np.ones(2)}, "among them ['bias']"),
        ({"xdirection/0": np.arange(3)}, "type int64"),
        ({"xdirection/0": np.ones(2, complex)}, "type complex128"),
        ({"xdirection/0": np.ones(2, np.longdouble)}, "cannot be read"),
        ({"xdirection/0": ["a"]}, "type object"),
        ({"xdirection/0": np.array([np.nan])}, "NaN or infinite values"),
        ({"xdirection": np.ones(2)}, "expected a group 'xdirection', found an array"),
    ],
)
def test_what_is_no_direction_is_refused(
    path: Path, arrays: dict[str, object], message: str
) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    with pytest.raises(DirectionError) as caught:
        load_directions(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_group_and_names_of_other_kinds_are_refused(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("ydirection")
    with pytest.raises(DirectionError, match="found 0 of them"):
        load_directions(path)
    with h5py.File(path, "w") as file:
        file["xdirection/0"] = np.ones(2)
        file["xdirection/0"].attrs["name"] = 3
    with pytest.raises(DirectionError, match="'name' is not a single text"):
        load_directions(path)
    with h5py.File(path, "w") as file:
        for number in "01":
            file[f"xdirection/{number}"] = np.ones(2)
            file[f"xdirection/{number}"].attrs["name"] = "a"
    with pytest.raises(DirectionError, match="same name"):
        load_directions(path)
