"""Training, measuring, and looking at data sets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from . import _core, _inputs, _program, _settings_words
from ._dataset import Dataset
from ._inputs import Images
from ._model import Model
from ._progress import Listener, Progress
from ._results import Evaluation
from .errors import ImageError, SettingError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._settings import (
        CheckSettings,
        CompareSettings,
        DemoSettings,
        EvalSettings,
        ScoreSettings,
        TeacherTrainSettings,
        TrainSettings,
    )


def train(data: Images, *, progress: Progress = None, **settings: Unpack[TrainSettings]) -> Model:
    """Trains a detector on good images: a folder, a data set, or a list of images.

    Settings are the options of ``pupilla train``, with ``_`` in place of ``-``. ``detector`` names the detector; without it, a memory
    bank is trained. With ``out``, the model file is written too, and a stopped training leaves a checkpoint there, from which
    ``resume=True`` goes on.
    """
    images, given = _images(data, settings)
    with Listener(progress) as listener:
        core = _core.train(images, _settings_words.given(given), listener)
    out = settings.get("out")
    return Model(core) if out is None else Model(core, os.path.abspath(out))


def plan(data: Images, *, progress: Progress = None, **settings: Unpack[TrainSettings]) -> dict[str, Any]:
    """What a training would take: steps, time and memory, estimated by a few trial steps. Nothing is trained."""
    images, given = _images(data, settings)
    with Listener(progress) as listener:
        return cast("dict[str, Any]", _core.plan(images, _settings_words.given(given), listener))


def _images(data: Images, settings: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    if isinstance(data, (str, os.PathLike, Dataset)):
        return _settings_words.with_place(data, settings)
    return _inputs.several(data, settings)


def evaluate(
    model: Model | str | os.PathLike[str],
    dataset: str | os.PathLike[str] | Dataset,
    *,
    progress: Progress = None,
    **settings: Unpack[EvalSettings],
) -> Evaluation:
    """Measures a model, or the model of a file, on a data set with labelled defects. ``report="folder"`` writes a page with pictures.

    Settings are the options of ``pupilla eval``.
    """
    path, given = _settings_words.with_place(dataset, settings)
    if not isinstance(model, Model):
        model = Model.load(model)
    with Listener(progress) as listener:
        values, pages = _core.evaluate(model._core, model._path, path, _settings_words.given(given), listener)
    return Evaluation(values, [Path(page) for page in pages])


def score(
    maps: str | os.PathLike[str] | Iterable[npt.ArrayLike] | Mapping[str, npt.ArrayLike],
    dataset: str | os.PathLike[str] | Dataset | Sequence[npt.ArrayLike | None],
    *,
    defects: Sequence[str | None] | None = None,
    progress: Progress = None,
    **settings: Unpack[ScoreSettings],
) -> Evaluation:
    """Measures anomaly maps of any tool, with the exact AU-PRO.

    ``maps`` is a folder as ``pupilla score`` reads it, a list of maps in the order of ``Dataset(dataset).test``, or a mapping from the
    paths of the images to maps. A map is an array ``[height, width]`` of the size of its image; higher is more anomalous.

    In place of a data set, ``dataset`` may be a list of masks, one for each map: booleans ``[height, width]``, or ``None`` for a good
    image. ``defects`` then names the kind of each defect (``None``: the image is good); a defective image may lack a mask.
    """
    if not isinstance(dataset, (str, os.PathLike, Dataset)):
        return _score_masks(maps, dataset, defects, progress, settings)
    if defects is not None:
        raise SettingError("defects belongs to a list of masks: a data set knows the kinds of its defects")
    path, given = _settings_words.with_place(dataset, settings)
    given_maps: Any
    if isinstance(maps, (str, os.PathLike)):
        given_maps = os.fspath(maps)
    elif isinstance(maps, Mapping):
        given_maps = _in_order(maps, _opened(dataset, given))
    else:
        given_maps = _maps(maps)
    with Listener(progress) as listener:
        return Evaluation(_core.score(given_maps, path, _settings_words.given(given), listener))


def _opened(dataset: str | os.PathLike[str] | Dataset, settings: Mapping[str, Any]) -> Dataset:
    if isinstance(dataset, Dataset):
        return dataset
    layout = {name: settings[name] for name in _settings_words.LAYOUT if name in settings}
    return Dataset(dataset, **layout)


def _in_order(maps: Mapping[str, npt.ArrayLike], dataset: Dataset) -> list[npt.NDArray[np.float32]]:
    known = {_place(path): value for path, value in maps.items()}
    missing = [test.path for test in dataset.test if _place(test.path) not in known]
    if missing:
        raise ImageError(f"{len(missing)} test images have no map, as {missing[0]}: the keys are the paths of the images")
    return _maps(known[_place(test.path)] for test in dataset.test)


def _place(path: str | os.PathLike[str]) -> str:
    return os.path.realpath(os.fspath(path))


def _maps(maps: Iterable[npt.ArrayLike]) -> list[npt.NDArray[np.float32]]:
    taken = []
    for index, given in enumerate(maps):
        values = np.asarray(given)
        if values.ndim != 2 or values.dtype.kind not in "fiu" or not values.size:
            raise ImageError(f"map {index} is an array of {values.dtype} {list(values.shape)}: give numbers, [height, width]")
        taken.append(values.astype(np.float32, copy=False))
    return taken


def _score_masks(
    maps: Any,
    masks: Sequence[npt.ArrayLike | None],
    defects: Sequence[str | None] | None,
    progress: Progress,
    settings: Mapping[str, Any],
) -> Evaluation:
    if isinstance(maps, (str, os.PathLike, Mapping)):
        raise SettingError("a list of masks needs a list of maps")
    _settings_words.refuse_layout(settings, "masks")
    taken = _maps(maps)
    marked = [_mask(mask, index) for index, mask in enumerate(masks)]
    if defects is None:
        defects = ["defect" if mask is not None and mask.any() else None for mask in marked]
    if not len(taken) == len(marked) == len(defects):
        raise SettingError(f"{len(taken)} maps, {len(marked)} masks and {len(defects)} kinds of defects: give one of each for each image")
    with Listener(progress) as listener:
        values = _core.score_masks(taken, list(defects), marked, _settings_words.given(settings), listener)
    return Evaluation(values)


def _mask(mask: npt.ArrayLike | None, index: int) -> npt.NDArray[np.bool_] | None:
    if mask is None:
        return None
    values = np.asarray(mask)
    if values.dtype != np.bool_ or values.ndim != 2:
        raise ImageError(f"mask {index} is an array of {values.dtype} {list(values.shape)}: give booleans, [height, width], as mask > 0")
    return values


def check(
    dataset: str | os.PathLike[str] | Dataset,
    *,
    progress: Progress = None,
    **settings: Unpack[CheckSettings],
) -> dict[str, Any]:
    """Looks for mistakes in a data set: double images, leaks from training to test, outliers, broken files, wrong masks.

    Gives what ``pupilla check --json`` gives: ``problems`` and ``notices`` are counts, ``findings`` has the texts and the paths.
    """
    path, given = _settings_words.with_place(dataset, settings)
    with Listener(progress) as listener:
        return cast("dict[str, Any]", _core.check(path, _settings_words.given(given), listener))


def compare(
    dataset: str | os.PathLike[str] | Dataset,
    out: str | os.PathLike[str],
    *,
    progress: Progress = None,
    **settings: Unpack[CompareSettings],
) -> dict[str, Any]:
    """Trains and measures several detectors on the same images. Writes ``out/comparison.html``, and gives the table.

    The program runs in a process of its own. The same call goes on with what a stopped call has left.
    """
    path, given = _settings_words.with_place(dataset, settings)
    return cast("dict[str, Any]", _program.run("compare", [path], {**given, "out": out}, progress))


def teacher_train(
    images: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    progress: Progress = None,
    **settings: Unpack[TeacherTrainSettings],
) -> dict[str, Any]:
    """Trains a teacher on photographs, and writes its file. Gives its manifest. The program runs in a process of its own."""
    given = {**settings, "out": out}
    return cast("dict[str, Any]", _program.run("teacher train", [os.fspath(images)], given, progress))


def demo(
    out: str | os.PathLike[str] = "pupilla-demo",
    *,
    progress: Progress = None,
    **settings: Unpack[DemoSettings],
) -> Evaluation:
    """The whole job on data that the program draws: images, models, reports and figures. It takes less than a minute."""
    return Evaluation(_program.run("demo", [], {**settings, "out": out}, progress))


__all__ = ["check", "compare", "demo", "evaluate", "plan", "score", "teacher_train", "train"]
