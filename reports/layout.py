"""One table as Markdown, LaTeX and CSV, and the text of one of its cells."""

import re
import textwrap
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
LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "†": r"$\dagger$", "‡": r"$\ddagger$"}
LATEX |= {
    "≤": r"$\leq$",
    "≠": r"$\neq$",
    "[": "{[}",
    "ε": r"$\varepsilon$",
    "λ": r"$\lambda$",
    "‖": r"$\|$",
    "δ": r"$\delta$",
}
LATEX |= {'"': "''", "\u200b": r"\allowbreak{}"}
LATEX |= {character: "\\" + character for character in "%&_#${}"}
SIZES = {68: "small", 80: "footnotesize", 101: "scriptsize"}  # characters that fit a line of `article`; else tiny
TINY = 115  # characters, of a wider table some columns come in a part of their own
PAGE = 42  # rows
LINES, LINE = 44, 85  # lines of a page in scriptsize, characters of a line, where there is running text
LONG = re.compile(r"\S{16}(?=\S)")  # may be broken
MOST_ROWS = 200  # of a printed table
BOLD = re.compile(r"\*\*(.+?)\*\*")


@dataclass(frozen=True)
class Table:
    """Text cells, `**bold**` where marked so. The name is its label, its anchor and what other pages call it."""

    name: str
    title: str
    frame: pd.DataFrame
    caption: str
    notes: tuple[str, ...] = ()
    folded: bool = False  # in a page, behind its title
    wrapped: bool = False  # the last column holds running text
    keys: int = 1  # how many columns name a row: where not all fit the width of a page, every part has them

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
        """Table environments of the rows and columns that a page has room for; they need the package booktabs alone."""
        head, *rows = self.rows()
        pages = self._pages(head, rows) if self.wrapped else [rows[at : at + PAGE] for at in range(0, len(rows), PAGE)]
        parts = [
            [[row[i] for i in columns] for row in [head, *page]]
            for page in pages or [[]]
            for columns in self._columns(head, rows)
        ]
        return "\n".join(self._latex_page(head, page, at) for at, (head, *page) in enumerate(parts))

    def _pages(self, head: list[str], rows: list[list[str]]) -> list[list[list[str]]]:
        """Rows by the lines of their running text; one of too many lines goes on in rows that say it goes on."""
        line = int(LINE * self._share(_widths([head, *rows])))
        pages: list[list[list[str]]] = [[]]
        room = LINES
        for *named, text in rows:
            for at, piece in enumerate(textwrap.wrap(text, LINES // 2 * line, break_on_hyphens=False) or [""]):
                lines = -(-len(piece) // line)
                if lines > room:
                    pages.append([])
                    room = LINES
                pages[-1].append([*(["(continued)", *named[1:]] if at else named), piece])
                room -= lines
        return pages

    def _columns(self, head: list[str], rows: list[list[str]]) -> list[list[int]]:
        """The columns of each part, the keys in all: the fewest parts, as even as can be, that fit the line."""
        widths, keys, others = _widths([head, *rows]), range(self.keys), range(self.keys, len(head))
        for parts in range(1, max(1, len(others)) + 1):
            fitting = [[*keys, *map(int, part)] for part in np.array_split(others, parts)]
            if self.wrapped or all(sum(widths[i] + 2 for i in part) <= TINY for part in fitting):
                break
        return fitting

    @staticmethod
    def _share(widths: list[int]) -> float:
        """Of the line, what columns of these widths leave to the last one."""
        return 0.97 - 0.0108 * (sum(widths[:-1]) + 2 * len(widths))

    def _latex_page(self, head: list[str], rows: list[list[str]], at: int) -> str:
        widths = _widths([head, *rows])
        size = next((size for most, size in SIZES.items() if sum(widths) + 2 * len(widths) <= most), "tiny")
        columns = "l" * len(widths)
        if self.wrapped:
            size, columns = r"scriptsize\sloppy", columns[:-1] + f"p{{{self._share(widths):.2f}\\linewidth}}"
            rows = [[*row[:-1], LONG.sub("\\g<0>\u200b", row[-1])] for row in rows]
        title = f"{self.title} (continued)." if at else f"{self.title}. {self.caption}"
        lines = [" & ".join(map(latex, row)) + r" \\" for row in [head, *rows]]
        return "\n".join(
            [
                r"\begin{table}[p]",
                *([r"\addtocounter{table}{-1}"] if at else []),
                r"\centering",
                f"\\caption{{{latex(title)}}}",
                *([] if at else [f"\\label{{tab:{self.name}}}"]),
                f"\\{size}\\setlength{{\\tabcolsep}}{{2pt}}",
                f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
                *(r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"),
                r"\end{tabular}",
                *(f"\\par\\smallskip{{\\footnotesize {latex(note)}\\par}}" for note in self.said[1:] if not at),
                "\\end{table}\n",
            ]
        )


def _widths(rows: list[list[str]]) -> list[int]:
    """Of each column, the characters of its longest cell."""
    return [max(len(plain(cell)) for cell in column) for column in zip(*rows, strict=True)]


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


def means_of(n: "pd.Series[int]") -> str:
    """Of how many seeds the means of a figure are, in one sentence; nothing where there is none."""
    counts = sorted(n[n > 0].unique())
    if not counts:
        return ""
    each = "" if len(counts) == 1 else f" to {counts[-1]}, each mean's in the CSV file"
    return f"n = {counts[0]}{each}."


def grid(plan: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """The cells (dataset, model, labels) that are planned or recorded."""
    return pd.concat([plan[CELL], records[CELL]]).drop_duplicates()
