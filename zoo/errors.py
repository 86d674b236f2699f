"""The one exception that a user can cause and mend."""

import difflib
import reprlib
import traceback
from collections.abc import Iterable
from pathlib import Path

shortened = reprlib.Repr()
shortened.maxstring = shortened.maxother = shortened.maxlong = 200


def quoted(value: object) -> str:
    """A value as an error shows it: of one that is nested thousands deep, or as long, the beginning."""
    return shortened.repr(value)


def told(error: BaseException) -> str:
    """An exception that nobody foresaw, in a line: of what kind, what it says, and where it was raised."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    said = f": {' '.join(str(error).split())[:300]}" if str(error) else ""
    return f"{type(error).__name__}{said} ({Path(where.filename).name}, line {where.lineno})"


class BadInput(ValueError):
    """A wrong flag, key, data file or checkpoint: one line that says what, where and what would be right."""

    def __init__(self, message: str) -> None:
        super().__init__(
            " ".join(message.split())
        )  # what a file from elsewhere is quoted with may have lines of its own


def unknown(kind: str, name: str, known: Iterable[str]) -> BadInput:
    """The error for a name that is not in `known`, with the nearest one that is."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
    return BadInput(f"unknown {kind} {name!r}: {hint}")
