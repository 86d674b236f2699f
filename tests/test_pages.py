"""The README and what is in docs/: every link leads somewhere, every command is one."""

import re
import shlex
from pathlib import Path

import pytest

from benchmark.command_line import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#]*)#?(?P<anchor>[^)]*)\)")
COMMAND = re.compile(r"python -m benchmark ([^'\n`]+)")


def anchors(page):
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in LINK.finditer(page.read_text()):
        there = page.parent / link["path"] if link["path"] else page
        assert there.exists(), link[0]
        assert not link["anchor"] or link["anchor"] in anchors(there), link[0]


def test_the_readme_leads_to_every_page():
    text = PAGES[0].read_text()
    assert len(PAGES) > 5
    assert all(f"(docs/{page.name})" in text for page in PAGES[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_are_there(page):
    for typed in COMMAND.findall(page.read_text()):
        command, *words = shlex.split(typed, comments=True)
        known = {name for parameter in cli.commands[command].params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, typed
