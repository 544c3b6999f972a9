"""The page of an experiment in a real browser without a network: it is drawn, sorted, opened, printed, and harmless."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Page, browser
from report_data import HOSTILE, page_data

from run_experiment.report.figures import figures
from run_experiment.report.page import page, visible

ROWS = "[...document.querySelectorAll('[data-table=\"{table}\"] tbody tr')]"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def clean(chromium: Page) -> Iterator[Page]:
    """The browser; afterwards there was no error in it and no request but for the file that was opened."""
    chromium.requests.clear()
    chromium.errors.clear()
    yield chromium
    assert chromium.errors == []
    assert {address.partition(":")[0] for address in chromium.requests} == {"file"}
    assert len(set(chromium.requests)) == 1


def written(folder: Path, **size: int | str) -> Path:
    return saved(folder, page_data(**size))


def saved(folder: Path, data: dict[str, Any]) -> Path:
    path = folder / "report.html"
    path.write_text(page(data, figures(data)), encoding="utf-8")
    return path


def column(opened: Page, table: str, number: int) -> list[str]:
    """The texts of a column of a table."""
    cells = f"{ROWS.format(table=table)}.map((row) => row.cells[{number}].textContent)"
    return list(opened.value(cells))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_all_is_drawn_at_every_width(clean: Page, tmp_path: Path, width: int, dark: bool) -> None:
    path = written(tmp_path)
    clean.look(width, dark)
    clean.open(path)
    # Nothing but tables and wide figures, in their own frames, is wider than the window.
    assert clean.value("document.documentElement.scrollWidth") == width
    red = clean.value("Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")
    assert (red < 60) is dark
    if width == 1280:
        assert clean.value(
            "[...document.querySelectorAll('.scroll')].every((one) => one.scrollWidth <= one.clientWidth)"
        )
    # Every figure has marks, and all of them lie within it.
    drawn = clean.value(
        """[...document.querySelectorAll("figure svg")].map((svg) => {
            const frame = svg.getBoundingClientRect();
            const marks = [...svg.querySelectorAll(".mark, .line, .waited")].map((one) => one.getBoundingClientRect());
            const out = marks.filter((box) => box.left < frame.left - 1 || box.right > frame.right + 1
                || box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
            return [marks.length, out.length];
        })"""
    )
    assert len(drawn) == len(figures(page_data())) > 8
    assert all(marks > 1 and out == 0 for marks, out in drawn)
    assert clean.screenshot(tmp_path / f"{width}.png").stat().st_size > 50_000


def test_a_table_is_sorted_by_a_click_and_filtered_by_a_word(clean: Page, tmp_path: Path) -> None:
    clean.look(1280)
    clean.open(written(tmp_path, tasks=1))
    heads = clean.value("[...document.querySelectorAll('[data-table=scores] th')].map((head) => head.textContent)")
    score = heads.index("match/accuracy")
    # The best result comes first.
    highest = column(clean, "scores", score)
    assert highest == sorted(highest, reverse=True) != highest[::-1]
    click = f"document.querySelectorAll('[data-table=scores] th button')[{score}].click()"
    clean.value(click)
    assert column(clean, "scores", score) == highest[::-1]
    clean.value(click)
    assert column(clean, "scores", score) == highest
    clean.value(
        """const filter = document.querySelector("[data-table=scores] input");
        filter.value = "rank8"; filter.dispatchEvent(new Event("input"));"""
    )
    assert set(column(clean, "scores", heads.index("Run"))) == {"rank8_1"}


def test_what_is_best_is_marked_and_the_base_model_is_a_row(clean: Page, tmp_path: Path) -> None:
    clean.look(1280)
    clean.open(written(tmp_path, tasks=1))
    best = clean.value(
        "[...document.querySelectorAll('[data-table=scores] tr.best')].map((row) => row.cells[0].textContent)"
    )
    assert best == ["rank32_3"]
    assert "base" in column(clean, "scores", 0)


def chosen(opened: Page, **choices: str) -> list[str]:
    """Choose results or a kind of samples; returns what both results made of each sample that is shown."""
    for label, value in choices.items():
        opened.value(
            f"""{{ const choice = document.querySelector('[aria-label="{label.replace("_", " ")}"]');
            choice.value = {json.dumps(value)}; choice.dispatchEvent(new Event("change")); }}"""
        )
    return list(
        opened.value(
            "[...document.querySelectorAll('.samples .kind')].map((one) => [...one.children].map("
            "(mark) => mark.textContent).join(' '))"
        )
    )


def test_two_results_are_chosen_and_beside_each_other(clean: Page, tmp_path: Path) -> None:
    clean.look(1280)
    clean.open(written(tmp_path, tasks=1, samples=8))
    assert chosen(clean) == ["right wrong", "wrong right", "wrong wrong", "right right"] * 2
    assert chosen(clean, kind_of_samples="first") == ["right wrong"] * 2
    assert chosen(clean, kind_of_samples="second") == ["wrong right"] * 2
    assert chosen(clean, kind_of_samples="differ") == ["right wrong", "wrong right"] * 2
    assert chosen(clean, kind_of_samples="wrong") == ["wrong wrong"] * 2
    assert chosen(clean, kind_of_samples="none") == []
    assert chosen(clean, kind_of_samples="second", second_result="rank32_3/epoch0") == ["wrong right"] * 4


def test_scores_that_are_not_right_or_wrong_are_numbers(clean: Page, tmp_path: Path) -> None:
    data = page_data(tasks=1, samples=4)
    for answer in [answer for sample in data["samples"] for answer in sample["answers"]]:
        answer["verdict"] = ""
    clean.look(1280)
    clean.open(saved(tmp_path, data))
    assert chosen(clean) == ["1.000 0.000", "0.000 1.000", "0.000 0.000", "1.000 1.000"]


def test_a_sample_opens(clean: Page, tmp_path: Path) -> None:
    clean.look(1280)
    clean.open(written(tmp_path))
    clean.value("document.querySelector('.samples summary').click()")
    shown = clean.value(
        "new Promise((done) => setTimeout(() => done(document.querySelector('.samples details').innerText)))"
    )
    for text in (
        "Say it in capitals: stone 0",
        "STONE",
        "rank4_0/epoch0: right",
        "base/epoch0: wrong",
        "stone of base",
    ):
        assert text in shown


def test_a_mark_has_a_tooltip(clean: Page, tmp_path: Path) -> None:
    clean.look(1280)
    clean.open(written(tmp_path))
    clean.value(
        """document.querySelector("circle[data-tip]").dispatchEvent(
            new PointerEvent("pointermove", {bubbles: true, clientX: 50, clientY: 50}))"""
    )
    assert "95 % " in clean.value("document.querySelector('#tip:not([hidden])').innerText")


def test_it_is_printed(clean: Page, tmp_path: Path) -> None:
    clean.look(1280)
    clean.open(written(tmp_path, runs=30, tasks=1))
    rows, folds = f"{ROWS.format(table='scores')}.length", "document.querySelectorAll('details.fold[open]').length"
    assert (clean.value(rows), clean.value(folds)) == (20, 0)
    clean.value("dispatchEvent(new Event('beforeprint'))")
    # What cannot be opened on paper is open, and what is left out of a table is counted.
    assert (clean.value(rows), clean.value(folds) > 0) == (60, True)
    assert clean.value("document.querySelector('[data-table=scores] .more').dataset.printed") == "60 of 91 rows"
    clean.value("dispatchEvent(new Event('afterprint'))")
    assert (clean.value(rows), clean.value(folds)) == (20, 0)
    printed = clean.pdf(tmp_path / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert len(printed) > 30_000


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_texts_of_users_and_models_do_no_harm(clean: Page, tmp_path: Path, text: str) -> None:
    clean.look(1280)
    clean.open(written(tmp_path, text=text))
    assert clean.value("window.hacked") is None
    assert clean.value("document.querySelectorAll('script').length") == 2
    assert clean.value("document.querySelectorAll('img, iframe, object, [onload], [onerror]').length") == 0
    assert clean.value("document.querySelectorAll('figure svg').length") == len(figures(page_data()))
    data = json.loads(clean.value("document.getElementById('report-data').textContent"))
    assert data == json.loads(json.dumps(visible(page_data(text=text))))
    seen = clean.value("document.documentElement.outerHTML")
    assert not {"\x1b", "\x00", "\u202e", "\u2066"} & set(seen)
    # As it was written, a template in it was not filled in.
    assert clean.value("document.querySelector('h1').textContent") == visible(f"ranks{text}")


def test_a_large_experiment_opens_quickly(clean: Page, tmp_path: Path) -> None:
    path = written(tmp_path, runs=200, epochs=5, tasks=5, samples=300)
    assert path.stat().st_size < 10_000_000
    clean.look(1280)
    clean.open(path)
    # Of a core, since tests share the machine; `make bench` has the seconds on the clock.
    assert 0 < clean.cpu_seconds() < 3
    rows = f"{ROWS.format(table='scores')}.length"
    assert clean.value(rows) < 100
    clean.value("document.querySelectorAll('[data-table=scores] button.more').forEach((more) => more.click())")
    assert clean.value(rows) == 200 * 5 * 5 + 5
