"""Downloads: streamed to a .part file under a size limit, verified, then renamed."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from onnxscape.data.limits import human_bytes
from onnxscape.errors import DataUnavailableError
from onnxscape.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import IO

STALL_SECONDS = 30.0
"""How long a server may stay silent."""

TOTAL_SECONDS = 3600.0
"""How long one download may take."""

_PIECE = 1 << 18


def download(
    url: str,
    target: Path,
    *,
    md5: str,
    max_bytes: int,
    progress: Callable[[int, int | None], None] | None = None,
) -> None:
    """Fetch a file.

    Args:
        url: Where it is (http or https).
        target: Where to put it; its folder exists. Only a verified file ever has this name.
        md5: Checksum (hex) its publisher gives.
        max_bytes: Most bytes it may have.
        progress: Told the bytes done and, if known, their total.

    Raises:
        DataUnavailableError: If it cannot be had, is cut short, too large, or another file.
    """
    if not url.startswith(("https://", "http://")):
        raise DataUnavailableError(f"expected a URL with http or https, got {url}")
    part = target.with_name(target.name + ".part")
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
        url, headers={"User-Agent": f"onnxscape/{__version__}"}
    )
    try:
        with (
            urllib.request.urlopen(request, timeout=STALL_SECONDS) as answer,  # noqa: S310
            part.open("wb") as file,
        ):
            _copy(answer, file, url, max_bytes, progress)
        _verify(part, url, md5)
        part.replace(target)
    except urllib.error.HTTPError as error:
        with error:
            raise DataUnavailableError(
                f"{url}: the server says {error.code} {error.reason}"
            ) from error
    except (urllib.error.URLError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise DataUnavailableError(f"{url}: {_plain(reason)}") from error
    except DataUnavailableError:
        raise
    except OSError as error:  # a lost connection, a full disk
        raise DataUnavailableError(f"{url}: {_plain(error)}") from error
    finally:
        part.unlink(missing_ok=True)


def _copy(
    answer: http.client.HTTPResponse,
    file: IO[bytes],
    url: str,
    max_bytes: int,
    progress: Callable[[int, int | None], None] | None,
) -> None:
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    deadline = time.monotonic() + TOTAL_SECONDS
    done = 0
    while piece := answer.read1(_PIECE):
        done += len(piece)
        if max(done, total or 0) > max_bytes:
            raise DataUnavailableError(
                f"{url}: larger than the {human_bytes(max_bytes)} expected"
            )
        if time.monotonic() > deadline:
            raise DataUnavailableError(f"{url}: not done after {TOTAL_SECONDS:.0f} s")
        file.write(piece)
        if progress is not None:
            progress(done, total)
    if total is not None and done < total:
        raise DataUnavailableError(f"{url}: ended after {done} of {total} bytes")


def _verify(path: Path, url: str, md5: str) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(
            file, lambda: hashlib.md5(usedforsecurity=False)
        ).hexdigest()
    if digest != md5:
        raise DataUnavailableError(
            f"{url} is another file than expected: md5 {digest}, not {md5}"
        )


def _plain(reason: object) -> str:
    return str(getattr(reason, "strerror", None) or reason or type(reason).__name__)
