"""Pupilla as an outlier detector of scikit-learn.

>>> from pupilla.sklearn import AnomalyDetector
>>> detector = AnomalyDetector().fit(good_images)  # doctest: +SKIP
>>> detector.predict(new_images)  # 1: good, -1: defective  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import _inputs
from ._commands import train
from ._dataset import Dataset
from ._inputs import ImageLike
from ._progress import Progress
from .errors import ImageError, SettingError

try:
    from sklearn.base import BaseEstimator, OutlierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import (
        check_consistent_length,
        check_is_fitted,
        column_or_1d,
        validate_data,
    )
except ImportError as _missing:
    raise ImportError("pupilla.sklearn needs scikit-learn 1.6 or newer: pip install 'pupilla[sklearn]'") from _missing

if TYPE_CHECKING:
    from sklearn.utils import Tags as _Tags

    from ._model import Model as _Model


class AnomalyDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Finds defective images after it has seen good images.

    ``X`` is a list of images of any kind that `Model.inspect` takes, paths too, or an array ``[images, height, width]``
    or ``[images, height, width, 3]``. With ``image_shape``, ``X`` is a table ``[images, features]``: each row holds the
    pixels of an image.

    The detector is for new images, as ``LocalOutlierFactor(novelty=True)``. Images that it has learned score lower than
    new good images. So ``fit_predict`` misses outliers among the images to learn; `pupilla.check` looks for them.

    Parameters
    ----------
    detector, resize, false_reject, coreset, scales, steps
        Settings of `pupilla.train`, with its defaults.
    random_state
        The seed: a number, or a `numpy.random.RandomState` that draws the seed. ``None`` is the seed of
        `pupilla.train`, so that each training is the same.
    image_shape
        ``(height, width)`` or ``(height, width, 3)``: the shape of the image in a row of ``X``. One of the numbers may
        be -1, as in `numpy.reshape`. ``None``: ``X`` holds images.
    settings
        More settings of `pupilla.train`, by their names, as ``{"bits": 12}``.
    progress
        As for `pupilla.train`. Without a value, there is no bar.

    Attributes
    ----------
    model_
        The trained `Model`. ``model_.inspect`` gives maps and regions. ``model_.calibrate`` finds new thresholds.
    offset_
        Minus the threshold of ``model_``. ``decision_function`` is ``score_samples`` minus this.
    n_features_in_, feature_names_in_
        Number and names of the columns of ``X``, with ``image_shape``.

    Examples
    --------
    `fit` leaves out the images with the label -1. So cross-validation trains with good images alone:

    >>> folds = StratifiedKFold(5, shuffle=True, random_state=0)  # doctest: +SKIP
    >>> cross_val_score(AnomalyDetector(), images, labels, scoring="roc_auc", cv=folds)  # doctest: +SKIP
    """

    def __init__(
        self,
        detector: str | None = None,
        *,
        resize: int | str | None = None,
        false_reject: float | str | None = None,
        coreset: float | None = None,
        scales: int | Sequence[int] | None = None,
        steps: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        image_shape: tuple[int, ...] | None = None,
        settings: Mapping[str, Any] | None = None,
        progress: Progress = False,
    ) -> None:
        self.detector = detector
        self.resize = resize
        self.false_reject = false_reject
        self.coreset = coreset
        self.scales = scales
        self.steps = steps
        self.random_state = random_state
        self.image_shape = image_shape
        self.settings = settings
        self.progress = progress

    def fit(self, X: Iterable[ImageLike], y: npt.ArrayLike | None = None) -> AnomalyDetector:
        """Trains with the images ``X``. Images with the label -1 in ``y`` are left out.

        Other labels have no effect: with labels of 0 and 1, all images are learned.
        """
        images = self._images(X, reset=True)
        if y is not None:
            labels = column_or_1d(y)
            check_consistent_length(images, labels)
            images = [image for image, label in zip(images, labels) if label != -1]
        self.model_: _Model = train(images, progress=self.progress, **self._settings())
        return self

    def score_samples(self, X: Iterable[ImageLike]) -> npt.NDArray[np.float64]:
        """Minus the image scores: higher is more normal."""
        check_is_fitted(self, "model_")
        results = self.model_.inspect_many(self._images(X, reset=False))
        return -np.fromiter((result.pred_score for result in results), np.float64)

    def decision_function(self, X: Iterable[ImageLike]) -> npt.NDArray[np.float64]:
        """The threshold minus the image scores: negative for defective images."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Iterable[ImageLike]) -> npt.NDArray[np.int_]:
        """1 for good images, -1 for defective images, by the threshold of ``model_``."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    @property
    def offset_(self) -> float:
        """Minus the threshold of ``model_``."""
        return -self.model_.threshold

    def _settings(self) -> dict[str, Any]:
        own = {
            "detector": self.detector,
            "resize": self.resize,
            "false_reject": self.false_reject,
            "coreset": self.coreset,
            "scales": self.scales,
            "steps": self.steps,
            "seed": self._seed(),
        }
        more = dict(self.settings or {})
        doubled = sorted(own.keys() & more.keys())
        if doubled:
            name = "random_state" if doubled[0] == "seed" else doubled[0]
            raise SettingError(f"settings has {doubled[0]}: give the parameter {name} of AnomalyDetector instead")
        return {**own, **more}

    def _seed(self) -> Any:
        if self.random_state is None or isinstance(self.random_state, Integral):
            return self.random_state
        return check_random_state(self.random_state).randint(2**31 - 1)

    def _images(self, X: Iterable[ImageLike], *, reset: bool) -> list[ImageLike]:
        if self.image_shape is not None:
            return self._rows(self._table(X, reset=reset))
        if isinstance(X, (str, bytes, os.PathLike, Dataset)):
            raise ImageError("X is one object where several images are needed: give a list, as Dataset(folder).good")
        if getattr(X, "ndim", None) == 2:
            raise ImageError("X is a table: give image_shape, the shape of the image in a row, or a list of images")
        if isinstance(X, np.ndarray) and X.ndim > 2:
            _inputs.each(X)
        return list(X)

    def _table(self, X: Iterable[ImageLike], *, reset: bool) -> npt.NDArray[Any]:
        table: npt.NDArray[Any] = validate_data(
            self, X, reset=reset, ensure_min_samples=2 if reset else 1, ensure_non_negative=True
        )
        return table

    def _rows(self, table: npt.NDArray[Any]) -> list[ImageLike]:
        shape = self.image_shape
        try:
            return list(table.reshape(len(table), *shape))  # type: ignore[misc]
        except (TypeError, ValueError):
            text = f"image_shape {shape} does not suit rows of {table.shape[1]} values: give (height, width)"
            raise SettingError(text) from None

    def __sklearn_tags__(self) -> _Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = self.image_shape is None
        tags.input_tags.string = self.image_shape is None
        tags.input_tags.positive_only = True
        return tags


__all__ = ["AnomalyDetector"]
