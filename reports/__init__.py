"""Records in, tables, figures and a report out: pure functions of data frames, no file is touched.

Every mean carries n and a named spread; what is planned and missing is shown, what diverged is said.
"""

from reports.attacked import render_attack
from reports.cells import HISTORY, KEYS, PLAN, RECORDS, aggregate
from reports.models import MODELS
from reports.report import render
from reports.speed import render_speed

__all__ = ["HISTORY", "KEYS", "MODELS", "PLAN", "RECORDS", "aggregate", "render", "render_attack", "render_speed"]
