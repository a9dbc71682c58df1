"""Finds defects in images of manufactured parts after it has seen good parts only.

>>> import pupilla
>>> model = pupilla.train("good_images")  # doctest: +SKIP
>>> result = model.inspect("new_part.png")  # doctest: +SKIP
>>> result.pred_score, result.pred_label, result.anomaly_map.shape  # doctest: +SKIP
"""

from __future__ import annotations

from ._commands import check, compare, demo, evaluate, plan, score, teacher_train, train
from ._core import device, set_device, set_threads, threads
from ._core import version as _version
from ._dataset import Dataset, TestImage
from ._model import Model
from ._results import Evaluation, Region, Result
from .errors import (
    DatasetError,
    DeviceError,
    ImageError,
    InspectionError,
    ModelError,
    PupillaError,
    PupillaWarning,
    SettingError,
    TrainingError,
)

__version__ = _version()

__all__ = [
    "Dataset",
    "DatasetError",
    "DeviceError",
    "Evaluation",
    "ImageError",
    "InspectionError",
    "Model",
    "ModelError",
    "PupillaError",
    "PupillaWarning",
    "Region",
    "Result",
    "SettingError",
    "TestImage",
    "TrainingError",
    "check",
    "compare",
    "demo",
    "device",
    "evaluate",
    "plan",
    "score",
    "set_device",
    "set_threads",
    "teacher_train",
    "threads",
    "train",
]
