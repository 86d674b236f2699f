"""Reports written beside their records, the pages that embed them among these; and whether what is there is right."""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.collect import Collected, collect, strangers
from benchmark.locks import alone, own_folder, remove_parts
from benchmark.plan import plan
from benchmark.suite import load_suite
from reports import NAMES, Report, beside, differences
from zoo.checkpoints import write_whole
from zoo.errors import BadInput, unknown

PUBLISHED, README, DOCS = Path("published"), Path("README.md"), Path("docs")
ALL = "all"  # runs, where a page embeds a table of theirs
KINDS = ("md", "tex", "csv", "png", "pdf")
WRITTEN = {"report.md", "report.html", *(f"{name}.{kind}" for name in NAMES if name != "report" for kind in KINDS)}
"""A report's files, whatever it holds."""
OPEN, CLOSE = r"^<!-- report: (?P<run>\S+) (?P<name>\S+) -->\n", r"^<!-- /report -->$"
EMBEDDED = re.compile(f"(?P<open>{OPEN}).*?(?P<close>{CLOSE})", re.S | re.M)


def collected(name: str, runs: Sequence[Path], publish: bool = False) -> Collected:
    """The records of a suite's run, or of several; cells whose hyper-parameters are not chosen yet are named there.

    A folder of no cell of the suite is told, or where it would be published refused with BadInput.
    """
    suite = load_suite(name)
    there_are(runs)
    cells = plan(suite, name, chosen=True)
    for folder in strangers(suite, cells, runs):
        said = f"{folder} is of no cell of the suite {name}"
        if publish:
            raise BadInput(f"{said}; remove it")
        print(f"warning: {said}; the report leaves it out", file=sys.stderr)
    return collect(suite, name, cells, runs)


def there_are(runs: Sequence[Path]) -> None:
    """Raises BadInput for a run whose folder is missing, or one of several that is no run's."""
    for run in runs:
        if not run.is_dir():
            raise BadInput(f"{run} is missing: run the suite first, or name its folder with --out")
        if len(runs) > 1 and not any((run / name).is_dir() for name in ("cells", "tuning")):
            raise BadInput(f"{run} is not the folder of a run: it has neither cells nor tuning")


def report_on(data: Collected, run: Path) -> tuple[Report, dict[Path, bytes]]:
    """The report on a run, and path -> content of its files. Raises BadInput for records that make no report."""
    try:
        report = Report.of(**vars(data))
        files = report.files()
    except ValueError as error:
        raise BadInput(f"records of {run}: {error}") from error
    return report, {run / "report" / name: content for name, content in files.items()}


def report_files(data: Collected, run: Path) -> dict[Path, bytes]:
    """Path -> content of the report on a run. Raises BadInput for records that make no report."""
    return report_on(data, run)[1]


def published_files() -> tuple[list[Path], dict[Path, bytes]]:
    """The folders of the published reports, and path -> content of all of them, of the tables of all runs and of the
    pages that embed these.
    """
    runs = sorted({path.parent for part in ("cells", "tuning") for path in PUBLISHED.glob(f"*/{part}")})
    if not runs:
        raise BadInput(f"{PUBLISHED} has no run: --published is for the project's own checkout, in its folder")
    files: dict[Path, bytes] = {}
    pieces: dict[str, dict[str, str]] = {}
    reports: dict[str, Report] = {}
    for run in runs:
        reports[run.name], own = report_on(collected(run.name, [run], publish=True), run)
        files |= own
        pieces[run.name] = reports[run.name].pieces((run / "report").as_posix())
    together, pieces[ALL] = beside(reports)
    files |= {PUBLISHED / name: content for name, content in together.items()}
    for page in (README, *sorted(DOCS.glob("*.md"))):
        files[page] = embedded(read_page(page), pieces, page).encode()
    return [run / "report" for run in runs], files


def read_page(page: Path) -> str:
    """A page's text. Raises BadInput for bytes that are none."""
    try:
        return page.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{page} is no UTF-8 text ({error}): restore it") from error


def embedded(text: str, pieces: Mapping[str, Mapping[str, str]], page: Path = README) -> str:
    """The page's text with what stands between `<!-- report: RUN NAME -->` and `<!-- /report -->` made anew.

    Links into the published reports lead there from the page's folder. Raises BadInput for a run or a name that is not
    there.
    """
    published = f"{'../' * len(page.parent.parts)}{PUBLISHED}/"

    def anew(match: "re.Match[str]") -> str:
        run, name = match["run"], match["name"]
        if run not in pieces:
            raise BadInput(f"{page}: {unknown('published run', run, pieces)}")
        if name not in pieces[run]:
            raise BadInput(f"{page}: {unknown(f'table or figure of {run}', name, pieces[run])}")
        piece = pieces[run][name].replace(f"]({PUBLISHED}/", f"]({published}")
        return f"{match['open']}\n{piece}\n{match['close']}"

    marks = [len(re.findall(mark, text, re.M)) for mark in ("^<!-- report: ", CLOSE)]
    if marks != 2 * [len(EMBEDDED.findall(text))]:
        raise BadInput(f"{page}: expected each <!-- report: RUN NAME --> to be closed by <!-- /report -->")
    return EMBEDDED.sub(anew, text)


def write_report(files: Mapping[Path, bytes], folders: Sequence[Path]) -> None:
    """Write every file, and remove what an earlier report left in the folders that this one has no more.

    Raises BadInput for a folder that is a link.
    """
    for folder in folders:
        own_folder(folder)
    for path, content in files.items():
        write_whole(path, content)
    for path in there(folders) - files.keys():
        path.unlink()


def renew_report(name: str, folder: Path, merged: Sequence[Path] = ()) -> None:
    """Write a run's report from what its records are now; of two runs on one folder the later one's is the last."""
    load_suite(name)  # a name that is wrong is said before a folder that is missing
    there_are([folder])
    with alone(folder, wait=True, linked=True):
        own_folder(folder / "report")
        remove_parts(folder / "report")
        write_report(report_files(collected(name, [folder, *merged]), folder), [folder / "report"])
    print(f"report: {folder / 'report' / 'report.md'}")


def check_report(files: Mapping[Path, bytes], folders: Sequence[Path]) -> bool:
    """Whether what is there is what the records give; what differs goes to stderr."""
    known = there(folders) | {path for path in files if path.is_file()}
    have = {str(path): path.read_bytes() for path in known}
    lines = differences(have, {str(path): content for path, content in files.items()})
    names = ", ".join(map(str, folders))
    if lines:
        print(f"{names}: not what the records give; run the same without --check", *lines, sep="\n", file=sys.stderr)
    else:
        print(f"{names}: what the records give")
    return not lines


def there(folders: Sequence[Path]) -> set[Path]:
    """The files in these folders that a report wrote."""
    found = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    return {path for path in found if path.name in WRITTEN and path.is_file()}
