import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "limits", "devices", "quota")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    version: str
    limits: Limits
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    quota: Quota
    def __init__(self, version: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., quota: _Optional[_Union[Quota, _Mapping]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("blob_bytes", "message_bytes", "chunk_bytes", "grid_points", "model_nodes", "memory_bytes", "job_device_time")
    BLOB_BYTES_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    GRID_POINTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_NODES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    JOB_DEVICE_TIME_FIELD_NUMBER: _ClassVar[int]
    blob_bytes: int
    message_bytes: int
    chunk_bytes: int
    grid_points: int
    model_nodes: int
    memory_bytes: int
    job_device_time: _duration_pb2.Duration
    def __init__(self, blob_bytes: _Optional[int] = ..., message_bytes: _Optional[int] = ..., chunk_bytes: _Optional[int] = ..., grid_points: _Optional[int] = ..., model_nodes: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., job_device_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("name", "description", "slots")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    slots: int
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., slots: _Optional[int] = ...) -> None: ...

class Quota(_message.Message):
    __slots__ = ("user", "active_jobs_limit", "active_jobs", "watchers_limit", "watchers", "blob_bytes_limit", "blob_bytes", "device_time_limit", "device_time", "weight", "kept_jobs_limit", "kept_jobs")
    USER_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_JOBS_LIMIT_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_JOBS_FIELD_NUMBER: _ClassVar[int]
    WATCHERS_LIMIT_FIELD_NUMBER: _ClassVar[int]
    WATCHERS_FIELD_NUMBER: _ClassVar[int]
    BLOB_BYTES_LIMIT_FIELD_NUMBER: _ClassVar[int]
    BLOB_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_LIMIT_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    KEPT_JOBS_LIMIT_FIELD_NUMBER: _ClassVar[int]
    KEPT_JOBS_FIELD_NUMBER: _ClassVar[int]
    user: str
    active_jobs_limit: int
    active_jobs: int
    watchers_limit: int
    watchers: int
    blob_bytes_limit: int
    blob_bytes: int
    device_time_limit: _duration_pb2.Duration
    device_time: _duration_pb2.Duration
    weight: float
    kept_jobs_limit: int
    kept_jobs: int
    def __init__(self, user: _Optional[str] = ..., active_jobs_limit: _Optional[int] = ..., active_jobs: _Optional[int] = ..., watchers_limit: _Optional[int] = ..., watchers: _Optional[int] = ..., blob_bytes_limit: _Optional[int] = ..., blob_bytes: _Optional[int] = ..., device_time_limit: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., device_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., weight: _Optional[float] = ..., kept_jobs_limit: _Optional[int] = ..., kept_jobs: _Optional[int] = ...) -> None: ...
