"""One table as Markdown, LaTeX and CSV, and the text of one of its cells."""

from dataclasses import dataclass

import pandas as pd
from tabulate import tabulate

from reports.cells import CELL

MISSING = "-"
FORMATS = {"mean_norm_ratio": (1.0, 4)}  # measure -> scale, decimals; the others are shares, in %
LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "‖δ‖": r"$\|\delta\|$", "<": r"\textless{}"}
LATEX |= {character: "\\" + character for character in "%&_#$"}


@dataclass(frozen=True)
class Table:
    """Text cells with a title, a caption and the planned cells that lack a seed."""

    title: str
    frame: pd.DataFrame
    caption: str
    missing: tuple[str, ...] = ()

    def rows(self) -> list[list[str]]:
        """Header and rows as text; a cell without a value is marked as missing."""
        cells = self.frame.astype(object).where(self.frame.notna(), MISSING).to_numpy().tolist()
        return [[" ".join(str(cell).split()) for cell in row] for row in [list(self.frame), *cells]]

    def body(self) -> str:
        """The bare Markdown table."""
        head, *rows = ([cell.replace("|", r"\|") for cell in row] for row in self.rows())
        return tabulate(rows, head, tablefmt="pipe", disable_numparse=True)

    def markdown(self) -> str:
        return f"### {self.title}\n\n{self.body()}\n\n{self.caption}" + self._lacking("\n\n") + "\n"

    def latex(self) -> str:
        """A table environment; needs the package booktabs."""
        head, *rows = (" & ".join(map(latex, row)) + r" \\" for row in self.rows())
        lines = [r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
        tabular = [f"\\begin{{tabular}}{{{'l' * self.frame.shape[1]}}}", *lines, r"\end{tabular}"]
        caption = latex(f"{self.title}. {self.caption}{self._lacking(' ')}")
        return "\n".join([r"\begin{table}", r"\centering", f"\\caption{{{caption}}}", *tabular, "\\end{table}\n"])

    def _lacking(self, before: str) -> str:
        return f"{before}Missing or incomplete: {'; '.join(self.missing)}." if self.missing else ""


def latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    escaped = text.replace("‖δ‖", "\0")
    return "".join(LATEX.get(character, character) for character in escaped).replace("\0", LATEX["‖δ‖"])


def cell(mean: float, sd: float, n: int, diverged: int, measure: str = "") -> str:
    """ "1.42 ± 0.12 (3)": mean, standard deviation, n; no spread for one seed; "(1 diverged)" where so."""
    scale, decimals = FORMATS.get(measure, (100.0, 2))
    parts = []
    if n:
        spread = f" ± {scale * sd:.{decimals}f}" if n > 1 else ""
        parts.append(f"{scale * mean:.{decimals}f}{spread} ({n})")
    if diverged:
        parts.append(f"({diverged} diverged)")
    return " ".join(parts)


def pivot(aggregated: pd.DataFrame, index: list[str], columns: str) -> pd.DataFrame:
    """The cells' texts, spread over rows and columns."""
    cells = aggregated[["mean", "sd", "n", "diverged", "measure"]].itertuples(index=False, name=None)
    return aggregated.assign(text=[cell(*row) for row in cells]).pivot(index=index, columns=columns, values="text")


def csv(frame: pd.DataFrame) -> str:
    """Long form, fractions not percent, twelve significant digits."""
    return frame.to_csv(index=False, float_format="%.12g", lineterminator="\n")


def seeds_named(aggregated: pd.DataFrame) -> str:
    """What the cells of a table are, in one sentence."""
    if not aggregated["n"].any():
        return "No finished seed yet"
    if aggregated["n"].max() > 1:
        return "Mean ± standard deviation over seeds (ddof 1), number of seeds in brackets"
    return "One seed a cell (number of seeds in brackets), hence no spread"


def grid(plan: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """The cells (dataset, model, labels) that are planned or recorded."""
    return pd.concat([plan[CELL], records[CELL]]).drop_duplicates()
