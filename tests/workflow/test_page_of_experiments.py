"""Pages of experiments in a real browser: every number that can be seen in a table is one of the page's data.

Pictures of the pages, and what is printed, are kept in build/screenshots/ to be looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Page, browser
from experiments import ExperimentFolder
from hostile_experiment import make_hostile_experiment
from page_cases import make_page_cases
from page_reading import data_of
from whole_experiment import make_whole_experiment

from run_experiment.common import paths
from run_experiment.report.collect import collect

SCREENSHOTS = Path(__file__).parents[2] / "build/screenshots"
EXPERIMENTS = {"whole": make_whole_experiment, "cases": make_page_cases, "hostile": make_hostile_experiment}
Row = dict[str, Any]

# All rows of all tables of a name: the task that a table is of, then the cells.
ROWS = """[...document.querySelectorAll('[data-table="NAME"]')].flatMap((place) => {
    place.querySelectorAll("button.more").forEach((more) => more.click());
    return [...place.querySelectorAll("tbody tr")].map((row) =>
        [place.dataset.task || "", ...[...row.cells].map((cell) => cell.textContent)]);
})"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module", params=EXPERIMENTS)
def experiment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    make: Callable[[Path], ExperimentFolder] = EXPERIMENTS[request.param]
    made = make(tmp_path_factory.mktemp(request.param))
    collect(made.path)
    return made


@pytest.fixture
def page(experiment: ExperimentFolder, chromium: Page) -> Iterator[Page]:
    """The page, opened. Nothing went wrong in it, and it asked for nothing but itself."""
    chromium.requests.clear()
    chromium.errors.clear()
    chromium.look(1280)
    chromium.open(experiment.path / paths.REPORT)
    yield chromium
    assert chromium.errors == []
    assert len(set(chromium.requests)) == 1
    assert chromium.value("window.hacked") is None


def signed(value: float) -> str:
    """A difference as tables show it."""
    return f"{value:+.3f}".replace("-", "−") if value else f"{value:.3f}"


def interval(row: Row, write: Callable[[float], str]) -> list[str]:
    return [] if row["low"] is None else [f"{write(row['low'])} to {write(row['high'])}"]


def three(value: float) -> str:
    return f"{value:.3f}"


def clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def p_value(value: float) -> str:
    return "<0.001" if value < 0.001 else three(value)


# Cells by which the row of each table is found: those that must be there, as they must be written.
CELLS: dict[str, Callable[[Row], list[str]]] = {
    "scores": lambda row: [
        *(row["task"], row["run"], str(row["n"])),
        *([] if row["value"] is None else [three(row["value"])]),
        *([] if row["epoch"] is None else [str(row["epoch"])]),
        *interval(row, three),
    ],
    "comparisons": lambda row: [
        *(row["task"], row["run"], row["reference"]),
        *([] if row["delta"] is None else [signed(row["delta"])]),
        *([] if row["p_corrected"] is None else [p_value(row["p_corrected"])]),
        *interval(row, signed),
    ],
    "seeds": lambda row: [row["task"], row["name"], str(row["seeds"]), three(row["mean"]), three(row["sd"])],
    "runs": lambda row: [row["run"], clock(row["seconds"]), *([row["note"]] if row["note"] else [])],
    "jobs": lambda row: [row["job_id"], row["subject"], f"{clock(row['seconds'])} of {clock(row['limit_seconds'])}"],
    "requests": lambda row: [row["kind"], str(row["jobs"]), clock(row["seconds"]), clock(row["suggested_seconds"])],
    "problems": lambda row: [row["subject"], row["state"], row["reason"]],
}


def rows_of(data: dict[str, Any], name: str) -> list[Row]:
    if name == "requests":
        return list(data["compute"]["requests"])
    return [row for row in data[name] if name != "runs" or row["type"] == "fine-tuned"]


@pytest.mark.parametrize("name", CELLS)
def test_every_number_of_a_table_is_one_of_the_data(page: Page, experiment: ExperimentFolder, name: str) -> None:
    data = data_of(experiment)
    parameters = {run["run"]: run["parameters"] for run in data["runs"]}
    expected, shown = rows_of(data, name), page.value(ROWS.replace("NAME", name))
    assert len(shown) == len(expected)
    for row in expected:
        # The only task is not named.
        cells = [cell for cell in CELLS[name](row) if len(data["tasks"]) > 1 or cell != row.get("task")]
        found = next((one for one in shown if set(cells) <= set(one)), None)
        assert found, f"no row with {cells}"
        shown.remove(found)
        numbers = set(tokens(" ".join(found)))
        assert numbers <= written({**row, "parameters": parameters.get(row.get("run", ""))})


def tokens(text: str) -> list[str]:
    """The numbers in a text."""
    return re.findall(r"<?[+−-]?\d+(?:[.:]\d+)*", text)


def written(value: Any) -> set[str]:
    """All that a table may write of the numbers in a value, and of those in its texts."""
    if isinstance(value, dict | list):
        return {text for one in (value.values() if isinstance(value, dict) else value) for text in written(one)}
    if isinstance(value, str):
        return set(tokens(value))
    if value is None or isinstance(value, bool):
        return set()
    forms = {str(value), clock(value) if value >= 0 else "", p_value(value), signed(value), str(round(value))}
    return forms | {f"{value:.{digits}f}" for digits in range(1, 5)} | {f"{value:#.4g}", f"{value:g}"}


def test_the_answer_of_each_task_stands_first_and_its_best_result_is_marked(
    page: Page, experiment: ExperimentFolder
) -> None:
    data = data_of(experiment)
    said = page.value("[...document.querySelectorAll('.answer')].map((one) => one.textContent)")
    for task, text in zip(data["tasks"], said, strict=True):
        assert task["answer"] in text
        assert task["caution"] in text
    marked = page.value(
        """[...document.querySelectorAll('[data-table=scores]')].flatMap((place) => {
            place.querySelectorAll("button.more").forEach((more) => more.click());
            return [...place.querySelectorAll("tr.best")].map((row) => row.cells.length);
        }).length"""
    )
    best = [(task["task"], run, task["best_epoch"]) for task in data["tasks"] for run in task["best_runs"]]
    assert marked == len(best)
    assert set(best) <= {(row["task"], row["run"], row["epoch"]) for row in data["scores"]}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_pictures_are_kept(page: Page, experiment: ExperimentFolder, width: int, dark: bool) -> None:
    page.look(width, dark)
    page.open(experiment.path / paths.REPORT)
    assert page.value("document.documentElement.scrollWidth") == width
    name = f"{experiment.path.parent.name.rstrip('0123456789')}-{width}-{'dark' if dark else 'light'}.png"
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    assert page.screenshot(SCREENSHOTS / name).stat().st_size > 50_000


def test_what_is_printed_is_kept(page: Page, experiment: ExperimentFolder) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    name = experiment.path.parent.name.rstrip("0123456789")
    assert page.pdf(SCREENSHOTS / f"{name}.pdf").read_bytes().startswith(b"%PDF")
