"""What a model finds in an image, and how well it does on a data set."""

from __future__ import annotations

import base64
import copy
import html
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core


@dataclass(frozen=True)
class Region:
    """Connected pixels above the pixel threshold. Pixels are counted from 0."""

    left: int
    """The first column."""
    top: int
    """The first row."""
    width: int
    """Number of columns."""
    height: int
    """Number of rows."""
    area: int
    """Number of pixels."""
    peak: float
    """The highest score."""
    peak_at: tuple[int, int]
    """The pixel with it: column, row."""
    mean: float
    """The mean score."""
    centroid: tuple[float, float]
    """Mean of the pixels' centres: x, y."""
    contour: npt.NDArray[np.uint32] = field(repr=False, compare=False)
    """Corners of the outer outline, clockwise: ``[corners, 2]`` of x, y."""
    parts: dict[str, Any] | None
    """The parts of the mean score; ``None`` if the detector has none."""

    @classmethod
    def _of(cls, region: Mapping[str, Any]) -> Region:
        box = region["box"]
        return cls(
            left=box["left"],
            top=box["top"],
            width=box["width"],
            height=box["height"],
            area=region["area"],
            peak=region["peak"],
            peak_at=tuple(region["peak_at"]),
            mean=region["mean"],
            centroid=tuple(region["centroid"]),
            contour=np.array(region["contour"], dtype=np.uint32).reshape(-1, 2),
            parts=region["why"],
        )


class Result:
    """What a model finds in an image. Notebooks show the heatmap."""

    def __init__(self, inspection: _core.Inspection) -> None:
        self._core = inspection

    @property
    def pred_score(self) -> float:
        """The image score, the highest score of an inspected pixel; higher is more anomalous."""
        return float(self._core.verdict["score"])

    @property
    def pred_label(self) -> bool:
        """Whether the image is defective: its score lies above the threshold."""
        return bool(self._core.verdict["defective"])

    @property
    def anomaly_map(self) -> npt.NDArray[np.float32]:
        """A score for each pixel of the image, ``[height, width]``; higher is more anomalous. It shares the memory of the result."""
        scores: npt.NDArray[np.float32] = self._core.anomaly_map
        return scores

    @property
    def pred_mask(self) -> npt.NDArray[np.bool_]:
        """The pixels of the regions, ``[height, width]``."""
        marked: npt.NDArray[np.bool_] = self._core.mask()
        return marked

    @property
    def regions(self) -> list[Region]:
        """Connected pixels above the pixel threshold, the highest peak first."""
        return [Region._of(region) for region in self._core.verdict["regions"]]

    @property
    def parts(self) -> dict[str, Any] | None:
        """The parts of the score: ``terms`` and ``scales``, each with ``score`` and ``share``. ``None`` if the detector has none."""
        parts: dict[str, Any] | None = copy.deepcopy(self._core.verdict["why"])
        return parts

    @property
    def threshold(self) -> float:
        """The image threshold of the verdict."""
        return self._core.threshold

    @property
    def pixel_threshold(self) -> float:
        """The pixel threshold of the regions."""
        return self._core.pixel_threshold

    @property
    def unlike_training(self) -> list[str] | None:
        """How the image was taken otherwise than those that the model has learned from; ``None`` if the model does not know."""
        return self._core.unlike_training

    @property
    def path(self) -> str:
        """The path of the image, or what errors call it."""
        return os.fspath(self._core.name)

    def heatmap(self) -> npt.NDArray[np.uint8]:
        """The image with coloured scores and outlined regions, ``[height, width, 3]``, as ``pupilla inspect --out`` draws it."""
        picture: npt.NDArray[np.uint8] = self._core.heatmap()
        return picture

    def save_heatmap(self, path: str | os.PathLike[str]) -> None:
        """Writes the heatmap as a PNG."""
        Path(path).write_bytes(self._core.heatmap_png())

    def save_map(self, path: str | os.PathLike[str]) -> None:
        """Writes the anomaly map as a 32-bit float TIFF."""
        self._core.save_map(os.fspath(path))

    def to_dict(self) -> dict[str, Any]:
        """Path, score, verdict, parts and regions, with the keys of ``pupilla inspect --json``."""
        return {"path": self.path, **copy.deepcopy(self._core.verdict), "unlike_training": self.unlike_training}

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Result holds its model and cannot be pickled: send to_dict() or anomaly_map")

    def __repr__(self) -> str:
        verdict = "defective" if self.pred_label else "good"
        count = len(self._core.verdict["regions"])
        return f"Result({self.pred_score:.3f} {verdict}, threshold {self.threshold:.3f}, regions: {count}, {self.path!r})"

    def _repr_png_(self) -> bytes:
        return self._core.heatmap_png()

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self._core.heatmap_png()).decode()
        verdict = "DEFECTIVE" if self.pred_label else "good"
        path = html.escape(self.path)
        return (
            f'<figure><img src="data:image/png;base64,{picture}" alt="heatmap of {path}" style="max-width:100%">'
            f"<figcaption><b>{verdict}</b> score {self.pred_score:.3f}, threshold {self.threshold:.3f}, "
            f"regions: {len(self._core.verdict['regions'])} <small>{path}</small></figcaption></figure>"
        )


class Evaluation(Mapping[str, Any]):
    """Measures of a model or of anomaly maps on a data set, with the keys of the JSON of ``pupilla eval``.

    Every measure lies in 0 to 1, and higher is better. It is ``None`` if it is undefined.
    """

    def __init__(self, values: Mapping[str, Any], pages: list[Path] | None = None) -> None:
        self._values = dict(values)
        self.pages = pages or []
        """The pages that were written."""

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def au_pro(self) -> float | None:
        """Area under the per-region overlap, up to the limit of the false-positive rate."""
        return self._measure("au_pro")

    @property
    def pixel_auroc(self) -> float | None:
        """Area under the ROC curve of all pixels."""
        return self._measure("pixel_auroc")

    @property
    def image_auroc(self) -> float | None:
        """Area under the ROC curve of the image scores."""
        return self._measure("image_auroc")

    def _measure(self, key: str) -> float | None:
        value = self._values[key]
        return None if value is None else float(value)

    def to_dict(self) -> dict[str, Any]:
        """All values, as the program's JSON has them."""
        return dict(self._values)

    def __repr__(self) -> str:
        measures = ", ".join(f"{name} {_shown(self._values.get(key))}" for name, key in _SUMMARY)
        return f"Evaluation({measures}, images: {self._values.get('images')})"

    def _repr_html_(self) -> str:
        heads = "".join(f"<th>{name}</th>" for name, _ in _COLUMNS)
        rows = [("all", self._values), *sorted(self._values.get("per_defect", {}).items())]
        rows += sorted(self._values.get("categories", {}).items())
        return f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(map(_row, rows))}</tbody></table>"


_SUMMARY = [("AU-PRO", "au_pro"), ("pixel AUROC", "pixel_auroc"), ("image AUROC", "image_auroc")]
_COLUMNS = [*_SUMMARY, ("image F1", "image_f1"), ("images", "images"), ("regions", "regions")]


def _shown(value: Any) -> str:
    if value is None:
        return "undefined"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _row(row: tuple[str, Mapping[str, Any]]) -> str:
    name, values = row
    cells = "".join(f"<td>{_shown(values.get(key))}</td>" for _, key in _COLUMNS)
    return f"<tr><th>{html.escape(name)}</th>{cells}</tr>"
