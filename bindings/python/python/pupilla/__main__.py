"""The program ``pupilla``: ``python -m pupilla``, and the command that the package installs."""

from __future__ import annotations

import sys

from . import _core
from ._program import OWN_COMMAND


def main() -> int:
    """Runs the program with the arguments of this process. Gives the exit status."""
    return _core.main(["pupilla", *sys.argv[1:]], OWN_COMMAND)


if __name__ == "__main__":
    sys.exit(main())
