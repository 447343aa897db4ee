"""The jobs that a worker has loaded: their inputs and engines, the last few of them."""

from __future__ import annotations

import dataclasses
import gc
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnxscape.core.plan import Plan
from onnxscape.errors import OutOfMemoryError, SpecConflictError
from onnxscape.evaluation.engine import start_engine
from onnxscape.evaluation.inputs import resolve
from onnxscape.evaluation.report import outline, provenance
from onnxscape.jobs.executor import Ready
from onnxscape.jobs.job_inputs import checked_options, request_of, without_paths
from onnxscape.jobs.order_data import dataset_of
from onnxscape.jobs.worker_place import TextObserver, WorkerPlace

if TYPE_CHECKING:
    from onnxscape.data import Dataset
    from onnxscape.evaluation.engine import Engine
    from onnxscape.evaluation.inputs import EvalInputs
    from onnxscape.jobs.executor import Chunk
    from onnxscape.jobs.order import DataRef


@dataclass(slots=True, eq=False)
class LoadedJob:
    """A job that is ready to be computed.

    Attributes:
        inputs: What is evaluated.
        engine: What evaluates it.
        observer: Knows what was said on the way.
    """

    inputs: EvalInputs
    engine: Engine
    observer: TextObserver

    def ready(self, place: WorkerPlace, chunk: Chunk) -> Ready:
        """Return what the server is told.

        Args:
            place: Where it is computed.
            chunk: What is asked for.
        """

        def told(text: str) -> str:
            return without_paths(chunk.order, place.blob_path, text)

        values = dataclasses.asdict(outline(self.inputs, self.engine, {}))
        return Ready(
            plan=self.engine.plan.to_json(),
            provenance=provenance(self.inputs, self.engine),
            outline={n: told(v) if isinstance(v, str) else v for n, v in values.items()},
            seconds_per_point=values["seconds_per_point"],
            notes=tuple(map(told, self.observer.notes)),
            warnings=tuple(map(told, self.observer.warnings)),
        )


class LoadedJobs:
    """Loads jobs, and keeps the last few."""

    def __init__(self, place: WorkerPlace) -> None:
        """Start with none.

        Args:
            place: Where they are computed.
        """
        self._place = place
        self._jobs: OrderedDict[str, LoadedJob] = OrderedDict()
        self._data: OrderedDict[tuple[str, str], Dataset] = OrderedDict()

    @property
    def ids(self) -> tuple[str, ...]:
        """IDs of those that are loaded, the one used last at the end."""
        return tuple(self._jobs)

    def get(self, chunk: Chunk) -> LoadedJob:
        """Return a job, loaded and with the plan that the chunk asks for.

        Args:
            chunk: The chunk.

        Returns:
            The job.

        Raises:
            SpecConflictError: If the order gives another spec here.
            OnnxscapeError: If it cannot be loaded.
        """
        recorded = None if chunk.plan is None else Plan.from_dict(json.loads(chunk.plan))
        job = self._jobs.pop(chunk.job, None)
        if job is not None and recorded not in {None, job.engine.plan}:
            job = self._restarted(job, recorded, chunk)
        if job is None:
            while len(self._jobs) >= self._place.cache:
                self._jobs.popitem(last=False)
            job = self._loaded(chunk, recorded)
        self._jobs[chunk.job] = job
        return job

    def forget_others(self, job: str) -> bool:
        """Free the memory of all other jobs.

        Args:
            job: ID of the one to keep.

        Returns:
            Whether there were any.
        """
        others = [other for other in self._jobs if other != job]
        for other in others:
            del self._jobs[other]
        gc.collect()
        return bool(others)

    def _restarted(self, job: LoadedJob, recorded: Plan | None, chunk: Chunk) -> LoadedJob:
        """Return the job under another plan: memory was short elsewhere."""
        inputs, observer = job.inputs, job.observer
        del job  # its memory is wanted
        return LoadedJob(
            inputs, start_engine(inputs, recorded, observer, chunk.total), observer
        )

    def _loaded(self, chunk: Chunk, recorded: Plan | None) -> LoadedJob:
        while True:
            try:
                return self._load(chunk, recorded)
            except OutOfMemoryError:
                if not self._jobs:
                    raise
            self.forget_others(chunk.job)  # here the error holds nothing any more

    def _load(self, chunk: Chunk, recorded: Plan | None) -> LoadedJob:
        place, observer = self._place, TextObserver()
        request = request_of(
            chunk.order,
            place.blob_path,
            device=place.device,
            threads=place.threads,
            data_dir=place.data_folder,
            offline=place.offline,
            dataset=self._dataset(chunk),
        )
        inputs = resolve(request, observer)
        if inputs.spec.digest() != chunk.spec:
            raise SpecConflictError(
                "the order gives another spec on this worker than when it was accepted: the "
                "server's data or its version of onnxscape have changed; order it anew"
            )
        engine = start_engine(inputs, recorded, observer, chunk.total)
        return LoadedJob(inputs, engine, observer)

    def _dataset(self, chunk: Chunk) -> Dataset:
        """Return the data of a job; jobs of the same data share it."""
        ref: DataRef = chunk.order.data
        split = checked_options(chunk.order).get("split", "train")
        key = (json.dumps(dataclasses.asdict(ref), sort_keys=True), split)
        dataset: Any = self._data.pop(key, None)
        if dataset is None:
            while len(self._data) >= self._place.cache:
                self._data.popitem(last=False)
            dataset = dataset_of(
                ref,
                split,
                self._place.blob_path,
                data_dir=self._place.data_folder,
                offline=self._place.offline,
            )
        self._data[key] = dataset
        return dataset  # type: ignore[no-any-return]
