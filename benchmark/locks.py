"""One process at a time in a folder, and never a file of two: a lock that goes with its holder, however that ends."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from zoo.errors import BadInput

NAME = "lock"


class Held(Exception):
    """Another process works in a folder; the text says which."""


@contextmanager
def alone(folder: Path, *, wait: bool = False, linked: bool = False) -> Iterator[None]:
    """Alone in a folder until the block or the process ends. Raises Held where another is there, unless told to wait.

    The kernel holds the lock (flock): after a kill -9 there is no owner to be judged alive or dead, on this machine
    or another. Where a file system has no such lock, that is an error, not a weaker lock in silence. Only a run's own
    folder may be a link, not one in it.
    """
    if not linked:
        own_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    lock = FileLock(path, timeout=-1, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise Held(holder(path)) from None
        print(f"waiting for {folder}, {holder(path)} has it", flush=True)
        lock.acquire()
    try:
        path.write_text(f"process {os.getpid()} on {platform.node()}\n")
        remove_parts(folder)
        yield
    finally:
        path.unlink(missing_ok=True)  # still locked: whoever opened it meanwhile sees that it is gone and makes another
        lock.release()


def check_writable(folder: Path) -> None:
    """Make a folder that is to be written in when hours have been spent; raises OSError where that cannot be."""
    with alone(folder, wait=True, linked=True):
        pass


def own_folder(folder: Path) -> None:
    """Raises BadInput for a folder that is a link, or that a run has behind one: what is written would go elsewhere."""
    for each in (folder, folder.parent) if folder.parent.name == "cells" else (folder,):
        if each.is_symlink():
            raise BadInput(f"{each} is a link: expected a folder of the run's own")


def remove_parts(folder: Path) -> None:
    """Delete what writers that were killed have left."""
    for part in folder.glob("*.partial"):
        part.unlink(missing_ok=True)


def holder(path: Path) -> str:
    """Who wrote the lock; in the moment between locking and writing it is not known."""
    try:
        return path.read_text().strip() or "another process"
    except OSError:
        return "another process"
