"""Downloads: streamed to a temporary file under a size limit, verified, then renamed."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from onnxscape.errors import DataUnavailableError
from onnxscape.files.atomic import replacing
from onnxscape.files.limits import human_bytes
from onnxscape.files.reason import reason
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
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
        url, headers={"User-Agent": f"onnxscape/{__version__}"}
    )
    try:
        with (
            urllib.request.urlopen(request, timeout=STALL_SECONDS) as answer,  # noqa: S310
            replacing(target) as file,
        ):
            _verify(_copy(answer, file, url, max_bytes, progress), url, md5)
    except urllib.error.HTTPError as error:
        with error:
            raise DataUnavailableError(
                f"{url}: the server says {error.code} {error.reason}"
            ) from error
    except (urllib.error.URLError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error)  # an exception or a text
        text = reason(why) if isinstance(why, BaseException) else str(why)
        raise DataUnavailableError(f"{url}: {text}") from error
    except DataUnavailableError:
        raise
    except OSError as error:  # a lost connection, a full disk
        raise DataUnavailableError(f"{url}: {reason(error)}") from error


def _copy(
    answer: http.client.HTTPResponse,
    file: IO[bytes],
    url: str,
    max_bytes: int,
    progress: Callable[[int, int | None], None] | None,
) -> str:
    # Returns the md5 (hex) of what was copied.
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    deadline = time.monotonic() + TOTAL_SECONDS
    digest = hashlib.md5(usedforsecurity=False)
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
        digest.update(piece)
        if progress is not None:
            progress(done, total)
    if total is not None and done < total:
        raise DataUnavailableError(f"{url}: ended after {done} of {total} bytes")
    return digest.hexdigest()


def _verify(digest: str, url: str, md5: str) -> None:
    if digest != md5:
        raise DataUnavailableError(
            f"{url} is another file than expected: md5 {digest}, not {md5}"
        )
