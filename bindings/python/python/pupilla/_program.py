"""The program in a process of its own, for commands that train and measure more than one model."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any

from . import _core, _settings_words
from ._progress import Listener, Progress
from .errors import PupillaError, SettingError

OWN_COMMAND = [sys.executable, "-m", "pupilla"]

_WRONG_USAGE = 2
_GRACE_SECONDS = 30


def run(command: str, data: list[str], settings: Mapping[str, Any], progress: Progress) -> Any:
    """Runs a command with settings. Gives what it prints as JSON."""
    words = _core.words(command, data, _settings_words.given(settings))
    events = ["--progress", "json", "--threads", str(_core.threads()), "--stop-with-input"]
    process = subprocess.Popen(
        [*OWN_COMMAND, *words[1:-1 - len(data)], *events, *words[-1 - len(data):]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdin and process.stdout and process.stderr
    printed: list[str] = []
    reader = threading.Thread(target=_read, args=(process.stdout, printed), daemon=True)
    reader.start()
    last = ""
    try:
        with Listener(progress, to_caller=5) as listener:
            for line in process.stderr:
                event = _event(line)
                if event is None:
                    last = line.strip() or last
                else:
                    listener(event)
        status = process.wait()
    except BaseException:
        # The end of its input stops it in good order, with a checkpoint.
        process.stdin.close()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    finally:
        reader.join(timeout=_GRACE_SECONDS)
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
    if status != 0:
        text = last.removeprefix("error: ") or f"the program ended with the status {status}"
        raise SettingError(text) if status == _WRONG_USAGE else PupillaError(text)
    return json.loads("".join(printed))


def _read(stream: IO[str], printed: list[str]) -> None:
    printed.append(stream.read())


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
