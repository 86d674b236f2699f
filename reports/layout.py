"""One table as Markdown, LaTeX and CSV, and the text of one of its cells."""

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pandas as pd
from tabulate import tabulate

from reports.cells import CELL

MISSING = "-"
LARGEST = 1e15  # that is printed with all its digits
FORMATS = {
    "mean_norm_ratio": (1.0, 4),
    "smoothness": (1.0, 4),
    "virtual_adversarial_cost": (1.0, 2),
}  # measure -> scale, decimals; others are in %
LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "<": r"\textless{}", ">": r"\textgreater{}", "−": "$-$"}
LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "†": r"$\dagger$", "≤": r"$\leq$", "[": "{[}"}
LATEX |= {"ε": r"$\varepsilon$", "λ": r"$\lambda$", "‖": r"$\|$", "δ": r"$\delta$", '"': "''"}
LATEX |= {character: "\\" + character for character in "%&_#${}"}
SIZES = {68: "small", 80: "footnotesize", 101: "scriptsize"}  # characters that fit a line of `article`; else tiny
PAGE = 42  # rows
MOST_ROWS = 200  # of a printed table
BOLD = re.compile(r"\*\*(.+?)\*\*")


@dataclass(frozen=True)
class Table:
    """Text cells, `**bold**` where marked so. The name is its label, its anchor and what a README calls it."""

    name: str
    title: str
    frame: pd.DataFrame
    caption: str
    notes: tuple[str, ...] = ()
    folded: bool = False  # in a page, behind its title
    wrapped: bool = False  # the last column holds running text

    def rows(self) -> list[list[str]]:
        """Header and rows as text; a cell without a value is marked as missing."""
        frame = self.frame.head(MOST_ROWS)
        cells = frame.astype(object).where(frame.notna(), MISSING).to_numpy().tolist()
        return [[" ".join(str(cell).split()) for cell in row] for row in [list(self.frame), *cells]]

    @property
    def said(self) -> tuple[str, ...]:
        """The caption, the notes, and how many rows there was no room for."""
        rows = f"The first {MOST_ROWS} of {len(self.frame):,} rows; the CSV file has all."
        return (self.caption, *self.notes, *([rows] if len(self.frame) > MOST_ROWS else []))

    def body(self) -> str:
        """The bare Markdown table."""
        head, *rows = ([cell.replace("|", r"\|") for cell in row] for row in self.rows())
        return tabulate(rows, head, tablefmt="pipe", disable_numparse=True)

    def markdown(self) -> str:
        """Heading, table, caption and notes."""
        return f"### {self.title}\n\n{self.inner_markdown()}"

    def inner_markdown(self) -> str:
        """All but the heading."""
        return "\n\n".join([self.body(), *self.said]) + "\n"

    def latex(self) -> str:
        """Table environments, one a page; they need the package booktabs alone."""
        head, *rows = self.rows()
        height = PAGE // 5 if self.wrapped else PAGE
        pages = [rows[at : at + height] for at in range(0, len(rows), height)] or [[]]
        return "\n".join(self._latex_page(head, page, at) for at, page in enumerate(pages))

    def _latex_page(self, head: list[str], rows: list[list[str]], at: int) -> str:
        widths = [max(len(plain(row[i])) for row in [head, *rows]) for i in range(len(head))]
        size = next((size for most, size in SIZES.items() if sum(widths) + 2 * len(widths) <= most), "tiny")
        columns = "l" * len(widths)
        if self.wrapped:
            share = 0.97 - 0.0108 * (sum(widths[:-1]) + 2 * len(widths))  # of the line, left by the other columns
            size, columns = r"scriptsize\sloppy", columns[:-1] + f"p{{{share:.2f}\\linewidth}}"
        about = "Continued." if at else f"{self.caption}"
        lines = [" & ".join(map(latex, row)) + r" \\" for row in [head, *rows]]
        return "\n".join(
            [
                r"\begin{table}[p]",
                r"\centering",
                f"\\caption{{{latex(f'{self.title}. {about}')}}}",
                *([] if at else [f"\\label{{tab:{self.name}}}"]),
                f"\\{size}\\setlength{{\\tabcolsep}}{{2pt}}",
                f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
                *(r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"),
                r"\end{tabular}",
                *(f"\\par\\smallskip{{\\footnotesize {latex(note)}\\par}}" for note in self.said[1:] if not at),
                "\\end{table}\n",
            ]
        )


def plain(text: str) -> str:
    """Without the marks of bold."""
    return BOLD.sub(r"\1", text)


def latex(text: str) -> str:
    """Text in ASCII with LaTeX's special characters escaped, `**bold**` as \\textbf."""
    pieces = BOLD.split(text)  # what is bold stands at odd places
    escaped = ["".join(_escaped(character) for character in piece) for piece in pieces]
    return "".join(f"\\textbf{{{piece}}}" if i % 2 else piece for i, piece in enumerate(escaped))


def _escaped(character: str) -> str:
    known = LATEX.get(character, character)
    return known if known.isascii() else f"{{[}}U+{ord(character):04X}]"


def number(value: float, decimals: int, sign: str = "") -> str:
    """A fixed number of decimals, halves away from zero as by hand; noise in a float's last digits, in which machines
    differ, is cut off first.
    """
    if np.isnan(value):
        return MISSING
    if abs(value) >= LARGEST:
        return f"{value:{sign}.{decimals}e}"
    rounded = Decimal(f"{value:.9f}").quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    return f"{rounded + 0:{sign}.{decimals}f}"  # + 0: no minus before zero


def probability(p: float) -> str:
    """Three decimals, or that it is smaller."""
    return "< 0.001" if p < 0.0005 else number(p, 3)


def cell(mean: float, sd: float, n: int, diverged: int, measure: str = "", with_n: bool = True) -> str:
    """ "1.42 ± 0.12 (3)": mean, standard deviation, n; no spread for one seed; "(2/3)" where one of three diverged."""
    scale, decimals = FORMATS.get(measure, (100.0, 2))
    if not n:
        return f"diverged ({diverged})" if diverged else ""
    spread = f" ± {number(scale * sd, decimals)}" if n > 1 else ""
    count = f" ({n}/{n + diverged})" if diverged else f" ({n})" if with_n else ""
    return number(scale * mean, decimals) + spread + count


def pivot(aggregated: pd.DataFrame, index: list[str], columns: str) -> pd.DataFrame:
    """The cells' texts, spread over rows and columns; n stands in them unless it is the same in all.

    Cells marked in a column `best` are bold.
    """
    with_n = aggregated.loc[aggregated["n"] > 0, "n"].nunique() > 1
    cells = aggregated[["mean", "sd", "n", "diverged", "measure"]].assign(with_n=with_n)
    rows = cells.itertuples(index=False, name=None)
    texts = pd.Series([cell(*row) for row in rows], index=aggregated.index, dtype=object)
    best = aggregated.get("best", pd.Series(False, index=aggregated.index)).astype(bool)
    return aggregated.assign(text=texts.where(~best, "**" + texts + "**")).pivot(
        index=index, columns=columns, values="text"
    )


def intervals(aggregated: pd.DataFrame, index: list[str], columns: str) -> pd.DataFrame:
    """The 95 % t-intervals of the means, spread over rows and columns."""
    bounds = aggregated[["measure", "low", "high"]].itertuples(index=False, name=None)
    texts = [interval(low, high, *FORMATS.get(measure, (100.0, 2))) for measure, low, high in bounds]
    return aggregated.assign(text=texts).pivot(index=index, columns=columns, values="text")


def interval(low: float, high: float, scale: float = 100.0, decimals: int = 2) -> str:
    """ "[1.20, 1.64]", or that there is none."""
    bounds = f"[{number(scale * low, decimals)}, {number(scale * high, decimals)}]"
    return MISSING if np.isnan(low) else bounds


def csv(frame: pd.DataFrame) -> str:
    """Long form, fractions not percent, ten significant digits: on every machine the same."""
    return frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def seeds_named(aggregated: pd.DataFrame) -> str:
    """What the cells of a table are, in one sentence."""
    counts = sorted(aggregated.loc[aggregated["n"] > 0, "n"].unique())
    lost = "; (2/3): two of three seeds, the others diverged" if aggregated["diverged"].any() else ""
    if not counts:
        return f"No finished seed yet{lost}"
    if counts == [1]:
        return f"One seed in every cell (n = 1), hence no spread{lost}"
    n = f"n = {counts[0]} in every cell" if len(counts) == 1 else "n in brackets"
    return f"Mean ± standard deviation over seeds (ddof 1), {n}{lost}"


def grid(plan: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """The cells (dataset, model, labels) that are planned or recorded."""
    return pd.concat([plan[CELL], records[CELL]]).drop_duplicates()
