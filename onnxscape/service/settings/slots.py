"""Places for workers: from the setting to slots, and what the devices are called."""

from __future__ import annotations

import platform
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from onnxscape.errors import UsageError
from onnxscape.jobs.executor import Slot
from onnxscape.v1 import server_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

NVIDIA = Path("/proc/driver/nvidia/gpus")
"""Where Linux tells of GPUs, one folder each: a server loads no library to ask for them."""

_MOST_SLOTS = 64


def slots_of(setting: Sequence[str], *, gpus: Path = NVIDIA) -> list[Slot]:
    """Return the places for workers.

    Args:
        setting: Devices, each with the number of its workers: `cpu:2`, `cuda:0`, `cuda:1:2`,
            `auto`.
        gpus: Where Linux tells of GPUs.

    Returns:
        At least one place.

    Raises:
        UsageError: If an entry means nothing, or there are too many.
    """
    counts: Counter[str] = Counter()
    for entry in setting:
        if entry == "auto":
            found = [f"cuda:{number}" for number in range(len(_gpus(gpus)))]
            counts.update(found or ["cpu"])
            continue
        match = re.fullmatch(r"(cpu|cuda:[0-9]{1,2})(?::([0-9]{1,3}))?", entry)
        if match is None:
            raise UsageError(
                "expected slots such as cpu:2, cuda:0 or cuda:1:2 (device and number of "
                f"workers), or auto, got {entry!r}"
            )
        counts[match[1]] += 1 if match[2] is None else int(match[2])
    if not 0 < counts.total() <= _MOST_SLOTS:
        raise UsageError(f"expected 1 to {_MOST_SLOTS} slots, got {counts.total()}")
    return [
        Slot(f"{device}/{number}", device)
        for device, count in counts.items()
        for number in range(count)
    ]


def kinds_of(slots: Sequence[Slot]) -> frozenset[str]:
    """Return the kinds of devices of some slots.

    Args:
        slots: The slots.

    Returns:
        `cpu`, `cuda`.
    """
    return frozenset(slot.device.partition(":")[0] for slot in slots)


def device_messages(
    slots: Sequence[Slot], *, threads: int, gpus: Path = NVIDIA
) -> list[server_pb2.Device]:
    """Return what callers are told of the devices.

    Args:
        slots: The places for workers.
        threads: Threads of a worker on the CPU.
        gpus: Where Linux tells of GPUs.

    Returns:
        One message for each device.
    """
    names = _gpus(gpus)
    messages = []
    for device, count in Counter(slot.device for slot in slots).items():
        kind, _, number = device.partition(":")
        text = (
            f"{platform.machine()} processor, {threads} thread{'s' * (threads > 1)} a worker"
        )
        if kind == "cuda":
            index = int(number)
            text = names[index] if index < len(names) else "NVIDIA GPU"
        messages.append(server_pb2.Device(name=device, description=text, slots=count))
    return messages


def _gpus(folder: Path) -> list[str]:
    """Return the names of the GPUs of this machine."""
    names = []
    try:
        for path in sorted(folder.iterdir()):
            text = (path / "information").read_text(encoding="utf-8", errors="replace")
            match = re.search(r"^Model:\s*(.+)$", text, re.MULTILINE)
            names.append("NVIDIA GPU" if match is None else match[1].strip())
    except OSError:
        return names
    return names
