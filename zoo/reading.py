"""Text files from anywhere: read whole, if they are no larger than such a file can be."""

from pathlib import Path

from zoo.errors import BadInput


def read_text(path: Path, most: int) -> str:
    """A file's text. Raises OSError as usual, UnicodeDecodeError, and BadInput for a file of more than `most` bytes."""
    if (size := path.stat().st_size) > most:
        raise BadInput(f"{path} has {size} bytes: expected at most {most}")
    return path.read_text(encoding="utf-8")
