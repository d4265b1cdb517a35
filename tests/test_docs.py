"""The documentation says what the programs do."""

import re
from pathlib import Path

import pytest

from tests.docs_reference import METRICS_PAGE, PAGE, metrics_page, page

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_configuration_reference_is_made_from_the_settings_as_they_are():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.docs_reference"


def test_the_list_of_metrics_is_made_from_the_tables_that_export_them():
    assert METRICS_PAGE.read_text(encoding="utf-8") == metrics_page(), "run: python -m tests.docs_reference"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_source_files_that_pages_name_exist(path):
    for name in re.findall(
        r"`((?:sessiond|balancer|tests|deploy|docs)/[\w/.-]+)`", path.read_text(encoding="utf-8")
    ):
        assert (ROOT / name).exists(), f"{path.name} names {name}"
