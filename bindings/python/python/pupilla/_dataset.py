"""A data set: which images are good, and which are for the test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from . import _core


class Dataset:
    """The images of a folder or a manifest. Every layout that the program knows is recognised.

    ``good`` is the name of the folders of good images, if it is none of the usual names. ``recursive`` takes the images in folders
    below too. ``category`` chooses a data set, if there are several.

    >>> data = Dataset("metal_nut")  # doctest: +SKIP
    >>> len(data.good), data.test[0].defect  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        good: str | None = None,
        recursive: bool = False,
        category: str | None = None,
    ) -> None:
        self.path = Path(path)
        self._settings = {"good": good, "recursive": recursive, "category": category}
        self._core = _core.Dataset.open(self.path, good, recursive, category)

    @property
    def name(self) -> str:
        """Its name."""
        return self._core.name

    @property
    def root(self) -> Path:
        """Its folder."""
        return Path(self._core.root)

    @property
    def layout(self) -> str:
        """How its folders are laid out, in words."""
        return self._core.layout

    @property
    def good(self) -> list[Path]:
        """The good images to learn from."""
        return [Path(path) for path in self._core.good]

    @property
    def validation(self) -> list[Path]:
        """The good images that the data set itself keeps for validation."""
        return [Path(path) for path in self._core.validation]

    @property
    def test(self) -> list[TestImage]:
        """The images to test with."""
        return [TestImage(test) for test in self._core.test]

    def __reduce__(self) -> tuple[Any, ...]:
        return (_opened, (os.fspath(self.path), self._settings))

    def __repr__(self) -> str:
        return f"Dataset({str(self.path)!r}: {self.layout}, {len(self._core.good)} good, {len(self._core.test)} to test with)"


def _opened(path: str, settings: dict[str, Any]) -> Dataset:
    return Dataset(path, **settings)


class TestImage:
    """An image to test with."""

    # No test, though its name begins as one.
    __test__ = False

    def __init__(self, image: _core.TestImage) -> None:
        self.path = Path(image.path)
        """The file."""
        self.defect = image.defect
        """The kind of the defect; ``None`` for a good image."""
        self.masks = [Path(mask) for mask in image.masks]
        """The files that mark the defect."""

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"TestImage({str(self.path)!r}, defect={self.defect!r})"
