"""What long calls tell: a progress bar, warnings, notes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Union

from .errors import PupillaWarning

Event = Mapping[str, Any]
"""An event of the program's ``--progress json``: its ``event`` is "start", "progress", "finish", "losses", "resumed", "warning", "note"
or "skipped"."""

Progress = Union[bool, Callable[[Event], None], None]
"""``True``: a bar. ``False``: no bar. ``None``: a bar in a terminal or a notebook, if tqdm is installed. A function: gets every event."""

_log = logging.getLogger("pupilla")

# Frames from the warning to the caller of the package: the listener has two, the function of the package one.
_TO_CALLER = 4


class Listener:
    """Takes the events of one call."""

    def __init__(self, progress: Progress, to_caller: int = _TO_CALLER) -> None:
        self._told = progress if callable(progress) else None
        self._tqdm = None if callable(progress) else _bar_class(progress)
        self._wanted = progress is True
        self._bar: Any = None
        self._to_caller = to_caller

    def __call__(self, event: Event) -> None:
        if self._told is not None:
            self._told(event)
        kind = event["event"]
        if kind == "warning":
            self._warn(event["text"])
        elif kind == "skipped":
            self._warn(f"skipped: {event['reason']}")
        elif kind == "note":
            _log.info("%s", event["text"])
        elif kind == "resumed":
            _log.info("resumed at step %s", event["step"])
        elif self._tqdm is not None:
            self._draw(kind, event)

    def _warn(self, text: str) -> None:
        warnings.warn(text, PupillaWarning, stacklevel=self._to_caller)

    def _draw(self, kind: str, event: Event) -> None:
        if kind == "start":
            self.close()
            assert self._tqdm is not None
            # `None`: no bar where standard error is no terminal and no notebook.
            quiet = False if self._wanted else None
            self._bar = self._tqdm(total=event["total"], desc=event["stage"], leave=False, disable=quiet)
        elif kind == "progress" and self._bar is not None:
            if event["loss"] is not None:
                self._bar.set_postfix(loss=f"{event['loss']:.4f}", refresh=False)
            self._bar.update(event["done"] - self._bar.n)
        elif kind == "finish":
            self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _bar_class(progress: bool | None) -> Any:
    if progress is False:
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        if progress:
            raise ImportError("progress=True needs tqdm: pip install tqdm, or give a function") from None
        return None
    return tqdm
