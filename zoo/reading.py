"""Text files from anywhere: read whole, if they are no larger than such a file can be."""

import stat
from pathlib import Path

from zoo.errors import BadInput


def read_text(path: Path, most: int) -> str:
    """A file's text. Raises OSError as usual, UnicodeDecodeError, and BadInput for a file of more than `most` bytes.

    And for what is none: a device has no end, a pipe has nothing until somebody writes.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise BadInput(f"{path} is no regular file: expected one")
    if about.st_size > most:
        raise BadInput(f"{path} has {about.st_size} bytes: expected at most {most}")
    return path.read_text(encoding="utf-8")
