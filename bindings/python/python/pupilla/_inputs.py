"""Images of many kinds, as the compiled module takes them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Union

import numpy as np

from . import _core, _settings_words
from ._dataset import Dataset
from ._progress import Listener
from .errors import ImageError, PupillaWarning

ImageLike = Any
"""A path, the bytes of a file, an open binary file, a PIL image, an array ``[height, width]`` or ``[height, width, 3]``, or anything with
``__dlpack__``. Arrays have the type ``uint8``, ``uint16``, or floating-point values in [0, 1]: the type alone decides."""

Images = Union[str, "os.PathLike[str]", Dataset, Iterable[ImageLike]]
"""A folder, a data set, or images."""

_SHAPES = "give [height, width] or [height, width, 3]"
_TYPES = "give uint8, uint16, or floating-point values in [0, 1]"


def image(given: ImageLike, name: str = "the image") -> _core.Image:
    """The image, decoded. ``name`` stands for it in errors."""
    if isinstance(given, _core.Image):
        return given
    if isinstance(given, (str, os.PathLike)):
        return _core.Image.open(given)
    if isinstance(given, (bytes, bytearray, memoryview)):
        return _core.Image.decode(bytes(given), name)
    if hasattr(given, "read"):
        return _core.Image.decode(_content(given, name), name)
    if hasattr(given, "getbands") and hasattr(given, "mode"):
        return _core.Image.of_array(_of_pillow(given, name), name)
    return _core.Image.of_array(array(given, name), name)


def each(given: Images) -> Iterable[ImageLike]:
    """The images to inspect, one by one: of a folder, of the test part of a data set, or those that were given."""
    if isinstance(given, Dataset):
        return given.test
    if isinstance(given, (str, os.PathLike)):
        with Listener(None, to_caller=5) as listener:
            return _core.images(os.fspath(given), listener)
    _check_several(given)
    return given


def several(given: Iterable[ImageLike], settings: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The images to learn from: paths if all of them are paths, else decoded images. And the settings."""
    _settings_words.refuse_layout(settings, "images")
    _check_several(given)
    listed = list(given)
    if listed and all(isinstance(one, (str, os.PathLike)) for one in listed):
        return [os.fspath(one) for one in listed], dict(settings)
    decoded = []
    for index, one in enumerate(listed):
        try:
            decoded.append(image(one, f"image {index}"))
        except ImageError as error:
            if not settings.get("skip_unreadable"):
                raise
            warnings.warn(f"skipped: {error}", PupillaWarning, stacklevel=4)
    return decoded, dict(settings)


def _check_several(given: Any) -> None:
    axes = len(getattr(given, "shape", (0, 0, 0, 0)))
    is_of_numbers = getattr(getattr(given, "dtype", None), "kind", "-") in "biufc"
    # A column of a table may hold paths.
    if axes < 3 and (axes != 1 or is_of_numbers) or isinstance(given, (bytes, bytearray, memoryview)) or hasattr(given, "getbands"):
        raise ImageError("one image was given where several are needed: give a list of images, or a folder")
    if axes == 3 and given.shape[-1] in (1, 3, 4):
        raise ImageError(
            f"an array of the shape {list(given.shape)} may be one image or several: give a list of images, or "
            "[images, height, width, 3]"
        )
    if not isinstance(given, Iterable) or isinstance(given, dict):
        raise ImageError(f"{type(given).__name__} is neither a folder nor a list of images")


def array(given: Any, name: str) -> np.ndarray[Any, Any]:
    """The values of an image in one of the types that the compiled module takes, in C order."""
    values = _as_array(given, name)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise ImageError(f"{name} has the shape {list(values.shape)}: {_SHAPES}, with at least one pixel")
    if values.ndim == 3 and values.shape[2] != 3:
        raise ImageError(f"{name} has the shape {list(values.shape)}: {_SHAPES}{_cure(values.shape)}")
    if values.dtype.kind == "f":
        values = values.astype(np.float32, copy=False)
    elif values.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{name} has values of the type {values.dtype}: {_TYPES}")
    return np.ascontiguousarray(values)


def _cure(shape: tuple[int, ...]) -> str:
    if shape[2] == 4:
        return "; leave the fourth channel out: image[:, :, :3]"
    if shape[0] in (1, 3):
        return "; move the channels to the end: numpy.moveaxis(image, 0, 2)"
    return ""


def _as_array(given: Any, name: str) -> np.ndarray[Any, Any]:
    if isinstance(given, np.ma.MaskedArray):
        raise ImageError(f"{name} is a masked array: fill it, or give roi, the pixels to inspect")
    if isinstance(given, np.ndarray):
        return given
    if hasattr(given, "__dlpack__"):
        try:
            return np.from_dlpack(given)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise ImageError(
                f"{name} cannot be taken from {type(given).__name__} ({error}): detach it, and copy it to the processor's memory"
            ) from error
    if hasattr(given, "__array__") or hasattr(given, "__array_interface__"):
        return np.asarray(given)
    raise ImageError(
        f"{name} is of the type {type(given).__name__}: give a path, the bytes of a file, a PIL image or an array"
    )


def _content(file: Any, name: str) -> bytes:
    try:
        content = file.read()
    except (OSError, ValueError) as error:
        raise ImageError(f"{name} cannot be read from the open file: {error}") from error
    if not isinstance(content, bytes):
        raise ImageError(f"{name} is a file that was opened for text: open it with mode 'rb'")
    return content


def _of_pillow(given: Any, name: str) -> np.ndarray[Any, Any]:
    """The pixels of a PIL image, as a file with them is read: alpha is left out, a palette is looked up."""
    try:
        given.load()
    except (OSError, ValueError, AttributeError) as error:
        raise ImageError(f"{name} cannot be loaded by Pillow: {error}") from error
    mode = given.mode
    if mode == "1":
        given = given.convert("L")
    elif mode in ("LA", "La"):
        given = given.getchannel("L")
    elif mode in ("P", "PA", "RGBA", "RGBX"):
        # `convert` drops alpha, it does not blend.
        given = given.convert("RGB")
    elif mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        given = given.convert("RGB")
    elif mode == "RGBa":
        raise ImageError(f"{name} has colours that are multiplied by alpha: convert it to RGB")
    values = np.asarray(given)
    if mode == "I":
        if values.size and (values.min() < 0 or values.max() > 65_535):
            raise ImageError(f"{name} has values outside of 0 to 65535: {_TYPES}")
        values = values.astype(np.uint16)
    return array(values, name)
