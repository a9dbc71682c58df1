"""Settings as the compiled module takes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from ._dataset import Dataset
from .errors import SettingError


LAYOUT = ("good", "recursive", "category")
"""The settings that say how a folder is read as a data set."""


def refuse_layout(settings: Mapping[str, Any], listed: str) -> None:
    """Refuses the settings of a folder where a list is given instead."""
    for name in LAYOUT:
        if settings.get(name):
            raise SettingError(f"{name} says how a folder is read, but the {listed} are a list: leave {name} out")


def given(settings: Mapping[str, Any]) -> list[tuple[str, bool | list[str]]]:
    """The settings that are not ``None``: switches stay, all other values become texts."""
    return [(name, _value(value)) for name, value in settings.items() if value is not None]


def with_place(data: str | os.PathLike[str] | Dataset, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The path of a data set, and the settings with those by which it was opened."""
    if isinstance(data, Dataset):
        return os.fspath(data.path), {**data._settings, **settings}
    return os.fspath(data), dict(settings)


def _value(value: Any) -> bool | list[str]:
    if isinstance(value, bool):
        return value
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_text(one) for one in value]
    return [_text(value)]


def _text(value: Any) -> str:
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
