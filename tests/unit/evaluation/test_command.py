"""The command of an evaluation: paths that inspect-ai reads as YAML arrive as they are."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from run_experiment.evaluation.command import model_argument

# YAML has no control characters, and neither have paths.
_PRINTABLE = st.characters(exclude_categories=("Cc", "Cs", "Cn", "Zl", "Zp"), exclude_characters="\ufeff")
_PIECES = st.sampled_from(
    ["1", "0x1f", "1e3", ".inf", "2025-01-31", "no", "null", "~", "=", "-", "...", "---", "a", "A_b"]
)


@given(st.lists(st.sampled_from("/.#: ") | _PIECES | st.text(_PRINTABLE, max_size=3), max_size=6).map("".join))
def test_any_text_is_read_as_it_is(text: str) -> None:
    value = text.replace(",", "")
    option, argument = model_argument("model_path", value)
    assert (option, argument.partition("=")[0]) == ("-M", "model_path")
    assert yaml.safe_load(argument.partition("=")[2]) == value


@pytest.mark.parametrize("path", ["r4/checkpoints/epoch_0", "/models/tiny-1.0", "../model/a_b"])
def test_a_usual_path_is_not_quoted(path: str) -> None:
    assert model_argument("model_path", path) == ["-M", f"model_path={path}"]


def test_another_one_is_quoted() -> None:
    assert model_argument("model_path", "0x1f") == ["-M", f"model_path={json.dumps('0x1f')}"]
