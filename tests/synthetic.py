"""Rows of records and histories made up for tests: measured nowhere."""

import math


def error(model, seed, value, *, measure="test_error", labels=50, dataset="digits", **more):
    kind = {"attack": "", "norm": "", "eps": math.nan, "n": 500, "subset": "abc"} | more
    where = {"dataset": dataset, "model": model, "labels": labels, "seed": seed, "epoch": 3, "measure": measure}
    return where | kind | {"value": value}


def attacked(model, seed, value, norm="L2", eps=0.3, **more):
    kind = {"measure": "attacked_error", "attack": "fgm", "norm": norm, "eps": eps}
    return error(model, seed, value, **(kind | more))


def smoothness(model, seed, epoch, value, *, labels=50, dataset="digits"):
    where = {"dataset": dataset, "model": model, "labels": labels, "seed": seed}
    return where | {"epoch": epoch, "measure": "smoothness", "value": value}
