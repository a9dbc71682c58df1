"""Pupilla on Ray, for work that one machine does not finish.

`inspect` judges many images, `train_grid` trains and measures many models, and `Inspect` is a step of `ray.data`. Each
worker computes with as many threads as Ray gives it CPUs. Models and scores are then those of one machine with this
number of threads. An address is a path, or what fsspec takes, such as ``s3://bucket/folder``.

>>> import pupilla.ray  # doctest: +SKIP
>>> pupilla.ray.inspect("s3://bucket/images", "part.pupilla", out="s3://bucket/verdicts")  # doctest: +SKIP
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import operator
import os
import pickle
import threading
import time
import urllib.parse
import uuid
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Union

import numpy as np
import numpy.typing as npt

try:
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq
    import ray
    import ray.data
    from fsspec.implementations.local import LocalFileSystem
    from ray.data.block import BlockAccessor
    from ray.data.dataset import MaterializedDataset
except ImportError as _missing:
    raise ImportError('pupilla.ray needs Ray and fsspec: pip install "pupilla[ray]"') from _missing

from . import _core, _inputs, _settings_words
from ._commands import evaluate, train
from ._dataset import Dataset
from ._model import Model
from ._progress import Listener, Progress
from .errors import DatasetError, ImageError, InspectionError, ModelError, PupillaError, PupillaWarning, SettingError

if TYPE_CHECKING:
    from typing_extensions import Unpack

Address = Union[str, "os.PathLike[str]"]
AnyModel = Union[Address, bytes, Model, "ray.ObjectRef[Any]"]
Place = Union[Address, Dataset]
Batch = Mapping[str, "npt.NDArray[Any]"]

# Enough that reading from another machine takes no time beside inspection.
_READERS = 4


class InspectSettings(TypedDict, total=False):
    """The settings that `inspect` hands to `Inspect`."""

    column: str
    skip_unreadable: bool
    regions: bool
    heatmaps: Address
    threshold: float
    pixel_threshold: float
    min_area: int
    roi: npt.ArrayLike


class Inspect:
    """Judges batches of images: a class for ``map_batches`` of a ``ray.data.Dataset``. Each actor loads the model once.

    >>> images = ray.data.from_items([{"path": "a.png"}, {"path": "b.png"}])  # doctest: +SKIP
    >>> verdicts = images.map_batches(  # doctest: +SKIP
    ...     Inspect,
    ...     fn_constructor_kwargs={"model": "part.pupilla"},
    ...     compute=ray.data.ActorPoolStrategy(size=2),
    ...     num_cpus=1,
    ... )

    ``model`` is an address, the bytes of a model file, a `Model`, or a reference from ``ray.put`` to one of these.

    ``column`` names the column of the images: addresses, bytes of files, or arrays. Without ``column``, the first of
    "image", "bytes", "path" and "item" is the column. The result leaves out images that are bytes or arrays. It has
    the other columns, and these:

    - ``pred_score`` (float32), ``pred_label`` (bool) and ``region_count`` (int32), as `Result` has them.
    - ``unlike_training``: how the image was taken otherwise than the images of the training. It is null if the model
      does not know.
    - ``error``, with ``skip_unreadable=True``: why the image cannot be judged. The columns above are then null.
    - ``regions``, with ``regions=True``: JSON, as ``pupilla inspect --json`` has it.
    - ``heatmap``, with ``heatmaps="folder"``: the address of the heatmap, a PNG in this folder.
    - ``anomaly_map``, with ``anomaly_map=True``: an array ``[height, width]`` of float32. An image with an error has an
      array without pixels.

    ``threshold``, ``pixel_threshold``, ``min_area`` and ``roi`` are those of `Model.inspect`.
    """

    def __init__(
        self,
        model: AnyModel,
        *,
        column: str | None = None,
        skip_unreadable: bool = False,
        regions: bool = False,
        heatmaps: Address | None = None,
        anomaly_map: bool = False,
        threshold: float | None = None,
        pixel_threshold: float | None = None,
        min_area: int = 1,
        roi: npt.ArrayLike | None = None,
    ) -> None:
        _compute_with_own_cpus()
        self._model = _loaded(model)
        self._column = column
        self._skip_unreadable = skip_unreadable
        self._regions = regions
        self._heatmaps = None if heatmaps is None else _Folder(heatmaps)
        self._anomaly_map = anomaly_map
        self._rule: dict[str, Any] = {
            "threshold": threshold,
            "pixel_threshold": pixel_threshold,
            "min_area": min_area,
            "roi": roi,
        }

    def __call__(self, batch: Batch) -> pa.Table:
        column = _image_column(batch, self._column)
        rows = list(self._rows(list(batch[column]), _names(batch, column)))
        kept: dict[str, Any] = {name: values for name, values in batch.items() if name != column or _are_texts(values)}
        if self._anomaly_map:
            kept["anomaly_map"] = [row["anomaly_map"] for row in rows]
        columns = {}
        if kept:
            block = BlockAccessor.for_block(BlockAccessor.batch_to_block(kept)).to_arrow()
            columns = {name: block[name] for name in block.column_names}
        for name, kind in self._columns().items():
            columns[name] = pa.array([row.get(name) for row in rows], kind)
        return pa.table(columns)

    def _columns(self) -> dict[str, pa.DataType]:
        """Names and types of the new columns, so that all batches have the same types."""
        columns = {
            "pred_score": pa.float32(),
            "pred_label": pa.bool_(),
            "region_count": pa.int32(),
            "unlike_training": pa.string(),
        }
        wanted = {"error": self._skip_unreadable, "regions": self._regions, "heatmap": self._heatmaps is not None}
        return {**columns, **{name: pa.string() for name, is_wanted in wanted.items() if is_wanted}}

    def _rows(self, images: list[Any], names: list[str]) -> Iterator[dict[str, Any]]:
        """Judges images in their order, and reads the next images during the work."""
        waiting: deque[Future[_core.Image]] = deque()
        with ThreadPoolExecutor(_READERS, thread_name_prefix="pupilla reader") as reader:
            for index, (image, name) in enumerate(zip(images, names)):
                ahead = slice(index + len(waiting), index + _READERS)
                waiting.extend(map(reader.submit, repeat(_read_image), images[ahead], names[ahead]))
                try:
                    yield self._row(waiting.popleft().result(), image, name)
                except (ImageError, InspectionError) as error:
                    if not self._skip_unreadable:
                        raise
                    yield {"error": str(error), "anomaly_map": np.zeros((0, 0), np.float32)}

    def _row(self, read: _core.Image, image: Any, name: str) -> dict[str, Any]:
        result = self._model.inspect(read, **self._rule)
        regions = result.to_dict()["regions"]
        row: dict[str, Any] = {
            "pred_score": result.pred_score,
            "pred_label": result.pred_label,
            "region_count": len(regions),
            "unlike_training": None if result.unlike_training is None else "; ".join(result.unlike_training),
        }
        if self._regions:
            row["regions"] = json.dumps(regions)
        if self._anomaly_map:
            row["anomaly_map"] = result.anomaly_map
        if self._heatmaps is not None:
            # The name depends on the image alone: a batch that is repeated writes the same files.
            file = f"{_quoted(PurePath(name).stem)}-{_digits(image)[:12]}.png"
            self._heatmaps.write(file, result._repr_png_())
            row["heatmap"] = self._heatmaps.address(file)
        return row


def _image_column(batch: Batch, wanted: str | None) -> str:
    if not isinstance(batch, Mapping):
        raise SettingError("Inspect takes batches of NumPy arrays: leave batch_format out")
    names = ["image", "bytes", "path", "item"] if wanted is None else [wanted]
    for name in names:
        if name in batch:
            return name
    missing = f"there is no column {' or '.join(names)} among {', '.join(batch)}"
    raise SettingError(f"{missing}: give column, the name of the column of the images")


def _names(batch: Batch, column: str) -> list[str]:
    """What errors call the images: their addresses, if there are any."""
    for name in (column, "path"):
        if name in batch and _are_texts(batch[name]):
            return [str(text) for text in batch[name]]
    return [f"image {index}" for index in range(len(batch[column]))]


def _are_texts(values: Iterable[Any]) -> bool:
    return any(isinstance(value, str) for value in values)


def _read_image(image: Any, name: str) -> _core.Image:
    if not isinstance(image, str) or "://" not in image:
        return _inputs.image(image, name)
    try:
        with fsspec.open(image, "rb") as file:
            content = file.read()
    except Exception as error:
        # Each file system has errors of its own.
        raise ImageError(f"cannot read {image}: {error}") from error
    return _inputs.image(content, image)


def _digits(image: Any) -> str:
    if isinstance(image, str):
        image = image.encode()
    return hashlib.sha256(image if isinstance(image, bytes) else np.asarray(image).tobytes()).hexdigest()


def _loaded(model: AnyModel) -> Model:
    given: Any = ray.get(model) if isinstance(model, ray.ObjectRef) else model
    if isinstance(given, Model):
        return given
    if isinstance(given, bytes):
        return Model.from_bytes(given)
    address = os.fspath(given)
    if "://" not in address:
        return Model.load(address)
    folder, _, name = address.rpartition("/")
    content = _Folder(folder).read(name)
    if content is None:
        raise ModelError(f"there is no model {address}: give the address of a model file")
    return Model.from_bytes(content)


def _compute_with_own_cpus() -> None:
    """In a process of Ray: as many threads as Ray gives it CPUs."""
    if not ray.is_initialized():
        return
    try:
        resources = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
    except AssertionError:
        # The process that calls Ray has its own threads.
        return
    _core.set_threads(max(1, int(resources.get("CPU", 0))))


def inspect(
    images: Address | Iterable[Address] | ray.data.Dataset,
    model: AnyModel,
    *,
    out: Address,
    workers: int | None = None,
    cpus_per_worker: int = 1,
    format: Literal["parquet", "jsonl"] = "parquet",
    images_per_file: int | None = None,
    progress: Progress = None,
    **settings: Unpack[InspectSettings],
) -> dict[str, int]:
    """Judges many images by workers on all machines of the cluster. Writes files of verdicts into the folder ``out``.

    ``images`` is a folder with all folders below, a pattern such as ``s3://bucket/*/*.png``, a list of addresses, or a
    ``ray.data.Dataset``. Every machine must see the images under their addresses. Without ``workers``, the workers
    take all CPUs of the cluster. Further settings are those of `Inspect`, which also says what the columns mean.

    Ray replaces a worker that dies, and the batch is judged again: no row is lost, and no row is there twice. If the
    call itself dies, the same call goes on: it judges the images that have no row in ``out``. It knows the images by
    their addresses, not by their content. A data set of Ray needs the addresses in a column "path" for this.

    Gives numbers of images: ``judged``, ``defective`` and ``unreadable`` now, and ``before`` by earlier calls.
    """
    _check_counts(workers=workers, cpus_per_worker=cpus_per_worker, images_per_file=images_per_file)
    if format not in _FORMATS:
        raise SettingError(f"format is {format!r}: give parquet or jsonl")
    if "anomaly_map" in settings:
        raise SettingError("anomaly_map is a setting of Inspect: inspect writes no maps. Give heatmaps for pictures")
    verdicts = _Folder(out)
    if settings.get("heatmaps") is not None:
        settings["heatmaps"] = _Folder(settings["heatmaps"]).root
    paths = None if isinstance(images, ray.data.Dataset) else _listed(images, settings.get("heatmaps"))
    loaded = _loaded(model)
    Inspect(loaded, **settings)
    _claim(verdicts, loaded, format, settings)
    before = _judged_before(verdicts, format)
    numbers = dict.fromkeys(_NUMBERS, 0)
    if paths is not None:
        left = [path for path in paths if path not in before]
        numbers["before"], before = len(paths) - len(left), set()
        if not left:
            return numbers
    _start(cpus_per_worker, 0 if paths is not None or isinstance(images, MaterializedDataset) else 1)
    most = workers or max(1, _cpus_of_cluster() // cpus_per_worker)
    if isinstance(images, ray.data.Dataset):
        dataset, total, batch_size = images, None, images_per_file or _IMAGES_PER_FILE_IN_MEMORY
        # The pool grows from one actor, because Ray needs CPUs to read.
        least = 1
    else:
        total, batch_size = len(left), None
        tables = _tables(left, images_per_file or min(_IMAGES_PER_FILE, -(-total // (_FILES_PER_WORKER * most))))
        dataset = ray.data.from_arrow(tables)
        least = most = min(most, len(tables))
    call, written = uuid.uuid4().hex[:12], set()
    files = dataset.map_batches(
        _Writer,
        batch_size=batch_size,
        fn_constructor_kwargs={
            "model": ray.put(loaded),
            "before": ray.put(before),
            "out": verdicts,
            "format": format,
            "call": call,
            "settings": settings,
        },
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
        num_cpus=cpus_per_worker,
    )
    files.context.enable_progress_bars = False
    with Listener(progress) as listener:
        listener({"event": "start", "stage": "inspect", "total": total})
        for file in files.iter_rows():
            if file["failure"]:
                raise pickle.loads(file["failure"])
            written.add(file["file"])
            for name in _NUMBERS:
                numbers[name] += file[name]
            listener({"event": "progress", "done": numbers["judged"], "loss": None})
        listener({"event": "finish"})
    for name in verdicts.names():
        # A worker that died had written this file, and another worker has judged its batch again.
        if name.startswith(f"{_PART}{call}") and name not in written:
            verdicts.remove(name)
    return numbers


def _tables(paths: list[str], rows: int) -> list[pa.Table]:
    """The images of each file of verdicts."""
    return [pa.table({"path": paths[start : start + rows]}) for start in range(0, len(paths), rows)]


_NUMBERS = ("judged", "defective", "unreadable", "before")
_FORMATS = ("parquet", "jsonl")
_IMAGES_PER_FILE = 256
# Images of a data set of Ray lie in memory, a batch at a time.
_IMAGES_PER_FILE_IN_MEMORY = 32
_FILES_PER_WORKER = 4
_CLAIM = "_run.json"
_PART = "part-"


class _Writer:
    """Judges batches. Writes a file for each batch. Gives a row with the name of the file and its numbers of images."""

    def __init__(
        self,
        model: ray.ObjectRef[Model],
        before: ray.ObjectRef[set[str]],
        out: _Folder,
        format: str,
        call: str,
        settings: InspectSettings,
    ) -> None:
        self._inspect = Inspect(model, **settings)
        self._before = ray.get(before)
        self._out = out
        self._format = format
        self._call = call

    def __call__(self, batch: Batch) -> dict[str, list[Any]]:
        row: dict[str, Any] = {
            "file": f"{_PART}{self._call}-{uuid.uuid4().hex[:12]}.{self._format}",
            "failure": b"",
            **dict.fromkeys(_NUMBERS, 0),
        }
        try:
            row.update(self._judge(batch, row["file"]))
        except PupillaError as error:
            # As a value, because Ray's own errors hide what was wrong.
            row["failure"] = pickle.dumps(error)
        return {name: [value] for name, value in row.items()}

    def _judge(self, batch: Batch, file: str) -> dict[str, int]:
        given = len(next(iter(batch.values())))
        if self._before:
            if "path" not in batch:
                text = "has results, and a call with images without a column path cannot go on: give another folder"
                raise SettingError(f"{self._out.root} {text}")
            new = np.array([str(path) not in self._before for path in batch["path"]], dtype=bool)
            batch = {name: values[new] for name, values in batch.items()}
        count = len(next(iter(batch.values())))
        if not count:
            return {"before": given}
        table = self._inspect(batch)
        self._out.write(file, _parquet(table) if self._format == "parquet" else _lines(table))
        labels = table["pred_label"].to_pylist()
        return {
            "judged": count,
            "defective": labels.count(True),
            "unreadable": labels.count(None),
            "before": given - count,
        }


def _parquet(table: pa.Table) -> bytes:
    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


def _lines(table: pa.Table) -> bytes:
    rows = table.to_pylist()
    for row in rows:
        if row.get("regions"):
            row["regions"] = json.loads(row["regions"])
    try:
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    except TypeError as error:
        text = f"a column does not fit into JSON ({error}): leave the column out, or give format='parquet'"
        raise SettingError(text) from error


def _claim(out: _Folder, model: Model, format: str, settings: InspectSettings) -> None:
    """Writes which model and settings the results of a folder are of. Refuses a folder with other results."""
    claim = {
        "program": f"pupilla {_core.version()}",
        "model": hashlib.sha256(model.to_bytes()).hexdigest(),
        "computing": list(model._computing),
        "format": format,
        **{name: _digits(value) if name == "roi" else value for name, value in settings.items() if value is not None},
    }
    there = out.read_values(_CLAIM)
    if not there:
        out.write(_CLAIM, json.dumps(claim, indent=2).encode())
        return
    other = sorted(name for name in {*claim, *there} if claim.get(name) != there.get(name))
    if other:
        text = f"has results with another {', '.join(other)}: give another folder, or remove the results"
        raise SettingError(f"{out.root} {text}")


def _judged_before(out: _Folder, format: str) -> set[str]:
    """The addresses of the images that have results. Removes what a crash has left: files that were cut off, and a
    file of images that another file has too."""
    files = [name for name in out.names() if name.startswith((_PART, f".{_PART}"))]
    judged: set[str] = set()
    with ThreadPoolExecutor(4 * _READERS) as readers:
        for file, rows in zip(files, readers.map(lambda file: _paths_in(out.read(file) or b"", format), files)):
            if rows is None or judged.issuperset(rows):
                out.remove(file)
            elif "" in rows:
                text = "has results of images without addresses: a call cannot go on from these. Give another folder"
                raise SettingError(f"{out.root} {text}")
            else:
                judged.update(rows)
    return judged


def _paths_in(content: bytes, format: str) -> list[str] | None:
    """The addresses of a file of results, "" for an image without an address; ``None`` if the file was cut off."""
    try:
        if format == "parquet":
            table = pq.read_table(io.BytesIO(content))
            return table["path"].to_pylist() if "path" in table.column_names else [""]
        *lines, end = content.decode().split("\n")
        return [json.loads(line).get("path", "") for line in lines] if lines and not end else None
    except (pa.ArrowInvalid, OSError, ValueError):
        return None


def _listed(images: Address | Iterable[Any], heatmaps: Address | None) -> list[str]:
    """The addresses of the images, each of them once."""
    if isinstance(images, (str, os.PathLike)):
        folder = _Folder(images)
        found = folder.images()
        if heatmaps is not None and f"{heatmaps}/".startswith(f"{folder.root}/"):
            raise SettingError(f"heatmaps is a folder among the images of {images}: give a folder beside the images")
    else:
        found = [_absolute(image) for image in images]
    if not found:
        raise DatasetError(f"{images} holds no image: give a folder, a pattern or a list of images")
    return list(dict.fromkeys(found))


def _absolute(image: Any) -> str:
    if not isinstance(image, (str, os.PathLike)):
        text = "give addresses, or a ray.data.Dataset of bytes or arrays"
        raise SettingError(f"images has a {type(image).__name__}: {text}")
    address = os.fspath(image)
    return address if "://" in address else os.path.abspath(address)


def train_grid(
    categories: Place | Iterable[Place] | Mapping[str, Place],
    detectors: str | Iterable[str] | Mapping[str, Mapping[str, Any]],
    seeds: Iterable[int] = (0,),
    *,
    out: Address,
    cpus_per_task: int = 1,
    max_retries: int = 3,
    progress: Progress = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Trains and measures a model for each category, detector and seed, as tasks on all machines of the cluster.

    ``categories`` are data sets, or a mapping from names to data sets. Every machine must see them under the same path.
    ``detectors`` are names, or a mapping from names to settings, as in
    ``{"small bank": {"detector": "memory-bank", "coreset": 0.01}}``. Further settings are those of `pupilla.train` and
    `pupilla.evaluate`.

    ``out`` gets a folder for each job, with the model, the evaluation as JSON (if there are test images) and
    ``job.json``. It also gets the table of all jobs, ``table.csv``. A job that fails does not end the others: the table
    has its ``error``. Gives the rows of the table.

    The same call goes on where the last call has stopped. A job is finished if there are results of the same images,
    settings and number of threads, by the same version of the program. A job whose process dies begins anew, up to
    ``max_retries`` times.
    """
    _check_counts(cpus_per_task=cpus_per_task)
    if isinstance(max_retries, bool) or not isinstance(max_retries, int) or max_retries < 0:
        raise SettingError(f"max_retries is {max_retries!r}: give a whole number from 0")
    results = _Folder(out)
    jobs = [
        _Job(
            category,
            path,
            detector,
            *_divided({**layout, "detector": detector, **settings, **own}),
            seed,
            cpus_per_task,
        )
        for category, (path, layout) in _categories(categories).items()
        for detector, own in _detectors(detectors).items()
        for seed in _seeds(seeds)
    ]
    _start(cpus_per_task)
    _take_fingerprints(jobs)
    rows = {job.folder: row for job in jobs if (row := job.row_before(results)) is not None}
    work = ray.remote(_run_job).options(num_cpus=cpus_per_task, max_retries=max_retries)
    running = {work.remote(job, results): job for job in jobs if job.folder not in rows}
    total = len(running)
    try:
        with Listener(progress) as listener:
            listener({"event": "start", "stage": "train", "total": total})
            while running:
                done, _ = ray.wait(list(running), num_returns=1)
                job = running.pop(done[0])
                rows[job.folder] = _row_of(done[0], job, results)
                listener({"event": "progress", "done": total - len(running), "loss": None})
            listener({"event": "finish"})
    finally:
        for task in running:
            ray.cancel(task, force=True)
        table = [rows[job.folder] for job in jobs if job.folder in rows]
        results.write(_TABLE, _csv(table))
    failed = sum(row["error"] is not None for row in table)
    if failed:
        text = f"{failed} of {len(table)} jobs failed: the column error of {results.address(_TABLE)} says why"
        warnings.warn(text, PupillaWarning, stacklevel=2)
    return table


_JOB = "job.json"
_TABLE = "table.csv"
_MEASURES = ("au_pro", "pixel_auroc", "image_auroc", "image_f1")
# What `train_grid` gives itself, and what would write files for each job under the same name.
_OWN_SETTINGS = {
    *("out", "force", "seed", "resume", "checkpoint_every"),
    *("report", "report_images", "pictures", "pictures_per_kind", "maps"),
}


@dataclass
class _Job:
    """One training with its evaluation."""

    category: str
    path: str
    detector: str
    training: dict[str, Any]
    evaluation: dict[str, Any]
    seed: int
    threads: int
    depends_on: dict[str, Any] = field(default_factory=dict)
    """All that its results depend on."""

    @property
    def layout(self) -> dict[str, Any]:
        """The settings that say what lies where in the data set."""
        return {name: value for name, value in self.training.items() if name in _settings_words.LAYOUT}

    @property
    def folder(self) -> str:
        """Its folder among the results."""
        key = _digits(json.dumps(self.depends_on, sort_keys=True))
        return f"{_quoted(self.category)}/{_quoted(self.detector)}-seed-{self.seed}-{key[:12]}"

    def row(self, out: _Folder, outcome: Mapping[str, Any], reused: bool = False) -> dict[str, Any]:
        """Its row of the table."""
        return {
            "category": self.category,
            "detector": self.detector,
            "seed": self.seed,
            **{measure: outcome.get(measure) for measure in _MEASURES},
            "seconds": outcome.get("seconds"),
            "reused": reused,
            "folder": out.address(self.folder),
            "error": outcome.get("error"),
        }

    def row_before(self, out: _Folder) -> dict[str, Any] | None:
        """Its row, if an earlier call has finished it."""
        there = out.read_values(f"{self.folder}/{_JOB}")
        return self.row(out, there, reused=True) if there.get("depends_on") == self.depends_on else None

    def run(self, out: _Folder) -> dict[str, Any]:
        """Trains and measures. Writes the results, and last that it is finished."""
        start = time.monotonic()
        trained = train(self.path, progress=False, seed=self.seed, **self.training)
        outcome: dict[str, Any] = {}
        out.write(f"{self.folder}/model.pupilla", trained.to_bytes())
        if Dataset(self.path, **self.layout).test:
            evaluation = evaluate(trained, self.path, progress=False, **self.evaluation)
            outcome = {measure: evaluation[measure] for measure in _MEASURES}
            out.write(f"{self.folder}/evaluation.json", json.dumps(evaluation.to_dict(), indent=2).encode())
        if _fingerprint(self.path, self.layout) != self.depends_on["images"]:
            raise DatasetError(f"{self.path} has changed during the training: call train_grid again")
        outcome["seconds"] = round(time.monotonic() - start, 3)
        finished = {"depends_on": self.depends_on, **outcome}
        out.write(f"{self.folder}/{_JOB}", json.dumps(finished, indent=2).encode())
        return outcome


def _run_job(job: _Job, out: _Folder) -> dict[str, Any]:
    _compute_with_own_cpus()
    try:
        return job.run(out)
    except PupillaError as error:
        return {"error": str(error)}


def _row_of(task: ray.ObjectRef[Any], job: _Job, out: _Folder) -> dict[str, Any]:
    try:
        return job.row(out, ray.get(task))
    except ray.exceptions.RayError as error:
        # Its process died too often, or something else than Pupilla failed.
        return job.row(out, {"error": f"{type(error).__name__}: {error}"})


def _take_fingerprints(jobs: list[_Job]) -> None:
    """Fills in what the results of each job depend on. Workers read the images."""
    take = ray.remote(_fingerprint)
    places = {(job.path, json.dumps(job.layout)): job for job in jobs}
    tasks = {place: take.remote(job.path, job.layout) for place, job in places.items()}
    for job in jobs:
        images = ray.get(tasks[job.path, json.dumps(job.layout)])
        if isinstance(images, PupillaError):
            raise images
        job.depends_on = {
            "program": f"pupilla {_core.version()}",
            "images": images,
            "training": _words(job.training),
            "evaluation": _words(job.evaluation),
            "seed": job.seed,
            "threads": job.threads,
        }


def _fingerprint(path: str, layout: Mapping[str, Any]) -> str | PupillaError:
    """SHA-256 over the name of a data set, and the roles, names and contents of its files."""
    try:
        data = Dataset(path, **layout)
        files = [("good", file) for file in data.good] + [("validation", file) for file in data.validation]
        for test in data.test:
            files += [(f"test {test.defect or ''}", test.path), *(("mask", mask) for mask in test.masks)]
        whole = hashlib.sha256(data.name.encode())
        for role, file in files:
            name = os.path.relpath(file, data.root)
            whole.update(f"{role}\0{name}\0{_digits(file.read_bytes())}\n".encode(errors="surrogateescape"))
        return whole.hexdigest()
    except PupillaError as error:
        return error
    except OSError as error:
        return DatasetError(f"{path} cannot be read: {error}")


def _words(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as texts. A file counts with its content, not with its path."""
    words = _settings_words.given(settings)
    return {name: value if isinstance(value, bool) else [_content_of(text) for text in value] for name, value in words}


def _content_of(text: str) -> str:
    return _digits(Path(text).read_bytes()) if os.path.isfile(text) else text


def _categories(given: Place | Iterable[Place] | Mapping[str, Place]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Path and layout of each data set, by its name."""
    if isinstance(given, Mapping):
        named = list(given.items())
    else:
        places = [given] if isinstance(given, (str, os.PathLike, Dataset)) else list(given)
        named = [(place.name if isinstance(place, Dataset) else PurePath(place).name, place) for place in places]
    categories: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, place in named:
        path, layout = _settings_words.with_place(place, {})
        if "://" in path:
            text = "give a folder that every machine sees under the same path"
            raise SettingError(f"the category {path} is an address: {text}")
        if name in categories:
            raise SettingError(f"two categories have the name {name}: give a mapping from names to data sets")
        categories[name] = (os.path.abspath(path), layout)
    if not categories:
        raise SettingError("categories is empty: give at least one data set")
    return categories


def _detectors(given: str | Iterable[str] | Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The settings of each detector, by its name."""
    if isinstance(given, Mapping):
        detectors = dict(given)
    else:
        detectors = {name: {} for name in ([given] if isinstance(given, str) else given)}
    if not detectors:
        raise SettingError("detectors is empty: give at least one detector, as memory-bank")
    return detectors


def _seeds(given: Iterable[int]) -> list[int]:
    try:
        seeds = list(dict.fromkeys(map(operator.index, given)))
    except TypeError:
        raise SettingError(f"seeds is {given!r}: give a list of whole numbers, as range(3)") from None
    if not seeds:
        raise SettingError("seeds is empty: give at least one whole number")
    return seeds


def _divided(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a training, and of its evaluation. Both get the settings about the images. A setting that both
    commands have otherwise, as ``scales``, is one of the training."""
    of_train, of_eval = ({setting[0] for setting in _core.settings(command)} for command in ("train", "eval"))
    training: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}
    for name, value in settings.items():
        value = [_located(one) for one in value] if isinstance(value, (list, tuple)) else _located(value)
        if name in _OWN_SETTINGS:
            raise SettingError(f"train_grid chooses {name} itself: leave {name} out")
        if name in of_train or name not in of_eval:
            training[name] = value
        if name in of_eval and (name not in of_train or name in _settings_words.LAYOUT or name == "skip_unreadable"):
            evaluation[name] = value
    # Says which setting is unknown before anything is trained.
    _core.words("train", ["data"], _settings_words.given(training))
    return training, evaluation


def _located(value: Any) -> Any:
    """Files have an absolute path, because workers run in other folders."""
    is_file = isinstance(value, (str, os.PathLike)) and os.path.isfile(value)
    return os.path.abspath(value) if is_file else value


def _csv(table: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    if table:
        writer = csv.DictWriter(text, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return text.getvalue().encode()


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise SettingError(f"{name} is {count!r}: give a whole number from 1")


def _start(cpus: int, beside: int = 0) -> None:
    """Starts or joins Ray. Warns if the cluster cannot give a worker its CPUs, with some ``beside`` it for reading."""
    if not ray.is_initialized():
        ray.init()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    most = max((node["Resources"].get("CPU", 0) for node in nodes if node["Alive"]), default=0)
    if most < cpus:
        text = f"a worker needs {cpus} CPUs, and no machine of the cluster has more than {most:g}"
        warnings.warn(f"{text}: the call waits for such a machine", PupillaWarning, stacklevel=3)
    elif _cpus_of_cluster() < cpus + beside:
        text = f"a worker needs {cpus} CPUs, and Ray needs another to read the images: the call waits for more CPUs"
        warnings.warn(text, PupillaWarning, stacklevel=3)


def _cpus_of_cluster() -> int:
    return int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]


def _quoted(name: str) -> str:
    """A name as the name of a file on all systems."""
    return urllib.parse.quote(name, safe=" ")


class _Folder:
    """A folder under an address."""

    def __init__(self, address: Address) -> None:
        try:
            self._files, self._path = fsspec.core.url_to_fs(os.fspath(address))
        except (ImportError, TypeError, ValueError) as error:
            raise SettingError(f"{address} is no address: {error}") from error
        self._path = self._path.rstrip("/") or "/"
        self.root: str = self._shown(self._path)
        """Its address."""

    def address(self, name: str) -> str:
        """The address of a file."""
        return f"{self.root.rstrip('/')}/{name}"

    def _place(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}"

    def _shown(self, path: str) -> str:
        is_local = isinstance(self._files, LocalFileSystem)
        return path if is_local else str(self._files.unstrip_protocol(path))

    def write(self, name: str, content: bytes) -> None:
        """Writes a file. It appears whole or not at all, and replaces a file of this name."""
        path = self._place(name)
        try:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            if isinstance(self._files, LocalFileSystem):
                new = Path(path).with_name(f".{PurePath(path).name}.{os.getpid()}-{threading.get_ident()}")
                new.write_bytes(content)
                os.replace(new, path)
            else:
                # Stores of objects show an object when all of it is there.
                self._files.pipe_file(path, content)
        except Exception as error:
            # Each file system has errors of its own.
            raise PupillaError(f"cannot write {self.address(name)}: {error}") from error

    def read(self, name: str) -> bytes | None:
        """The content of a file; ``None`` if there is no such file."""
        try:
            return bytes(self._files.cat_file(self._place(name)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as error:
            raise PupillaError(f"cannot read {self.address(name)}: {error}") from error

    def read_values(self, name: str) -> dict[str, Any]:
        """The values of a JSON file; none if there is no such file, or a crash has cut it off."""
        try:
            values = json.loads(self.read(name) or b"{}")
        except ValueError:
            return {}
        return values if isinstance(values, dict) else {}

    def remove(self, name: str) -> None:
        """Removes a file."""
        self._files.rm_file(self._place(name))

    def names(self) -> list[str]:
        """The names of the files."""
        self._files.invalidate_cache()
        if not self._files.isdir(self._path):
            return []
        return sorted(PurePath(path).name for path in self._files.ls(self._path, detail=False))

    def images(self) -> list[str]:
        """The addresses of the images in it and below, or of the files that it is a pattern for."""
        files, root = self._files, self._path
        try:
            if files.isdir(root):
                suffixes = tuple(_core.image_suffixes())
                found = [path for path in files.find(root) if path.lower().endswith(suffixes)]
            elif files.exists(root):
                found = [root]
            else:
                found = [path for path, about in files.glob(root, detail=True).items() if about["type"] == "file"]
        except Exception as error:
            raise DatasetError(f"cannot list {self.root}: {error}") from error
        if not found and not fsspec.core.has_magic(root):
            text = "does not exist, or holds no image: give a folder, a pattern or a list of images"
            raise DatasetError(f"{self.root} {text}")
        given = PurePath(root).parts
        hidden = {path for path in found if any(part[0] == "." and part not in given for part in PurePath(path).parts)}
        return [self._shown(path) for path in sorted({*found} - hidden)]


__all__ = ["Inspect", "InspectSettings", "inspect", "train_grid"]
