from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onnxscape.data.parquet import read_parquet
from onnxscape.data.parquet_claims import check_claims
from onnxscape.errors import DataError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "d.parquet"


def number(value):
    """A whole number in Thrift's compact protocol."""
    value *= 2
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def struct(**fields):
    """A struct; `f7=3` is a number in field 7, bytes are put in as they are."""
    out, last = b"", 0
    for name, (kind, value) in fields.items():
        field = int(name[1:])
        out += bytes([(field - last) << 4 | kind]) + value
        last = field
    return out + b"\0"


def i(value):
    return 5, number(value)


def of(content):
    return 12, content


def page(values, size, packed, kind=0):
    counted = {f"f{ {0: 5, 2: 7, 3: 8}[kind] }": of(struct(f1=i(values)))}
    return struct(f1=i(kind), f2=i(size), f3=i(packed), **counted) + bytes(min(packed, 100))


def file(pages, values, *, stored=None, elsewhere=False, magic=b"PAR1"):
    """A file with one column that claims what it likes."""
    about = struct(f5=i(values), f7=i(len(pages) if stored is None else stored), f9=i(4))
    fields = {"f1": (8, b"\x05other")} if elsewhere else {}
    column = struct(**fields, f3=of(about))
    group = struct(f1=(9, b"\x1c" + column))
    footer = struct(f4=(9, b"\x1c" + group))
    return io.BytesIO(b"PAR1" + pages + footer + len(footer).to_bytes(4, "little") + magic)


@pytest.mark.parametrize(
    "pages",
    [
        page(10, 80, 80),
        page(10, 80, 80, kind=3),
        page(4, 32, 32) + page(6, 48, 48),
        page(5, 40, 40, kind=2) + page(10, 20, 20),
        page(10, 80, 80) + b"\xff" * 50,  # a reader does not look behind the last value
    ],
)
def test_claims_that_agree_are_believed(pages):
    check_claims(file(pages, 10), "d")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (file(page(10, 80, 80), 1 << 40), r"claims 12\.0 TiB"),
        (
            file(page(1 << 30, 80, 80), 10),
            "pages hold 1073741824 values, the footer claims 10",
        ),
        (file(page(10, 80, 80), 20), "cut short"),
        (file(page(10, 1 << 31, 80), 10), r"claims 2\.0 GiB from .* bomb"),
        (file(page(10, 1 << 40, 80), 10), r"claims 1\.0 TiB"),
        (file(page(10, 80, 1 << 30), 10), "ends behind its column"),
        (file(page(10, 80, 80), 10, stored=1 << 30), "end behind the file"),
        (file(page(1 << 20, 40, 40, kind=2) + page(10, 9, 9), 10), "dictionary claims"),
        (file(page(10, 80, 80), 10, elsewhere=True), "in another file"),
        (file(page(10, 80, 80), 10, magic=b"PARE"), "does not end as"),
        (file(b"\x1c" * 100, 10), "nested too deep"),
        (file(b"\x15\x00\x00", 10), r"a number is missing \(field 2\)"),
        (file(struct(f1=i(0), f2=i(8), f3=i(8)) + bytes(8), 10), r"struct is missing"),
        (io.BytesIO(b""), "does not end as"),
        (io.BytesIO(b"\xff\xff\xff\x7fPAR1"), "does not end as"),
    ],
)
def test_claims_that_disagree_are_refused(made, said):
    with pytest.raises(DataError, match=f"^d .*{said}"):
        check_claims(made, "d")


def test_pages_of_other_kinds_are_passed_over():
    index = struct(f1=i(1), f2=i(8), f3=i(8)) + bytes(8)
    check_claims(file(index + page(10, 80, 80), 10), "d")


def test_a_million_empty_pages_are_too_many(monkeypatch):
    monkeypatch.setattr("onnxscape.data.parquet_claims._MAX_PAGES", 10)
    with pytest.raises(DataError, match="more than 10 pages"):
        check_claims(file(page(0, 0, 0) * 11 + page(1, 8, 8), 1), "d")


def test_a_footer_larger_than_any_is_refused(monkeypatch):
    monkeypatch.setattr("onnxscape.data.parquet_claims._MAX_FOOTER", 8)
    with pytest.raises(DataError, match="expected at most 8"):
        check_claims(file(page(10, 80, 80), 10), "d")


def test_what_arrow_writes_is_believed(path):
    columns = {
        "ids": np.random.default_rng(0).integers(0, 99, (500, 5)).tolist(),
        "y": np.arange(500),
    }
    for options in ({}, {"data_page_version": "2.0", "compression": "zstd"}):
        pq.write_table(
            pa.table(columns), path, data_page_size=300, row_group_size=200, **options
        )
        with path.open("rb") as stream:
            check_claims(stream, "d")


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(path, monkeypatch):
    pq.write_table(pa.table({"x": np.zeros(6_000_000, np.int64)}), path)
    assert path.stat().st_size < 100_000
    monkeypatch.setattr("onnxscape.data.parquet._read", lambda *_: pytest.fail("was read"))
    with pytest.raises(DataError, match=r"claims 68\.7 MiB from .*decompression bomb"):
        read_parquet(path)


def test_a_page_that_claims_more_than_its_column_is_refused(path):
    table = pa.table({"x": [[1.0] * 1000]})
    pq.write_table(table, path, use_dictionary=False, compression="none")
    content = path.read_bytes()
    claimed = b"\x15" + number(1000)
    assert claimed in content
    path.write_bytes(content.replace(claimed, b"\x15" + number(8000), 1))
    with pytest.raises(DataError, match="pages hold 8000 values, the footer claims 1000"):
        read_parquet(path)


DAMAGE = """
import pathlib, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
import numpy as np
from onnxscape.data.parquet import read_parquet
from onnxscape.errors import DataError

path = pathlib.Path(sys.argv[1])
whole = path.read_bytes()
random = np.random.default_rng(1)
refused = 0
for _ in range(400):
    broken = bytearray(whole)
    for _ in range(int(random.integers(1, 6))):
        broken[random.integers(len(broken))] = random.integers(256)
    path.write_bytes(broken)
    try:
        read_parquet(path)
    except DataError:
        refused += 1
print(refused)
"""


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_damaged_files_raise_nothing_but_data_errors(path, version):
    rows = np.random.default_rng(0).integers(0, 500, (60, 5))
    columns = {"ids": rows.tolist(), "y": rows[:, 0], "b": rows[:, 1] % 2 == 0}
    pq.write_table(
        pa.table(columns),
        path,
        data_page_version=version,
        row_group_size=40,
        data_page_size=99,
    )
    # In a process of its own: what C++ does not catch would end this one.
    done = subprocess.run(
        [sys.executable, "-c", DAMAGE, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 100
