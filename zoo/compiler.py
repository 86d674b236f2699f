"""Whether steps can be compiled here."""

import functools
import os
import shutil
import time
import warnings

import torch


@functools.cache
def compiler_fault() -> str | None:
    """Why nothing can be compiled here, in a line; None where it can.

    It is tried, once a process, on a chain that is new, which no cache has: a compiler can be there and broken, and
    the folder that it writes to be full or another's. That takes some seconds, of which most are torch's import of
    its own, and saves an end in the middle of a run.
    """
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        return "found no C++ compiler"
    salt = time.time_ns()
    try:
        with warnings.catch_warnings(action="ignore"):  # about torch's own code
            torch.compile(lambda x: x.sin() + salt)(torch.ones(64))
    except Exception as error:  # whatever it is, an eager step has no need of it
        return " ".join(f"compiling fails, {type(error).__name__}: {error}".split("Set TORCHDYNAMO")[0].split())[:300]
    return None
