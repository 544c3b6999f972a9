"""What models, data sets, errors and the summary say does no harm in any file of the results, however long it is."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from experiments import ExperimentFolder
from hostile_experiment import FORMULAS, make_hostile_experiment
from page_reading import data_of
from report_data import HOSTILE

from run_experiment.cli import main
from run_experiment.common import paths
from run_experiment.report.collect import collect

# Characters that move a terminal's cursor or turn the direction of text.
HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    experiment = make_hostile_experiment(tmp_path_factory.mktemp("hostile"))
    collect(experiment.path)
    return experiment


def text_of(experiment: ExperimentFolder, path: str) -> str:
    return (experiment.path / path).read_text(encoding="utf-8")


def test_the_page_has_texts_cut_and_visible(hostile: ExperimentFolder) -> None:
    page = text_of(hostile, paths.REPORT)
    assert len(page) < 200_000
    assert not HARMFUL.search(page)
    # Its own two, and nothing that ends them early.
    assert (page.count("<script"), page.count("</script>")) == (2, 2)
    shown = {sample["input"] for sample in data_of(hostile)["samples"]}
    assert HOSTILE[0] in shown
    assert HOSTILE[5] in shown
    assert any(text.endswith("… (1,000,000 characters)") for text in shown)


def test_the_short_page_has_no_html(hostile: ExperimentFolder) -> None:
    page = text_of(hostile, paths.SUMMARY_PAGE)
    missing = page.partition("## Missing\n\n")[2].partition("\n\n<!-- experiment")[0]
    assert missing.startswith(r"- `r8/shout/epoch1`: failed as job 17: \<script>window.hacked = 1; alert(1)\</script>")
    assert not re.search(r"(?<!\\)<[a-zA-Z/!?]", missing)
    assert len(missing) < 600
    assert not HARMFUL.search(page)


@pytest.mark.parametrize("path", [paths.EVALS_TABLE, paths.COMPARISONS_TABLE])
def test_tables_have_no_text_of_models_or_data(hostile: ExperimentFolder, path: str) -> None:
    """So no field is a formula that a spreadsheet computes, but for what the summary itself says."""
    with (hostile.path / path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) > 3
    for field in (field for row in rows for field in row):
        assert field not in FORMULAS
        assert len(field) < 200
        assert not field.startswith(("=", "@", "\t"))
        assert not re.match(r"[-+](?![\d.])", field)


def test_figures_are_drawings_whose_texts_are_texts(hostile: ExperimentFolder) -> None:
    drawn = sorted((hostile.path / paths.FIGURES).glob("*.svg"))
    assert len(drawn) > 1
    for path in drawn:
        text = path.read_text(encoding="utf-8")
        names = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}
        assert names <= {"svg", "style", "rect", "line", "polyline", "circle", "text"}
        assert not HARMFUL.search(text)


def test_the_metadata_of_a_crate_are_texts(hostile: ExperimentFolder, tmp_path: Path) -> None:
    assert main(["export", str(hostile.path), str(tmp_path / "crate.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "crate.zip") as crate:
        metadata = crate.read("ro-crate-metadata.json").decode()
        pages = [name for name in crate.namelist() if name.endswith(".html")]
    assert json.loads(metadata)["@graph"]
    assert [name for name in pages if not name.endswith("report.html")] == []
