import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from onnxscape.v1 import blobs_pb2 as _blobs_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_FINISHING: _ClassVar[JobState]
    JOB_STATE_CANCELLING: _ClassVar[JobState]
    JOB_STATE_SUCCEEDED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]

class SurfaceFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SURFACE_FORMAT_UNSPECIFIED: _ClassVar[SurfaceFormat]
    SURFACE_FORMAT_ARRAYS: _ClassVar[SurfaceFormat]
    SURFACE_FORMAT_HDF5: _ClassVar[SurfaceFormat]
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_FINISHING: JobState
JOB_STATE_CANCELLING: JobState
JOB_STATE_SUCCEEDED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
SURFACE_FORMAT_UNSPECIFIED: SurfaceFormat
SURFACE_FORMAT_ARRAYS: SurfaceFormat
SURFACE_FORMAT_HDF5: SurfaceFormat

class JobSpec(_message.Message):
    __slots__ = ("model", "data", "split", "samples", "grid", "directions", "loss", "input_format", "precision", "weights", "savings")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    DIRECTIONS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FORMAT_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    SAVINGS_FIELD_NUMBER: _ClassVar[int]
    model: str
    data: str
    split: str
    samples: Samples
    grid: Grid
    directions: Directions
    loss: Loss
    input_format: InputFormat
    precision: str
    weights: _blobs_pb2.Digest
    savings: Savings
    def __init__(self, model: _Optional[str] = ..., data: _Optional[str] = ..., split: _Optional[str] = ..., samples: _Optional[_Union[Samples, _Mapping]] = ..., grid: _Optional[_Union[Grid, _Mapping]] = ..., directions: _Optional[_Union[Directions, _Mapping]] = ..., loss: _Optional[_Union[Loss, _Mapping]] = ..., input_format: _Optional[_Union[InputFormat, _Mapping]] = ..., precision: _Optional[str] = ..., weights: _Optional[_Union[_blobs_pb2.Digest, _Mapping]] = ..., savings: _Optional[_Union[Savings, _Mapping]] = ...) -> None: ...

class Samples(_message.Message):
    __slots__ = ("count", "all", "auto")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    AUTO_FIELD_NUMBER: _ClassVar[int]
    count: int
    all: bool
    auto: bool
    def __init__(self, count: _Optional[int] = ..., all: bool = ..., auto: bool = ...) -> None: ...

class Grid(_message.Message):
    __slots__ = ("x", "y")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    x: Axis
    y: Axis
    def __init__(self, x: _Optional[_Union[Axis, _Mapping]] = ..., y: _Optional[_Union[Axis, _Mapping]] = ...) -> None: ...

class Axis(_message.Message):
    __slots__ = ("start", "stop", "num")
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    NUM_FIELD_NUMBER: _ClassVar[int]
    start: float
    stop: float
    num: int
    def __init__(self, start: _Optional[float] = ..., stop: _Optional[float] = ..., num: _Optional[int] = ...) -> None: ...

class Directions(_message.Message):
    __slots__ = ("seed", "normalization", "ignore", "orthogonal", "file", "include", "exclude", "filter_axis")
    class FilterAxisEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SEED_FIELD_NUMBER: _ClassVar[int]
    NORMALIZATION_FIELD_NUMBER: _ClassVar[int]
    IGNORE_FIELD_NUMBER: _ClassVar[int]
    ORTHOGONAL_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FIELD_NUMBER: _ClassVar[int]
    FILTER_AXIS_FIELD_NUMBER: _ClassVar[int]
    seed: int
    normalization: str
    ignore: str
    orthogonal: bool
    file: _blobs_pb2.Digest
    include: _containers.RepeatedScalarFieldContainer[str]
    exclude: _containers.RepeatedScalarFieldContainer[str]
    filter_axis: _containers.ScalarMap[str, int]
    def __init__(self, seed: _Optional[int] = ..., normalization: _Optional[str] = ..., ignore: _Optional[str] = ..., orthogonal: bool = ..., file: _Optional[_Union[_blobs_pb2.Digest, _Mapping]] = ..., include: _Optional[_Iterable[str]] = ..., exclude: _Optional[_Iterable[str]] = ..., filter_axis: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Loss(_message.Message):
    __slots__ = ("name", "metrics", "no_metrics", "output", "class_axis", "ignore_index", "label_smoothing", "huber_delta", "graphs")
    class GraphsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _blobs_pb2.Digest
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_blobs_pb2.Digest, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    NO_METRICS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    CLASS_AXIS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    HUBER_DELTA_FIELD_NUMBER: _ClassVar[int]
    GRAPHS_FIELD_NUMBER: _ClassVar[int]
    name: str
    metrics: _containers.RepeatedScalarFieldContainer[str]
    no_metrics: bool
    output: str
    class_axis: int
    ignore_index: int
    label_smoothing: float
    huber_delta: float
    graphs: _containers.MessageMap[str, _blobs_pb2.Digest]
    def __init__(self, name: _Optional[str] = ..., metrics: _Optional[_Iterable[str]] = ..., no_metrics: bool = ..., output: _Optional[str] = ..., class_axis: _Optional[int] = ..., ignore_index: _Optional[int] = ..., label_smoothing: _Optional[float] = ..., huber_delta: _Optional[float] = ..., graphs: _Optional[_Mapping[str, _blobs_pb2.Digest]] = ...) -> None: ...

class InputFormat(_message.Message):
    __slots__ = ("layout", "mean", "std", "scale")
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    layout: str
    mean: _containers.RepeatedScalarFieldContainer[float]
    std: _containers.RepeatedScalarFieldContainer[float]
    scale: str
    def __init__(self, layout: _Optional[str] = ..., mean: _Optional[_Iterable[float]] = ..., std: _Optional[_Iterable[float]] = ..., scale: _Optional[str] = ...) -> None: ...

class Savings(_message.Message):
    __slots__ = ("adaptive", "tolerance", "stderr", "two_level")
    ADAPTIVE_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    TWO_LEVEL_FIELD_NUMBER: _ClassVar[int]
    adaptive: bool
    tolerance: float
    stderr: float
    two_level: int
    def __init__(self, adaptive: bool = ..., tolerance: _Optional[float] = ..., stderr: _Optional[float] = ..., two_level: _Optional[int] = ...) -> None: ...

class Execution(_message.Message):
    __slots__ = ("device", "strategy", "batch_size")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    device: str
    strategy: str
    batch_size: int
    def __init__(self, device: _Optional[str] = ..., strategy: _Optional[str] = ..., batch_size: _Optional[int] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("name", "spec", "execution", "display_name", "priority", "state", "error", "revision", "point_total", "point_count", "failed_count", "estimate", "spec_json", "plan_json", "outline_json", "notes", "warnings", "create_time", "start_time", "end_time", "device_time", "shared")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    POINT_TOTAL_FIELD_NUMBER: _ClassVar[int]
    POINT_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    PLAN_JSON_FIELD_NUMBER: _ClassVar[int]
    OUTLINE_JSON_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    name: str
    spec: JobSpec
    execution: Execution
    display_name: str
    priority: int
    state: JobState
    error: JobError
    revision: int
    point_total: int
    point_count: int
    failed_count: int
    estimate: CostEstimate
    spec_json: str
    plan_json: str
    outline_json: str
    notes: _containers.RepeatedScalarFieldContainer[str]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    device_time: _duration_pb2.Duration
    shared: bool
    def __init__(self, name: _Optional[str] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., execution: _Optional[_Union[Execution, _Mapping]] = ..., display_name: _Optional[str] = ..., priority: _Optional[int] = ..., state: _Optional[_Union[JobState, str]] = ..., error: _Optional[_Union[JobError, _Mapping]] = ..., revision: _Optional[int] = ..., point_total: _Optional[int] = ..., point_count: _Optional[int] = ..., failed_count: _Optional[int] = ..., estimate: _Optional[_Union[CostEstimate, _Mapping]] = ..., spec_json: _Optional[str] = ..., plan_json: _Optional[str] = ..., outline_json: _Optional[str] = ..., notes: _Optional[_Iterable[str]] = ..., warnings: _Optional[_Iterable[str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., device_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., shared: bool = ...) -> None: ...

class JobError(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class CostEstimate(_message.Message):
    __slots__ = ("points", "device_time", "memory", "completion")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    points: int
    device_time: _duration_pb2.Duration
    memory: int
    completion: _duration_pb2.Duration
    def __init__(self, points: _Optional[int] = ..., device_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., memory: _Optional[int] = ..., completion: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class CreateJobRequest(_message.Message):
    __slots__ = ("spec", "execution", "display_name", "priority", "request_id", "validate_only")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    spec: JobSpec
    execution: Execution
    display_name: str
    priority: int
    request_id: str
    validate_only: bool
    def __init__(self, spec: _Optional[_Union[JobSpec, _Mapping]] = ..., execution: _Optional[_Union[Execution, _Mapping]] = ..., display_name: _Optional[str] = ..., priority: _Optional[int] = ..., request_id: _Optional[str] = ..., validate_only: bool = ...) -> None: ...

class CreateJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "states")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    states: _containers.RepeatedScalarFieldContainer[JobState]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., states: _Optional[_Iterable[_Union[JobState, str]]] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class DeleteJobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteJobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("name", "after_revision")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AFTER_REVISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    after_revision: int
    def __init__(self, name: _Optional[str] = ..., after_revision: _Optional[int] = ...) -> None: ...

class WatchJobResponse(_message.Message):
    __slots__ = ("revision", "job", "points", "heartbeat")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    revision: int
    job: Job
    points: PointBatch
    heartbeat: Heartbeat
    def __init__(self, revision: _Optional[int] = ..., job: _Optional[_Union[Job, _Mapping]] = ..., points: _Optional[_Union[PointBatch, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PointBatch(_message.Message):
    __slots__ = ("metrics", "points")
    METRICS_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.RepeatedScalarFieldContainer[str]
    points: _containers.RepeatedCompositeFieldContainer[Point]
    def __init__(self, metrics: _Optional[_Iterable[str]] = ..., points: _Optional[_Iterable[_Union[Point, _Mapping]]] = ...) -> None: ...

class Point(_message.Message):
    __slots__ = ("row", "column", "alpha", "beta", "values", "failure")
    ROW_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    row: int
    column: int
    alpha: float
    beta: float
    values: _containers.RepeatedScalarFieldContainer[float]
    failure: str
    def __init__(self, row: _Optional[int] = ..., column: _Optional[int] = ..., alpha: _Optional[float] = ..., beta: _Optional[float] = ..., values: _Optional[_Iterable[float]] = ..., failure: _Optional[str] = ...) -> None: ...

class ReadSurfaceRequest(_message.Message):
    __slots__ = ("name", "format")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    name: str
    format: SurfaceFormat
    def __init__(self, name: _Optional[str] = ..., format: _Optional[_Union[SurfaceFormat, str]] = ...) -> None: ...

class ReadSurfaceResponse(_message.Message):
    __slots__ = ("header", "piece", "file")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    header: SurfaceHeader
    piece: SurfacePiece
    file: bytes
    def __init__(self, header: _Optional[_Union[SurfaceHeader, _Mapping]] = ..., piece: _Optional[_Union[SurfacePiece, _Mapping]] = ..., file: _Optional[bytes] = ...) -> None: ...

class SurfaceHeader(_message.Message):
    __slots__ = ("shape", "x", "y", "metrics", "center", "complete", "spec_json", "plan_json")
    class CenterEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    CENTER_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    PLAN_JSON_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    x: _containers.RepeatedScalarFieldContainer[float]
    y: _containers.RepeatedScalarFieldContainer[float]
    metrics: _containers.RepeatedScalarFieldContainer[str]
    center: _containers.ScalarMap[str, float]
    complete: bool
    spec_json: str
    plan_json: str
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., x: _Optional[_Iterable[float]] = ..., y: _Optional[_Iterable[float]] = ..., metrics: _Optional[_Iterable[str]] = ..., center: _Optional[_Mapping[str, float]] = ..., complete: bool = ..., spec_json: _Optional[str] = ..., plan_json: _Optional[str] = ...) -> None: ...

class SurfacePiece(_message.Message):
    __slots__ = ("metric", "offset", "values")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    metric: str
    offset: int
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, metric: _Optional[str] = ..., offset: _Optional[int] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...
