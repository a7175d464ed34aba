"""What the READMEs and docs/integrations.md say can be found and typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sidecar import cli
from sidecar.kube import plugin
from tests.examples.kit import EXAMPLES, ROOT

PAGE = ROOT / "docs" / "integrations.md"
FOLDERS = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())
PAGES = [PAGE, *(folder / "README.md" for folder in FOLDERS)]


def commands() -> list[str]:
    """Each of our commands, in code blocks and in running text."""
    found = []
    for page in PAGES:
        text = page.read_text()
        code = [line for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
        code += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        found += [c for c in code if re.match(r"(kubectl model-sidecar|sidecar pins) \w+ ", c)]
    return sorted(set(found))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).resolve().exists(), target


def test_the_page_leads_to_every_example() -> None:
    linked = set(re.findall(r"\(\.\./examples/([\w-]+)\)", PAGE.read_text()))
    assert linked == {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("command", commands())
def test_a_command_can_be_typed(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "kubectl":
        plugin._parser(words[2:]).parse_args(words[2:])
    else:
        cli._parser(words[1:]).parse_args(words[1:])


def test_commands_are_found() -> None:
    assert len(commands()) > 5


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_file_that_a_tree_names_is_there(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    for block in re.findall(r"```\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if match := re.match(r"([\w./-]+(?:/|\.ya?ml))  +\w", line):
                assert (folder / match[1]).exists(), match[1]
