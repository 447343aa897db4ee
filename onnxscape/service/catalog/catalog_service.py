"""CatalogService: models and data made of what callers wrote, and those that all may use."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import time
from typing import TYPE_CHECKING, Any, TypeVar

from onnxscape.jobs.order import DataRef
from onnxscape.service.answers.findings import Findings
from onnxscape.service.answers.names import DATA_SETS, MODELS, identifier
from onnxscape.service.answers.pages import after_token, page_size, page_token
from onnxscape.service.answers.rich_errors import (
    BlobsMissingError,
    Exceeded,
    ExhaustedError,
    FailedPreconditionError,
    NotFoundError,
)
from onnxscape.service.caller import current_user
from onnxscape.service.catalog.messages import (
    check_format,
    data_set_message,
    model_message,
    preprocessing_of,
)
from onnxscape.service.catalog.records import (
    LARGEST_AUDIT,
    ArrayEntry,
    DataSetRecord,
    ModelRecord,
    data_set_id,
    model_id,
)
from onnxscape.v1 import catalog_pb2, catalog_pb2_grpc
from onnxscape.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import grpc.aio

    from onnxscape.service.catalog.reader import Reader
    from onnxscape.service.catalog.shelf import Shelf
    from onnxscape.service.catalog.store import CatalogStore
    from onnxscape.storage.blob_folder import BlobFolder
    from onnxscape.v1 import blobs_pb2

    Context = grpc.aio.ServicerContext[Any, Any]

_Record = TypeVar("_Record", ModelRecord, DataSetRecord)

MOST_ENTRIES = 10_000
"""Models, and data sets, of a user."""


class CatalogServicer(catalog_pb2_grpc.CatalogServiceServicer):
    """Answers for models and data sets; nobody sees those of others."""

    def __init__(
        self,
        *,
        folder: BlobFolder,
        catalog: CatalogStore,
        reader: Reader,
        needed: Callable[[str], Collection[str]],
    ) -> None:
        """Answer for a catalog.

        Args:
            folder: The bytes.
            catalog: What is registered.
            reader: Reads models and data.
            needed: Returns the blobs that the jobs of a user refer to.
        """
        self._folder = folder
        self._catalog = catalog
        self._reader = reader
        self._needed = needed

    async def CreateModel(
        self, request: catalog_pb2.CreateModelRequest, context: Context
    ) -> catalog_pb2.CreateModelResponse:
        """Register a model.

        Args:
            request: Its blob, and what it is called.
            context: The call's.

        Returns:
            The model.
        """
        user = current_user()
        await self._check_new(user, request.blob, request.display_name)
        name = request.display_name
        sha256 = request.blob.sha256
        identity = model_id(sha256)
        kept = await asyncio.to_thread(
            self._catalog.models.rename, user, identity, name, version=__version__
        )
        if kept is None:
            facts = await self._reader.audit_model(sha256, user=user)
            await self._check_count(self._catalog.models.count, user)
            record = ModelRecord(
                id=identity,
                user=user,
                display_name=name,
                sha256=sha256,
                size=request.blob.size,
                created=time.time(),
                parameters=facts.parameters,
                moved=facts.moved,
                version=__version__,
            )
            kept = await asyncio.to_thread(
                self._catalog.models.put, record, audit=facts.audit_json
            )
        return catalog_pb2.CreateModelResponse(model=model_message(kept))

    async def GetModel(
        self, request: catalog_pb2.GetModelRequest, context: Context
    ) -> catalog_pb2.GetModelResponse:
        """Tell of a model.

        Args:
            request: Its name.
            context: The call's.

        Returns:
            The model.
        """
        record = await self._model(request.name)
        return catalog_pb2.GetModelResponse(model=model_message(record))

    async def ListModels(
        self, request: catalog_pb2.ListModelsRequest, context: Context
    ) -> catalog_pb2.ListModelsResponse:
        """List the models that the caller may use.

        Args:
            request: The page.
            context: The call's.

        Returns:
            The page.
        """
        found, more = await _page(self._catalog.models, MODELS, request)
        return catalog_pb2.ListModelsResponse(
            models=map(model_message, found), next_page_token=more
        )

    async def DeleteModel(
        self, request: catalog_pb2.DeleteModelRequest, context: Context
    ) -> catalog_pb2.DeleteModelResponse:
        """Forget a model.

        Args:
            request: Its name.
            context: The call's.

        Returns:
            Nothing.
        """
        record = await self._model(request.name)
        await self._forget(self._catalog.models, record, request.name)
        return catalog_pb2.DeleteModelResponse()

    async def InspectModel(
        self, request: catalog_pb2.InspectModelRequest, context: Context
    ) -> catalog_pb2.InspectModelResponse:
        """Tell what moves in a model.

        Args:
            request: Its name.
            context: The call's.

        Returns:
            The audit.

        Raises:
            ExhaustedError: If it does not fit into a message.
        """
        record = await self._model(request.name)
        if record.version != __version__:
            facts = await self._reader.audit_model(record.sha256, user=current_user())
            record = dataclasses.replace(
                record,
                parameters=facts.parameters,
                moved=facts.moved,
                version=__version__,
            )
            await asyncio.to_thread(self._catalog.models.put, record, audit=facts.audit_json)
        audit = await asyncio.to_thread(self._catalog.models.audit, record.user, record.id)
        if audit is None:
            raise ExhaustedError(
                "AUDIT_TOO_LARGE",
                f"the audit of {request.name} has more than {LARGEST_AUDIT} bytes; run "
                "`onnxscape inspect` on the file",
            )
        return catalog_pb2.InspectModelResponse(audit_json=audit)

    async def CreateDataSet(
        self, request: catalog_pb2.CreateDataSetRequest, context: Context
    ) -> catalog_pb2.CreateDataSetResponse:
        """Register data.

        Args:
            request: Its blob, what it is called, and what is known of its arrays.
            context: The call's.

        Returns:
            The data set.
        """
        user = current_user()
        await self._check_new(user, request.blob, request.display_name, request.format)
        name, sha256 = request.display_name, request.blob.sha256
        ref = DataRef(
            name=name,
            blob=sha256,
            layout=request.format.layout or None,
            preprocessing=preprocessing_of(request.format),
            table=request.format.table,
        )
        identity = data_set_id(ref)
        record = await asyncio.to_thread(self._catalog.data_sets.own, user, identity)
        if record is not None:
            record = dataclasses.replace(record, display_name=name or record.display_name)
        else:
            arrays = await self._reader.inspect_data(sha256, ref, user=user)
            await self._check_count(self._catalog.data_sets.count, user)
            record = DataSetRecord(
                id=identity,
                user=user,
                display_name=name,
                sha256=sha256,
                size=request.blob.size,
                created=time.time(),
                layout=ref.layout,
                preprocessing=ref.preprocessing,
                table=ref.table,
                arrays=tuple(ArrayEntry(n, dtype, tuple(shape)) for n, dtype, shape in arrays),
            )
        kept = await asyncio.to_thread(self._catalog.data_sets.put, record)
        return catalog_pb2.CreateDataSetResponse(data_set=data_set_message(kept))

    async def GetDataSet(
        self, request: catalog_pb2.GetDataSetRequest, context: Context
    ) -> catalog_pb2.GetDataSetResponse:
        """Tell of a data set.

        Args:
            request: Its name.
            context: The call's.

        Returns:
            The data set.
        """
        record = await self._data_set(request.name)
        return catalog_pb2.GetDataSetResponse(data_set=data_set_message(record))

    async def ListDataSets(
        self, request: catalog_pb2.ListDataSetsRequest, context: Context
    ) -> catalog_pb2.ListDataSetsResponse:
        """List the data sets that the caller may use.

        Args:
            request: The page.
            context: The call's.

        Returns:
            The page.
        """
        found, more = await _page(self._catalog.data_sets, DATA_SETS, request)
        return catalog_pb2.ListDataSetsResponse(
            data_sets=map(data_set_message, found), next_page_token=more
        )

    async def DeleteDataSet(
        self, request: catalog_pb2.DeleteDataSetRequest, context: Context
    ) -> catalog_pb2.DeleteDataSetResponse:
        """Forget a data set.

        Args:
            request: Its name.
            context: The call's.

        Returns:
            Nothing.
        """
        record = await self._data_set(request.name)
        await self._forget(self._catalog.data_sets, record, request.name)
        return catalog_pb2.DeleteDataSetResponse()

    async def _model(self, name: str) -> ModelRecord:
        return await _found(self._catalog.models, MODELS, name, "model")

    async def _data_set(self, name: str) -> DataSetRecord:
        return await _found(self._catalog.data_sets, DATA_SETS, name, "data set")

    async def _forget(
        self, shelf: Shelf[Any], record: ModelRecord | DataSetRecord, name: str
    ) -> None:
        if record.public:
            raise FailedPreconditionError(
                "PUBLIC", f"{name} is offered to all by the server; expected one of your own"
            )
        await asyncio.to_thread(shelf.delete, record.user, record.id)
        await asyncio.to_thread(self._release, record)

    async def _check_new(
        self,
        user: str,
        blob: blobs_pb2.Digest,
        display_name: str,
        form: catalog_pb2.DataFormat | None = None,
    ) -> None:
        findings = Findings()
        findings.digest("blob", blob)
        findings.text("display_name", display_name, longest=256)
        if not display_name.isprintable():
            findings.add("display_name", "printable characters", display_name)
        if form is not None:
            check_format(form, findings)
        findings.refuse()
        size = await asyncio.to_thread(self._catalog.grants.size, user, blob.sha256)
        if size != blob.size:
            raise BlobsMissingError([blob.sha256])

    @staticmethod
    async def _check_count(count: Callable[[str], int], user: str) -> None:
        if await asyncio.to_thread(count, user) >= MOST_ENTRIES:
            raise ExhaustedError(
                "ENTRIES",
                f"you have {MOST_ENTRIES} of them, which is the most; delete some",
                exceeded=[Exceeded("catalog", f"{MOST_ENTRIES} entries")],
            )

    def _release(self, record: ModelRecord | DataSetRecord) -> None:
        """Let go of the bytes of what was forgotten, unless something of its user needs them.

        Jobs of others do not count: whether they work on the same bytes is not to be seen.
        """
        sha256 = record.sha256
        if sha256 is not None and self._catalog.grants.release(
            record.user, sha256, needed=self._needed(record.user)
        ):
            # An order that found the model a moment ago may still be on its way.
            self._folder.touch(sha256)


async def _found(shelf: Shelf[_Record], kind: str, name: str, what: str) -> _Record:
    """Return what the caller may use, by its name.

    Raises:
        NotFoundError: If there is none.
    """
    identity = identifier(kind, name, "name")
    found = await asyncio.to_thread(shelf.get, current_user(), identity)
    if found is None:
        raise NotFoundError(what, name)
    return found


async def _page(
    shelf: Shelf[_Record],
    kind: str,
    request: catalog_pb2.ListModelsRequest | catalog_pb2.ListDataSetsRequest,
) -> tuple[list[_Record], str]:
    """Return what the caller may use, a page of it, and what asks for the next one."""
    size, before = page_size(request.page_size), after_token(kind, request.page_token)
    ask = functools.partial(shelf.page, current_user(), limit=size + 1, before=before)
    found = await asyncio.to_thread(ask)
    more = page_token(kind, found[size - 1].number) if len(found) > size else ""
    return found[:size], more
