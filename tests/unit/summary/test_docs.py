"""The reference page and the JSON schema are those of the models."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from run_experiment.common.yaml_lines import parse
from run_experiment.experiment.schema import ExperimentSummary, sections
from run_experiment.summary.checks.types import check_types
from run_experiment.summary.docs import EXAMPLE, PAGE, SCHEMA, reference_page, schema_json

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("path", "text"), [(PAGE, reference_page()), (SCHEMA, schema_json())])
def test_files_are_up_to_date(path: Path, text: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == text, "run python -m run_experiment.summary.docs"


def test_example_is_valid() -> None:
    source = parse(EXAMPLE)
    assert source.problems == ()
    assert check_types(source, strict=True)[1] == []
    assert EXAMPLE in reference_page()


def test_page_has_every_key() -> None:
    page = reference_page()
    keys = [key for _, section in sections() for key in section.all_keys()]
    assert len(keys) > 80
    assert [key for key in keys if f"`{key}`" not in page] == []


def test_page_marks_required_sections() -> None:
    page = reference_page()
    for name in ("experiment", "models", "runs", "evaluation"):
        assert re.search(rf"^\| `{name}` \| [\w: ]+ \| \*\*required\*\* \|", page, re.MULTILINE), name


def test_schema_accepts_what_the_reader_accepts() -> None:
    schema = json.loads(schema_json())
    data = parse(EXAMPLE.replace("tasks: [capitalization]}", "tasks: capitalization}")).data
    data["controls"]["lr"] = 3e-4  # as editors, which read YAML 1.2, have it
    data["experiment"] |= {"dir": "/x", "owner": "someone"}
    data["evaluation"]["scorer"] = "match"
    ExperimentSummary.model_validate({**data, "experiment": {"name": "capitalization", "dir": "/x"}})
    jsonschema.validate(data, schema)
    for place, key, value in (("controls", "lrr", 1), ("controls", "lr", 0), ("evaluation", "seed", -1)):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**data, place: {**data[place], key: value}}, schema)
