"""The date in chat templates: put in once, whatever its format, without any other change of the text."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from run_experiment.inputs.data_files import DataError
from run_experiment.inputs.template_dates import TemplateDates, dated

DAY = date(2026, 1, 5)
ASKS = "{{ strftime_now('%d %b %Y') }}"


def rendered(template: str, **values: Any) -> str:
    """A template as transformers renders it."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals["strftime_now"] = lambda _: "today"
    return environment.from_string(template).render(**values)


@pytest.mark.parametrize("code", ["%d %b %Y", "%B %-d, %Y", "%Y-%m-%d", "%A", "%d/%m/%y", "%H:%M", "100%%", "on %x"])
def test_every_format(code: str) -> None:
    assert rendered(dated(f"{{{{ strftime_now('{code}') }}}}", DAY)) == DAY.strftime(code)


LLAMA = """{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{{- "Today Date: " + date_string + "\n\n" }}
{%- macro again() %}{{ strftime_now('%Y') }}{% endmacro %}
{{ again() }}
"""


@pytest.mark.parametrize(
    "template", [LLAMA, f"\n\n  {ASKS}\n", f"  {{% if true %}}\n{ASKS}{{% endif %}}\n", "{# c #}\n x"]
)
def test_nothing_else_of_the_text_changes(template: str) -> None:
    plain = rendered(template).replace("today", "DATE")
    assert rendered(dated(template, DAY)).replace("05 Jan 2026", "DATE").replace("2026", "DATE") == plain


def tokenizer(folder: Path, template: str | None, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_text("large")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


CASES: dict[str, tuple[str | None, Any, bool]] = {
    "a file": (ASKS, None, True),
    "the config": (None, ASKS, True),
    "named templates": (None, [{"name": "tools", "template": "x"}, {"name": "default", "template": ASKS}], True),
    "one that is not the default": (None, [{"name": "tools", "template": ASKS}], False),
    "the file wins": ("x", ASKS, False),
    "a fixed date": ("{% set date_string = '26 Jul 2024' %}{{ date_string }}", None, False),
    "none": (None, None, False),
}


@pytest.mark.parametrize(("template", "config", "shown"), CASES.values(), ids=CASES)
def test_which_templates_show_it(tmp_path: Path, template: str | None, config: Any, shown: bool) -> None:
    folder = tokenizer(tmp_path / "model", template, chat_template=config)
    assert TemplateDates(tmp_path).is_shown(folder) is shown


def test_a_template_in_another_encoding_is_left_to_who_loads_it(tmp_path: Path) -> None:
    folder = tokenizer(tmp_path / "model", ASKS)
    (folder / "chat_template.jinja").write_bytes(b"\xe9" + ASKS.encode())
    assert not TemplateDates(tmp_path).is_shown(folder)


def test_tokenizer_with_the_date(tmp_path: Path) -> None:
    model = tokenizer(tmp_path / "model", ASKS, added=1)
    dates = TemplateDates(tmp_path)
    dates.write_tokenizer(model, tmp_path / "r4/tokenizer")
    files = {path.name: path.read_text() for path in (tmp_path / "r4/tokenizer").iterdir()}
    assert files == {
        "tokenizer_config.json": '{"added": 1}',
        "tokenizer.json": "{}",
        "chat_template.jinja": dated(ASKS, dates.date),
    }
    before = os.stat(tmp_path / "r4/tokenizer/chat_template.jinja").st_ino
    dates.write_tokenizer(model, tmp_path / "r4/tokenizer")
    assert os.stat(tmp_path / "r4/tokenizer/chat_template.jinja").st_ino == before


def test_date_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dates = TemplateDates(tmp_path)
    assert dates.date == date.today()
    assert list(tmp_path.iterdir()) == [], "planning writes nothing"
    dates.keep()
    (tmp_path / "template_date.txt").write_text("2026-01-05\n")
    dates.keep()
    assert TemplateDates(tmp_path).date == DAY
    (tmp_path / "template_date.txt").write_text("yesterday")
    with pytest.raises(DataError, match="is not a date like 2026-01-31"):
        TemplateDates(tmp_path)
