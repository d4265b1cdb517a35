"""The documentation says what the programs do."""

import ast
import json
import re
from pathlib import Path

import pytest

from sessiond.commands.status import COLUMNS
from tests.docs_reference import METRICS_PAGE, PAGE, metrics_page, page
from tests.sim.mutants.table import MUTANTS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_configuration_reference_is_made_from_the_settings_as_they_are():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.docs_reference"


def test_the_list_of_metrics_is_made_from_the_tables_that_export_them():
    assert METRICS_PAGE.read_text(encoding="utf-8") == metrics_page(), "run: python -m tests.docs_reference"


LEVELS = {"warning", "error", "exception", "critical"}


def _grave_events():
    """Names of events that the sources log as a warning or worse, where both are written out."""
    for path in (*(ROOT / "sessiond").rglob("*.py"), *(ROOT / "balancer").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                literals = [each.value for each in call.args if isinstance(each, ast.Constant)]
                if call.func.attr in LEVELS and literals:
                    yield literals[0]
                elif call.func.attr == "log" and len(literals) == 2 and literals[0] in LEVELS:
                    yield literals[1]


def test_every_event_by_which_somebody_may_have_to_do_something_is_told():
    told = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", (ROOT / "docs/log-events.md").read_text(encoding="utf-8")))
    events = set(_grave_events())
    assert {"store.down", "worker.ended", "session.fenced"} <= events
    assert events <= told


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


def test_the_table_of_planted_bugs_names_who_finds_each_as_it_is_recorded():
    seeds = json.loads((ROOT / "tests/sim/mutants/seeds.json").read_text(encoding="utf-8"))
    recorded = {
        mutant.name: mutant.scenario.replace("_", " ")
        if mutant.scenario
        else f"`{mutant.plan}`, {seeds[mutant.name]}"
        for mutant in MUTANTS
    }
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    table = text.partition("| rule | planted bug |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()[2:]]
    shown = {name: finder for _, _rule, name, _beside, finder, *_ in rows}
    assert shown == recorded, "run: python -m tests.sim.mutants --recorded"


def test_the_status_that_operators_are_shown_has_the_columns_that_it_has():
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    (heading,) = re.findall(r"^node +state .*$", text, re.MULTILINE)
    assert heading.split() == list(COLUMNS)
