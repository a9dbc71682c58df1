"""
The library and the program, compiled. Use the package `pupilla`.
"""

from _typeshed import Incomplete, SupportsGetItem
from os import PathLike
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex, final

__all__ = ["Dataset", "Image", "Inspection", "Model", "TestImage", "calibrate", "check", "device", "evaluate", "image_suffixes", "images", "main", "plan", "score", "score_masks", "set_device", "set_threads", "settings", "threads", "train", "version", "words"]

@final
class Dataset:
    """
    The images of a data set.
    """
    @property
    def good(self, /) -> list[Path]:
        """
        The good images to learn from.
        """
    @property
    def layout(self, /) -> str:
        """
        How its folders are laid out, in words.
        """
    @property
    def name(self, /) -> str:
        """
        Its name.
        """
    @staticmethod
    def open(path: str | PathLike[str], good: str | None, recursive: bool, category: str | None) -> Dataset:
        """
        Looks into a folder or a manifest.
        """
    @property
    def root(self, /) -> Path:
        """
        Its folder.
        """
    @property
    def test(self, /) -> list[TestImage]:
        """
        The images to test with.
        """
    @property
    def validation(self, /) -> list[Path]:
        """
        The good images that the data set keeps for validation.
        """

@final
class Image:
    """
    An image, decoded, with its values as they are stored.
    """
    @staticmethod
    def decode(content: bytes, name: str) -> Image:
        """
        Reads the bytes of a file; `name` is its name in errors.
        """
    @property
    def height(self, /) -> int:
        """
        Height in pixels.
        """
    @property
    def name(self, /) -> str:
        """
        The path, or what errors call the image.
        """
    @staticmethod
    def of_array(array: Any, name: str) -> Image:
        """
        Takes an array of uint8, uint16 or float32 values, `[height, width]` or `[height, width, 3]`, in C order; `name` is its name in
        errors.
        """
    @staticmethod
    def open(path: str | PathLike[str]) -> Image:
        """
        Reads a file.
        """
    @property
    def width(self, /) -> int:
        """
        Width in pixels.
        """

@final
class Inspection:
    """
    What a model finds in an image.
    """
    @property
    def anomaly_map(self, /) -> Incomplete:
        """
        The anomaly map, `[height, width]`.
        """
    def heatmap(self, /) -> Incomplete:
        """
        The image with coloured scores and outlined regions, `[height, width, 3]`, as `pupilla inspect --out` draws it.
        """
    def heatmap_png(self, /) -> bytes:
        """
        The heatmap as a PNG.
        """
    def mask(self, /) -> Any:
        """
        The pixels of the regions, `[height, width]`.
        """
    @property
    def name(self, /) -> Path:
        """
        The path of the image, or its name in errors.
        """
    @property
    def pixel_threshold(self, /) -> float:
        """
        The pixel threshold of the regions.
        """
    def save_map(self, /, path: str | PathLike[str]) -> None:
        """
        Writes the anomaly map as a 32-bit float TIFF, as `pupilla inspect --out` does.
        """
    @property
    def threshold(self, /) -> float:
        """
        The image threshold of the verdict.
        """
    @property
    def unlike_training(self, /) -> list[str] | None:
        """
        How the image was taken otherwise than the images that the model has learned from; None if the model does not know.
        """
    @property
    def verdict(self, /) -> Any:
        """
        Score, verdict, parts and regions, as the program's JSON has them.
        """

@final
class Model:
    """
    A trained detector.
    """
    def computing(self, /, dense: bool, memory: SupportsIndex | None) -> Model:
        """
        The model, computing at every pixel (`dense`) or within a memory limit in bytes: settings of student-teacher.
        """
    @property
    def detector(self, /) -> str:
        """
        The name of its detector.
        """
    @staticmethod
    def from_bytes(content: bytes, name: str) -> Model:
        """
        Reads the bytes of a model file; `name` is its name in errors.
        """
    def inspect(self, /, image: Image, threshold: SupportsFloat | SupportsIndex | None, pixel_threshold: SupportsFloat | SupportsIndex | None, min_area: SupportsIndex, roi: Incomplete | None) -> Inspection:
        """
        Judges an image. `roi` marks the inspected pixels, `[height, width]`. Without a threshold, the model's thresholds decide.
        """
    @staticmethod
    def load(path: str | PathLike[str]) -> Model:
        """
        Reads a model file.
        """
    def manifest(self, /) -> Any:
        """
        Everything about it but its arrays, as `pupilla info --json` gives it.
        """
    @property
    def pixel_threshold(self, /) -> float:
        """
        The pixel threshold.
        """
    def save(self, /, path: str | PathLike[str]) -> None:
        """
        Writes the model; the file appears whole or not at all.
        """
    @property
    def threshold(self, /) -> float:
        """
        The image threshold.
        """

@final
class TestImage:
    """
    An image to test with.
    """
    @property
    def defect(self, /) -> str | None:
        """
        The kind of its defect; None for a good image.
        """
    @property
    def masks(self, /) -> list[Path]:
        """
        The files that mark its defect.
        """
    @property
    def path(self, /) -> Path:
        """
        The file.
        """

def calibrate(model: Model, data: str | PathLike[str] | SupportsGetItem[int, str | PathLike[str]] | SupportsGetItem[int, Image], settings: SupportsGetItem[int, tuple[str, bool | SupportsGetItem[int, str]]], listener: Any) -> Model:
    """
    The model with new thresholds.
    """

def check(data: str | PathLike[str], settings: SupportsGetItem[int, tuple[str, bool | SupportsGetItem[int, str]]], listener: Any) -> Any:
    """
    Looks for problems of a data set.
    """

def device() -> str:
    """
    The device that computes networks, in words.
    """

def evaluate(model: Model, name: str | PathLike[str], data: str | PathLike[str], settings: SupportsGetItem[int, tuple[str, bool | SupportsGetItem[int, str]]], listener: Any) -> tuple[Any, list[Path]]:
    """
    Measures a model on a data set: the evaluation, and the pages that were written.
    """

def image_suffixes() -> list[str]:
    """
    What the names of image files end in, in lower case, as ".png".
    """

def images(path: str | PathLike[str], listener: Any) -> list[Path]:
    """
    The images that the program inspects in a folder, or the file itself.
    """

def main(words: SupportsGetItem[int, str], own_command: SupportsGetItem[int, str]) -> int:
    """
    The program: `words` are its name and its arguments, `own_command` starts it. Gives the exit status.
    """

def plan(data: str | PathLike[str] | SupportsGetItem[int, str | PathLike[str]] | SupportsGetItem[int, Image], settings: SupportsGetItem[int, tuple[str, bool | SupportsGetItem[int, str]]], listener: Any) -> Any:
    """
    What a training would take.
    """

def score(maps: str | PathLike[str] | SupportsGetItem[int, Incomplete], data: str | PathLike[str], settings: SupportsGetItem[int, tuple[str, bool | SupportsGetItem[int, str]]], listener: Any) -> Any:
    """
    Measures anomaly maps against a data set.
    """

def score_masks(maps: SupportsGetItem[int, Incomplete], defects: SupportsGetItem[int, str | None], masks: SupportsGetItem[int, Incomplete | None], settings: SupportsGetItem[int, tuple[str, bool | SupportsGetItem[int, str]]], listener: Any) -> Any:
    """
    Measures anomaly maps against masks. Each image has a map, the kind of its defect (None: it is good) and a mask (None: a good image,
    or the place of the defect is not known).
    """

def set_device(device: str) -> str:
    """
    Chooses the device that computes networks: "cpu", "gpu", "gpu:1" or "auto". Gives its name. A process chooses once.
    """

def set_threads(count: SupportsIndex | None) -> None:
    """
    Sets the number of threads that compute from the next call on; None is one for each core. A training repeats its bytes with the same
    number alone.
    """

def settings(command: str) -> list[tuple[str, str, str, bool]]:
    """
    Name, description, kind ("switch", "value" or "path") of each setting of a command, and whether it takes a list.
    """

def threads() -> int:
    """
    Number of threads that compute.
    """

def train(data: str | PathLike[str] | SupportsGetItem[int, str | PathLike[str]] | SupportsGetItem[int, Image], settings: SupportsGetItem[int, tuple[str, bool | SupportsGetItem[int, str]]], listener: Any) -> Model:
    """
    Trains a detector.
    """

def version() -> str:
    """
    The version of the program.
    """

def words(command: str, data: SupportsGetItem[int, str | PathLike[str]], settings: SupportsGetItem[int, tuple[str, bool | SupportsGetItem[int, str]]]) -> list[str]:
    """
    The words of the program's command line for a command with these settings.
    """
