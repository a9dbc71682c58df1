"""A trained detector."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import _core, _inputs, _settings_words
from ._dataset import Dataset
from ._inputs import ImageLike, Images
from ._progress import Listener, Progress
from ._results import Result
from .errors import SettingError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._settings import CalibrateSettings

_READ_AHEAD = 2
_IN_MEMORY = "(model in memory)"
# Of 32-bit numbers.
_LARGEST = float(np.finfo(np.float32).max)


class Model:
    """A trained detector. `train` makes it, `load` reads it from a file.

    A model can be pickled, and used by several threads. Its file is the program's: ``pupilla inspect`` takes it, and gives the same
    scores.
    """

    def __init__(
        self, core: _core.Model, path: str = _IN_MEMORY, computing: tuple[bool, int | None] = (False, None)
    ) -> None:
        self._core = core if computing == (False, None) else core.computing(*computing)
        # The file that holds the model as it is, for reports.
        self._path = path
        # `dense` and `memory`, which the file does not hold.
        self._computing = computing

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, dense: bool = False, memory: int | None = None) -> Model:
        """Reads a model file.

        ``dense`` computes at every pixel, and ``memory`` is a limit in bytes: settings of student-teacher.
        """
        if memory is not None and memory < 0:
            raise SettingError(f"memory is {memory}: give a number of bytes")
        return cls(_core.Model.load(os.fspath(path)), os.path.abspath(path), (dense, memory))

    @classmethod
    def from_bytes(cls, content: bytes) -> Model:
        """Reads the bytes of a model file."""
        return cls(_core.Model.from_bytes(bytes(content), "the model"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model file. It appears whole or not at all, and replaces a file of this name."""
        self._core.save(os.fspath(path))

    def to_bytes(self) -> bytes:
        """The bytes of the model file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.pupilla")
            self.save(path)
            return path.read_bytes()

    @property
    def detector(self) -> str:
        """The name of the detector."""
        return self._core.detector

    @property
    def threshold(self) -> float:
        """Images that score above this are defective."""
        return self._core.threshold

    @property
    def pixel_threshold(self) -> float:
        """Pixels that score above this belong to regions."""
        return self._core.pixel_threshold

    @property
    def manifest(self) -> dict[str, Any]:
        """What the model says about itself: settings, data, thresholds with what they promise; as ``pupilla info --json``."""
        manifest: dict[str, Any] = self._core.manifest()
        return manifest

    def inspect(
        self,
        image: ImageLike,
        *,
        threshold: float | None = None,
        pixel_threshold: float | None = None,
        min_area: int = 1,
        roi: npt.ArrayLike | None = None,
    ) -> Result:
        """Judges an image: a path, the bytes of a file, a PIL image, or an array.

        Without ``threshold`` and ``pixel_threshold``, the model's thresholds decide. Regions of fewer pixels than ``min_area`` are left
        out. ``roi`` marks the inspected pixels, ``[height, width]``.
        """
        return self._inspect(_inputs.image(image), threshold, pixel_threshold, min_area, _mask(roi))

    def inspect_many(
        self,
        images: Images,
        *,
        threshold: float | None = None,
        pixel_threshold: float | None = None,
        min_area: int = 1,
        roi: npt.ArrayLike | None = None,
    ) -> Iterator[Result]:
        """Judges images in their order, and reads the next images during the work. Results come one by one.

        ``images`` are a list of images, or a folder: then all images in the folder and below, as ``pupilla inspect`` takes them. Of a
        data set, the test images are taken.
        """
        # Now, not at the first result: what is wrong is told where it was given.
        given, mask = _inputs.each(images), _mask(roi)
        _check_rule(threshold, pixel_threshold, min_area)
        return self._in_order(given, threshold, pixel_threshold, min_area, mask)

    def _in_order(
        self,
        images: Iterable[ImageLike],
        threshold: float | None,
        pixel_threshold: float | None,
        min_area: int,
        mask: npt.NDArray[np.bool_] | None,
    ) -> Iterator[Result]:
        waiting: deque[Future[_core.Image]] = deque()
        reader = ThreadPoolExecutor(1, thread_name_prefix="pupilla reader")
        try:
            for index, image in enumerate(images):
                waiting.append(reader.submit(_inputs.image, image, f"image {index}"))
                if len(waiting) > _READ_AHEAD:
                    read = waiting.popleft().result()
                    yield self._inspect(read, threshold, pixel_threshold, min_area, mask)
            while waiting:
                yield self._inspect(waiting.popleft().result(), threshold, pixel_threshold, min_area, mask)
        finally:
            reader.shutdown(wait=False, cancel_futures=True)

    def _inspect(
        self,
        image: _core.Image,
        threshold: float | None,
        pixel_threshold: float | None,
        min_area: int,
        roi: npt.NDArray[np.bool_] | None,
    ) -> Result:
        _check_rule(threshold, pixel_threshold, min_area)
        return Result(self._core.inspect(image, threshold, pixel_threshold, min_area, roi))

    def calibrate(
        self,
        images: Images,
        *,
        progress: Progress = None,
        **settings: Unpack[CalibrateSettings],
    ) -> Model:
        """Finds new thresholds from good images (a folder, or a list) that the model has not learned from, without training. Gives the model itself.

        ``false_reject=0.01`` is the share of good images that may be called defective.
        """
        data: Any
        if isinstance(images, (str, os.PathLike, Dataset)):
            data, given = _settings_words.with_place(images, settings)
        else:
            data, given = _inputs.several(images, settings)
        with Listener(progress) as listener:
            self._core = _core.calibrate(self._core, data, _settings_words.given(given), listener)
        self._path = _IN_MEMORY
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restored, (self.to_bytes(), self._computing))

    def __repr__(self) -> str:
        return f"Model({self.detector}, threshold {self.threshold:.3f})"


def _restored(content: bytes, computing: tuple[bool, int | None]) -> Model:
    return Model(Model.from_bytes(content)._core, computing=computing)


def _check_rule(threshold: float | None, pixel_threshold: float | None, min_area: int) -> None:
    for name, value in (("threshold", threshold), ("pixel_threshold", pixel_threshold)):
        if value is None:
            continue
        if not isinstance(value, Real) or not abs(value) <= _LARGEST:
            raise SettingError(f"{name} is {value!r}: give a finite number")
    if not isinstance(min_area, Integral) or not 0 <= min_area < 1 << 48:
        raise SettingError(f"min_area is {min_area!r}: give a number of pixels")


def _mask(roi: npt.ArrayLike | None) -> npt.NDArray[np.bool_] | None:
    if roi is None:
        return None
    mask = np.asarray(roi)
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise SettingError(f"roi is an array of {mask.dtype} {list(mask.shape)}: give booleans, [height, width]")
    if not mask.any():
        raise SettingError("roi marks no pixel: give the pixels to inspect as True")
    return mask

