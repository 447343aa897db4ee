"""What may be written where: no run destroys a file that it did not make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from onnxscape.errors import (
    DirectionError,
    OutputError,
    SpecConflictError,
    SurfaceFileError,
    UsageError,
)
from onnxscape.evaluation.directions import write_directions
from onnxscape.evaluation.request import is_file
from onnxscape.runtime.devices import provider_of
from onnxscape.storage import check_writable, is_ours, load_directions, load_landscape

if TYPE_CHECKING:
    from onnxscape.core.landscape import Landscape
    from onnxscape.core.plan import Plan
    from onnxscape.core.spec import EvalSpec
    from onnxscape.evaluation.inputs import EvalInputs
    from onnxscape.evaluation.request import EvalRequest, OutputOptions

_PICTURES = frozenset({".png", ".pdf", ".svg"})


def check_outputs(request: EvalRequest, output: OutputOptions) -> None:
    """Refuse early what could not, or should not, be written in the end.

    Args:
        request: What is read.
        output: Where the result goes.

    Raises:
        UsageError: If two outputs are one file, or the surface has the name of a picture.
        OutputError: If one cannot be written, or is a file of another kind.
    """
    if output.path.suffix.lower() in _PICTURES:
        raise UsageError(
            f"expected --out to name the surface, such as {output.path.stem}.h5, got "
            f"{output.path.name}; pictures get their names from it"
        )
    graphs = [name for name in (request.loss, *(request.metrics or ())) if name is not None]
    sources = (request.model, request.data, request.directions, *filter(is_file, graphs))
    read = {Path(source).resolve() for source in sources if isinstance(source, str | Path)}
    for path in (output.path, output.save_directions):
        if path is not None and path.resolve() in read:
            raise UsageError(f"{path} is read by this run; choose another name to write to")
    check_writable(output.path)
    if output.restart and _has_content(output.path) and not is_ours(output.path):
        raise OutputError(
            f"{output.path} exists and is no landscape of onnxscape's, so not even --restart "
            "replaces it; choose another --out, or remove it first"
        )
    if output.save_directions is None:
        return
    check_writable(output.save_directions)
    if output.save_directions.resolve() == output.path.resolve():
        raise UsageError(
            f"expected two files for the surface and the directions, got {output.path} for "
            "both; choose another --save-directions"
        )


def save_directions(path: Path, inputs: EvalInputs) -> bool:
    """Write the directions of a run, unless they are there already.

    Args:
        path: The file.
        inputs: What is evaluated.

    Returns:
        Whether the file was written.

    Raises:
        OutputError: If the file holds anything else.
        StorageError: If it cannot be written.
    """
    if not _has_content(path):
        write_directions(path, inputs.parameters, inputs.delta, inputs.eta)
        return True
    try:
        found = load_directions(path)
    except DirectionError:
        found = None
    for stored, direction in (
        (found and found.x, inputs.delta),
        (found and found.y, inputs.eta),
    ):
        tensors = {} if direction is None else direction.tensors
        mine = {name: values.tobytes() for name, values in tensors.items()}
        theirs = {t.name: t.array.tobytes() for t in stored or () if t.array.any()}
        if mine != theirs:
            raise OutputError(
                f"{path} exists and does not hold these directions; choose another name for "
                "--save-directions, or remove it first"
            )
    return False


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def existing_landscape(path: Path, spec: EvalSpec) -> Landscape | None:
    """Return the landscape that is in the way; refuse if it is another one.

    Args:
        path: The output.
        spec: What is to be evaluated.

    Returns:
        The landscape of the same spec, finished or not; None if there is no file.

    Raises:
        OutputError: If the file is no landscape.
        SpecConflictError: If it has another spec.
    """
    if not path.exists():
        return None
    try:
        landscape = load_landscape(path)
    except SurfaceFileError as error:
        raise OutputError(
            f"{path} exists and is not a landscape this version reads ({error}); choose "
            "another --out, or remove it first"
        ) from error
    if landscape.spec is None:
        raise OutputError(
            f"{path} exists and was not made by onnxscape; choose another --out, or remove it"
        )
    refuse_other_spec(landscape.spec, spec, path)
    return landscape


def refuse_other_choices(request: EvalRequest, plan: Plan | None) -> None:
    """Refuse explicit choices that a finished landscape was not computed with.

    Args:
        request: What is asked.
        plan: The landscape's plan.

    Raises:
        DeviceError: If there is no such device.
        SpecConflictError: If a choice contradicts the plan.
        UsageError: If both a device and a provider are chosen.
    """
    if plan is None:
        return
    asked = {
        "strategy": (request.strategy, plan.strategy),
        "batch": (request.batch_size, plan.batch),
        "provider": (provider_of(request.device, request.provider), plan.provider),
    }
    wrong = [
        f"{name} ({recorded}, not {wanted})"
        for name, (wanted, recorded) in asked.items()
        if wanted is not None and wanted != recorded
    ]
    if wrong:
        raise SpecConflictError(
            f"the points were computed with another plan: {'; '.join(wrong)}; leave out the "
            "flag, or use --restart to compute all points anew"
        )


def refuse_other_spec(found: EvalSpec, spec: EvalSpec, where: Path) -> None:
    """Refuse to mix two landscapes.

    Args:
        found: The spec of what is there.
        spec: What is to be evaluated.
        where: The file, for the message.

    Raises:
        SpecConflictError: If the specs differ.
    """
    differences = found.differences(spec)
    if differences:
        raise SpecConflictError(
            f"{where} holds another landscape; it differs in {'; '.join(differences)}; choose "
            "another --out, or --restart to replace it"
        )
