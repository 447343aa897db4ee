"""Files made to harm: none may be believed, and each must be refused by a single line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from onnxscape.errors import DirectionError, OnnxscapeError, SurfaceFileError
from onnxscape.storage import load_directions, load_landscape, save_directions, save_landscape

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnxscape.core.landscape import Landscape


@pytest.fixture
def surface(tmp_path: Path, landscape: Landscape) -> Path:
    path = tmp_path / "surface.h5"
    save_landscape(landscape, path)
    return path


@pytest.fixture
def directions(tmp_path: Path) -> Path:
    path = tmp_path / "directions.h5"
    save_directions(path, [("a", np.ones((2, 3), np.float32))], [("a", np.zeros((2, 3)))])
    return path


def refused(path: Path, load: Callable[[Path], object], match: str) -> None:
    kind = SurfaceFileError if load is load_landscape else DirectionError
    with pytest.raises(kind, match=match) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def replace_loss(path: Path, make: Callable[[h5py.File], object]) -> None:
    with h5py.File(path, "r+") as file:
        del file["loss"], file["test_loss"]
        make(file)


@pytest.mark.parametrize("load", [load_landscape, load_directions])
def test_what_is_no_whole_hdf5_file_is_refused(
    tmp_path: Path, surface: Path, load: Callable[[Path], object]
) -> None:
    refused(tmp_path / "absent.h5", load, "No such file or directory; check the path")
    refused(tmp_path, load, "folder or device")
    (tmp_path / "empty.h5").touch()
    refused(tmp_path / "empty.h5", load, "not a whole HDF5 file")
    (tmp_path / "text.h5").write_text("alpha,beta,loss\n" * 1000)
    refused(tmp_path / "text.h5", load, "not a whole HDF5 file")
    (tmp_path / "random.h5").write_bytes(np.random.default_rng(0).bytes(10_000))
    refused(tmp_path / "random.h5", load, "not a whole HDF5 file")
    content = surface.read_bytes()
    for size in (20, 500, len(content) // 2, len(content) - 1):
        (tmp_path / "short.h5").write_bytes(content[:size])
        refused(tmp_path / "short.h5", load, "not a whole HDF5 file")


@pytest.mark.parametrize("chunks", [None, (64, 64)])
def test_a_claim_of_4_tib_is_refused_unread(
    surface: Path, directions: Path, chunks: tuple[int, int] | None
) -> None:
    shape = (2**20, 2**19)
    replace_loss(
        surface, lambda file: file.create_dataset("loss", shape, "<f8", chunks=chunks)
    )
    refused(surface, load_landscape, "'loss' should have the grid's shape")
    with h5py.File(directions, "r+") as file:
        file["xdirection"].create_dataset("1", shape, "<f8", chunks=chunks)
    assert directions.stat().st_size < 20_000
    refused(directions, load_directions, r"'1' claims 4\.0 TiB")


def test_a_packed_bomb_is_refused_unread(directions: Path) -> None:
    with h5py.File(directions, "r+") as file:
        file["xdirection"].create_dataset(
            "1", (2**20, 2**19), "<f8", chunks=(64, 64), compression="gzip"
        )
    refused(directions, load_directions, r"'1' claims 4\.0 TiB")
    with h5py.File(directions, "r+") as file:
        del file["xdirection"]["1"]
        file["xdirection"].create_dataset(
            "1", (2**12, 2**12), "<f8", chunks=(64, 64), compression="gzip"
        )
    refused(directions, load_directions, "'1' claims 128.* decompression bomb")


def test_values_that_were_never_written_are_refused(directions: Path) -> None:
    for chunks in (None, (4, 4)):
        with h5py.File(directions, "r+") as file:
            file["xdirection"].create_dataset("1", (64, 64), "<f4", chunks=chunks)
        refused(directions, load_directions, r"'1' claims 16\.0 KiB, more than the 0 bytes")
        with h5py.File(directions, "r+") as file:
            del file["xdirection"]["1"]


def test_many_names_for_one_large_array_are_refused(directions: Path) -> None:
    with h5py.File(directions, "r+") as file:
        group = file["xdirection"]
        group["1"] = np.zeros(2**18, np.float32)
        for number in range(2, 120):
            group[str(number)] = group["1"]
    refused(directions, load_directions, "with those read before it, claims 64")


def test_a_packed_array_of_usual_size_is_read(directions: Path) -> None:
    values = np.random.default_rng(0).random((100, 100))
    with h5py.File(directions, "r+") as file:
        file["xdirection"].create_dataset(
            "1", data=values, compression="gzip", shuffle=True, fletcher32=True
        )
        file["xdirection"].create_dataset("2", data=values, compression="lzf")
    found = load_directions(directions).x
    assert found is not None
    assert np.array_equal(found[1].array, values)
    assert np.array_equal(found[2].array, values)


def test_external_storage_is_refused(surface: Path, directions: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(5 * 3 * 8))
    replace_loss(
        surface,
        lambda file: file.create_dataset(
            "loss", (3, 5), "<f8", external=[(str(secret), 0, h5py.h5f.UNLIMITED)]
        ),
    )
    refused(surface, load_landscape, "'loss' are in other files")
    with h5py.File(directions, "r+") as file:
        file["ydirection"].create_dataset("1", (3, 5), "<f8", external=str(secret))
    refused(directions, load_directions, "'1' are in other files")


def test_virtual_datasets_are_refused(surface: Path, directions: Path) -> None:
    with h5py.File(surface.with_name("other.h5"), "w") as file:
        file["loss"] = np.zeros((3, 5))
    layout = h5py.VirtualLayout((3, 5), "<f8")
    layout[:] = h5py.VirtualSource(surface.with_name("other.h5"), "loss", (3, 5))
    replace_loss(surface, lambda file: file.create_virtual_dataset("loss", layout))
    refused(surface, load_landscape, "'loss' are in other files")
    with h5py.File(directions, "r+") as file:
        file["xdirection"].create_virtual_dataset("1", layout)
    refused(directions, load_directions, "'1' are in other files")


@pytest.mark.parametrize(
    "link", [h5py.SoftLink("/evaluated"), h5py.ExternalLink("o.h5", "/loss")]
)
def test_soft_and_external_links_are_refused(
    surface: Path, directions: Path, link: object
) -> None:
    with h5py.File(surface.with_name("o.h5"), "w") as file:
        file["loss"] = np.zeros((3, 5))
    # Even under a name that nothing asks for.
    with h5py.File(surface, "r+") as file:
        file["extra"] = link
    refused(surface, load_landscape, "'extra' is a soft or external link")
    with h5py.File(directions, "r+") as file:
        file["xdirection"]["1"] = link
    refused(directions, load_directions, "'1' is a soft or external link")
    with h5py.File(directions, "w") as file:
        file["xdirection"] = link
    refused(directions, load_directions, "'xdirection' is a soft or external link")


def test_unknown_filters_are_refused(surface: Path) -> None:
    def packed(file: h5py.File) -> None:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((3, 5))
        properties.set_filter(h5py.h5z.FILTER_SCALEOFFSET, 0, (2, 0))
        space = h5py.h5s.create_simple((3, 5))
        h5py.h5d.create(file.id, b"loss", h5py.h5t.IEEE_F64LE, space, properties)

    replace_loss(surface, packed)
    refused(surface, load_landscape, "packed by filter 6; write it plainly")


@pytest.mark.parametrize(
    "value",
    [
        np.array([b"text"]),
        np.zeros((3, 5), complex),
        np.zeros((3, 5), "S4"),
        np.zeros((3, 5), [("a", "f4")]),
        h5py.Empty("f8"),
    ],
)
def test_arrays_of_other_kinds_are_no_loss(surface: Path, value: object) -> None:
    replace_loss(surface, lambda file: file.create_dataset("loss", data=value))
    refused(surface, load_landscape, "loss")


@pytest.mark.parametrize("name", ["spec", "plan", "provenance"])
@pytest.mark.parametrize("value", [3.0, np.arange(3), ["a", "b"], h5py.Empty("S1")])
def test_attributes_of_other_kinds_are_refused(
    surface: Path, name: str, value: object
) -> None:
    with h5py.File(surface, "r+") as file:
        file.attrs[name] = value
    refused(surface, load_landscape, f"{name!r} is not a single text")


def test_texts_of_fixed_length_are_read_as_well(surface: Path, landscape: Landscape) -> None:
    with h5py.File(surface, "r+") as file:
        file.attrs["spec"] = np.bytes_(file.attrs["spec"].encode())
    assert load_landscape(surface).spec == landscape.spec


@pytest.mark.parametrize("size", [0, 2**64 - 16])
def test_a_text_heap_that_never_ends_is_refused(surface: Path, size: int) -> None:
    """HDF5 itself does not come back from such a file."""
    content = bytearray(surface.read_bytes())
    place = content.index(b"GCOL\1\0\0\0") + 16
    index = 0 if size == 0 else 1
    content[place : place + 2] = index.to_bytes(2, "little")
    content[place + 8 : place + 16] = size.to_bytes(8, "little")
    surface.write_bytes(content)
    refused(surface, load_landscape, "texts are damaged")


def test_a_group_in_place_of_an_array_is_refused(surface: Path) -> None:
    replace_loss(surface, lambda file: file.create_group("loss"))
    refused(surface, load_landscape, "'loss', which is missing")
    with h5py.File(surface, "r+") as file:
        del file["xcoordinates"]
        file.create_group("xcoordinates")
    refused(surface, load_landscape, "expected an array 'xcoordinates', found a group")


def test_random_damage_is_never_a_traceback(tmp_path: Path, reference: Path) -> None:
    generator = np.random.default_rng(1)
    cases = [("surface_2d.h5", load_landscape), ("directions.h5", load_directions)]
    damaged = tmp_path / "damaged.h5"
    messages = []
    for number in range(150):
        name, load = cases[number % 2]
        content = bytearray((reference / name).read_bytes())
        for place in generator.integers(0, 4096, size=number % 8 + 1):
            content[place] = generator.integers(0, 256)
        damaged.write_bytes(content)
        try:
            load(damaged)
        except OnnxscapeError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert not any("\n" in message for message in messages)
