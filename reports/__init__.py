"""Records in, tables, figures and a report out: pure functions of data frames, no file is touched.

Every mean carries n and a named spread; what is planned and missing is shown, what diverged is said.
"""

from reports.cells import HISTORY, KEYS, PLAN, RECORDS, aggregate
from reports.check import differences
from reports.models import MODELS
from reports.report import NAMES, OF_ATTACKS, STRANGE, UNCHOSEN, UNPROVEN, Report, beside, render
from reports.speed import render_speed

__all__ = [
    "HISTORY",
    "KEYS",
    "MODELS",
    "NAMES",
    "OF_ATTACKS",
    "PLAN",
    "RECORDS",
    "STRANGE",
    "UNCHOSEN",
    "UNPROVEN",
    "Report",
    "aggregate",
    "beside",
    "differences",
    "render",
    "render_speed",
]
