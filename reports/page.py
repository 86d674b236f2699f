"""The sections as pages: Markdown for repositories, one HTML file that needs nothing else."""

import base64
from collections.abc import Iterator, Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from reports.layout import BOLD, Table
from reports.section import Block, Picture, Section

TEMPLATES = Environment(
    loader=PackageLoader("reports", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def markdown(title: str, sections: Sequence[Section]) -> str:
    """A page with a heading a section; figures are linked by the names of their files."""
    shown = [f"## {each.heading}\n\n{section_markdown(each)}" for each in sections if each.blocks]
    return "\n".join([f"# {title}\n", *shown])


def section_markdown(section: Section) -> str:
    """A section's blocks."""
    return "\n".join(_markdown(block, section) for block in section.blocks)


def _markdown(block: Block, section: Section) -> str:
    if isinstance(block, Table):
        if not block.folded:
            return block.markdown()
        return f"<details><summary>{escape(block.title)}</summary>\n\n{block.inner_markdown()}\n</details>\n"
    if isinstance(block, Picture):
        return f"![{section.heading}]({section.name}.png)\n\n{block.text}\n"
    return f"{block}\n" if isinstance(block, str) else "".join(f"- {line}\n" for line in block)


def html(title: str, sections: Sequence[Section], pictures: Mapping[str, bytes]) -> str:
    """A whole page with its figures inside (`pictures`: NAME.png -> content); no script, nothing to fetch."""
    shown = [(section, list(_shown(section, pictures))) for section in sections if section.blocks]
    return TEMPLATES.get_template("report.html.j2").render(title=title, sections=shown)


def _shown(section: Section, pictures: Mapping[str, bytes]) -> Iterator[tuple[str, object]]:
    """("table", its parts) and the like, for the template."""
    for block in section.blocks:
        if isinstance(block, Table):
            head, *rows = [[_bold(cell) for cell in row] for row in block.rows()]
            said = [_bold(text) for text in block.said]
            yield "table", {"table": block, "head": head, "rows": rows, "said": said}
        elif isinstance(block, Picture):
            content = pictures[f"{section.name}.png"]
            width = int.from_bytes(content[16:20])  # in pixels, as a PNG's header has it
            yield "figure", {"picture": base64.b64encode(content).decode(), "width": width, "said": block.text}
        elif isinstance(block, str):
            yield "text", _bold(block)
        else:
            yield "bullets", [_bold(line) for line in block]


def _bold(text: str) -> Markup:
    """Escaped, with `**bold**` as an element."""
    return Markup(BOLD.sub(r"<strong>\1</strong>", str(escape(text))))
