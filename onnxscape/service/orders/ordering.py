"""From names to blobs and back: the catalog as orders see it; for threads, as it waits."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING

from onnxscape.service.answers.findings import Findings
from onnxscape.service.answers.names import DATA_SETS, MODELS, identifier
from onnxscape.service.answers.rich_errors import BlobsMissingError, NotFoundError
from onnxscape.service.catalog.records import EVERYBODY, data_set_id, model_id
from onnxscape.service.orders.messages import blobs_of, order_of, spec_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnxscape.jobs.order import Order
    from onnxscape.service.catalog.store import CatalogStore
    from onnxscape.v1 import jobs_pb2

_OFFERED = 10_000
"""Models, or data sets, that a server offers to all of its users, at most."""


class Ordering:
    """Finds what orders name, and names what orders hold."""

    def __init__(self, catalog: CatalogStore, blob_size: Callable[[str], int | None]) -> None:
        """Use a catalog.

        Args:
            catalog: Of models, data sets, and who has which blobs.
            blob_size: Returns the size of a blob by its sha256; None if there is none.
        """
        self._catalog = catalog
        self._blob_size = blob_size

    def order_of(self, user: str, request: jobs_pb2.CreateJobRequest) -> Order:
        """Make an order of a request.

        Args:
            user: Who orders.
            request: What; `refuse_violations` found nothing wrong with it.

        Returns:
            The order.

        Raises:
            NotFoundError: If the user has no such model or data.
            BadRequestError: If the data has no such split.
            BlobsMissingError: If the user has not written a blob that the spec names.
        """
        spec = request.spec
        model = self._catalog.models.get(user, identifier(MODELS, spec.model, "spec.model"))
        if model is None:
            raise NotFoundError("model", spec.model)
        data = self._catalog.data_sets.get(user, identifier(DATA_SETS, spec.data, "spec.data"))
        if data is None:
            raise NotFoundError("data set", spec.data)
        if data.splits and (spec.split or "train") not in data.splits:
            findings = Findings()
            findings.add("spec.split", f"one of {', '.join(data.splits)}", spec.split)
            findings.refuse()
        self._refuse_missing(user, spec)
        return order_of(
            spec,
            request.execution,
            model=model.sha256,
            model_name=model.display_name or model.id,
            data=data.ref,
        )

    def _refuse_missing(self, user: str, spec: jobs_pb2.JobSpec) -> None:
        """Refuse a spec whose own blobs are not all there.

        Raises:
            BlobsMissingError: If one was not written by this user.
        """
        wanted = {digest.sha256: digest.size for digest in blobs_of(spec)}
        if not wanted:
            return
        found = self._catalog.grants.sizes(user, list(wanted))
        missing = [sha256 for sha256, size in wanted.items() if found.get(sha256) != size]
        if missing:
            raise BlobsMissingError(missing)

    def spec_of(self, order: Order) -> jobs_pb2.JobSpec:
        """Write an order as a spec.

        Args:
            order: The order.

        Returns:
            The spec.
        """
        models, data_sets = self._offered
        ref = order.data
        uploaded = ref.name if ref.blob is None else data_set_id(ref)
        return spec_of(
            order,
            model_id=models.get(order.model, model_id(order.model)),
            data_id=data_sets.get(json.dumps(asdict(ref)), uploaded),
            size=lambda sha256: self._blob_size(sha256) or 0,
        )

    @cached_property
    def _offered(self) -> tuple[dict[str, str], dict[str, str]]:
        """IDs of the models and data that all may use, by what orders hold of them."""
        models = self._catalog.models.page(EVERYBODY, limit=_OFFERED)
        data_sets = self._catalog.data_sets.page(EVERYBODY, limit=_OFFERED)
        return (
            {model.sha256: model.id for model in models},
            {json.dumps(asdict(data.ref)): data.id for data in data_sets},
        )
