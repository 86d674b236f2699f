"""Is a report there what its records give? Texts to the byte; figures by what they were drawn from, and their pixels.

The same picture has other bytes under other versions of matplotlib or FreeType. A figure is right if the digest of
its data, which it carries, is right, and if, drawn by the same versions, it shows the same.
"""

import base64
import difflib
import io
import re
from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np
from PIL import Image

MOST_LINES, WIDTH = 40, 600


def differences(have: Mapping[str, bytes], want: Mapping[str, bytes]) -> list[str]:
    """Lines that say what is missing, superfluous or different; none where the report is right."""
    return [line for name in sorted(have.keys() | want.keys()) for line in _of_file(name, have, want)]


def _of_file(name: str, have: Mapping[str, bytes], want: Mapping[str, bytes]) -> Iterator[str]:
    if name not in want:
        yield f"{name}: there, but the records give no such file"
    elif name not in have:
        yield f"{name}: missing"
    elif have[name] != want[name] and name.endswith((".png", ".pdf")):
        if said := _of_figure(have[name], want[name]):
            yield f"{name}: {said}"
    elif (old := _text(name, have)) != (new := _text(name, want)):
        diff = difflib.unified_diff(
            old.splitlines(), new.splitlines(), f"{name}, there", f"{name}, from records", "", "", 1, ""
        )
        yield from (line if len(line) <= WIDTH else f"{line[:WIDTH]} ..." for line in islice(diff, MOST_LINES))
        if old.splitlines() == new.splitlines():
            yield f"{name}: other line ends"
        if sum(1 for _ in diff):
            yield f"{name}: more differs"


def _text(name: str, files: Mapping[str, bytes]) -> str:
    """A text; in a page each embedded figure that is a file of the report becomes the name of that file."""
    text = files[name].decode(errors="replace")
    if name.endswith(".html"):
        for other, content in sorted(files.items()):
            if other.endswith(".png") and content:
                text = text.replace(base64.b64encode(content).decode(), f"the file {other}")
    return text


def _of_figure(have: bytes, want: bytes) -> str:
    """What is wrong with a figure, empty if nothing is."""
    try:
        (old, old_by), (new, new_by) = _facts(have), _facts(want)
    except (ValueError, OSError):
        return "not a figure of these reports"
    if old != new:
        return f"drawn from other data ({old[:24]} there, {new[:24]} from the records)"
    if have.startswith(b"%PDF") != want.startswith(b"%PDF"):
        return "a PDF in a PNG's place, or a PNG in a PDF's"
    same = have == want if have.startswith(b"%PDF") or old_by != new_by else _pixels(have) == _pixels(want)
    return "" if same or old_by != new_by else f"edited, or drawn by other code (both by {new_by})"


def _facts(content: bytes) -> tuple[str, str]:
    """The digest of a figure's data and what drew it. ValueError where it has none."""
    if content.startswith(b"%PDF"):
        found = [re.search(rb"/" + key + rb" \(([^)]*)\)", content) for key in (b"Subject", b"Producer")]
        digest, by = (match.group(1).decode() if match else "" for match in found)
    else:
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            digest, by = (str(picture.info.get(key, "")) for key in ("Description", "Software"))
    if not digest.startswith("data sha256 "):
        raise ValueError("no digest")
    return digest.removeprefix("data sha256 "), by


def _pixels(content: bytes) -> tuple[tuple[int, ...], bytes]:
    with Image.open(io.BytesIO(content)) as picture:
        pixels = np.asarray(picture)
    return pixels.shape, pixels.tobytes()
