"""What a run's attacks showed beyond Table 2: curves, audit, what remains, transfer."""

from collections.abc import Mapping

import pandas as pd

from reports import attack_curves, audit, remains, transfer
from reports.canvas import images
from reports.layout import Table, csv

HEADINGS = {
    "audit": "Audit: can the figures be believed?",
    "remains": "What remains of robustness",
    "transfer": "Transfer between the models",
}
CURVES = (
    "Error against eps: one step of the fast gradient method on all test images, and the share of the audit's images "
    "that have an image called something else within eps, as far as the minimum-norm attack finds it. A line is the "
    "mean over seeds, its band goes from the lowest to the highest seed; the dotted line is a guess among ten classes."
)


def files(records: pd.DataFrame) -> dict[str, bytes]:
    """Tables and figures with the files they come in; what has no record is absent."""
    found: dict[str, bytes] = {}
    curves = attack_curves.table(records)
    for norm, own in attack_curves.by_norm(curves):
        name = f"curves-{norm}"
        found[f"{name}.png"], found[f"{name}.pdf"] = images(attack_curves.figure, own)
        found[f"{name}.csv"] = csv(own).encode()
    for name, tables in sections(records).items():
        if tables:
            found[f"{name}.md"] = "\n".join(table.markdown() for table in tables).encode()
            found[f"{name}.tex"] = "\n".join(table.latex() for table in tables).encode()
    if "audit.md" in found:
        found["audit.csv"] = csv(audit.table(records)).encode()
    return found


def sections(records: pd.DataFrame) -> dict[str, list[Table]]:
    """The tables of each part."""
    return {
        "audit": audit.tables(records),
        "remains": remains.tables(records),
        "transfer": transfer.tables(records),
    }


def page(records: pd.DataFrame) -> list[str]:
    """The parts of a report's page."""
    curves = [norm for norm, _ in attack_curves.by_norm(attack_curves.table(records))]
    pictures = "\n\n".join(f"![Error against eps, {norm}](curves-{norm}.png)" for norm in curves)
    parts = [f"## Error against eps\n\n{pictures}\n\n{CURVES}\n"] if curves else []
    for name, tables in sections(records).items():
        parts += [f"## {HEADINGS[name]}\n\n" + "\n".join(table.markdown() for table in tables)] if tables else []
    return parts


def render_attack(records: pd.DataFrame, about: Mapping[str, object]) -> dict[str, bytes]:
    """A report on one model that was attacked and audited: what `render` has of that, and what it was made by."""
    facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
    return files(records) | {
        "report.md": "\n".join([f"# Report: {about['suite']}\n\n{facts}\n", *page(records)]).encode()
    }
