"""Chat templates that show today's date: each experiment has one date, which trainings and evaluations are given.

A template asks for the date with `strftime_now`. A folder of links to the tokenizer's files, with the date put into the
template, takes the place of the tokenizer's own folder; others are used where they are.
"""

from __future__ import annotations

import json
from datetime import date, datetime, time
from functools import cache
from pathlib import Path

from run_experiment.common.json_files import write_atomically
from run_experiment.common.paths import TEMPLATE_DATE
from run_experiment.inputs.data_files import DataError

_FUNCTION = "strftime_now"
_TEMPLATE = "chat_template.jinja"
# Files of a tokenizer, and the config that says which class it is.
_FILES = (".json", ".model", ".txt", ".tiktoken")
# Those of strftime, and glibc's without a leading zero; the last one is a percent sign.
_CODES = [*(f"%-{code}" for code in "demHIMSjy"), *(f"%{code}" for code in "aAbBcdDeFGHIjmMpSTuUVwWxXyYzZ%")]
# Jinja drops the one newline after a block, so the template itself is as it was.
_MACRO = (
    "{{%- macro strftime_now(format) -%}}{{%- set text = namespace(value=format) -%}}"
    "{{%- for code, value in {values} -%}}{{%- set text.value = text.value.replace(code, value) -%}}{{%- endfor -%}}"
    "{{{{- text.value -}}}}{{%- endmacro %}}\n"
)


class TemplateDates:
    """The date of the experiment in `folder`: the one that is kept there, or today if there is none yet."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / TEMPLATE_DATE
        self._kept = _read(self._file)
        self.date = self._kept or date.today()
        self.is_shown = cache(_asks_for_date)

    def keep(self) -> None:
        """Keep the date for all later sessions."""
        if self._kept is None:
            write_atomically(self._file, f"{self.date.isoformat()}\n")
            self._kept = self.date

    def write_tokenizer(self, tokenizer: Path, folder: Path) -> None:
        """Write the folder that takes a tokenizer's place; what is right in it stays untouched."""
        folder.mkdir(parents=True, exist_ok=True)
        for source in tokenizer.iterdir():
            link = folder / source.name
            if source.suffix in _FILES and source.is_file() and not _is_link_to(link, source):
                link.unlink(missing_ok=True)
                link.symlink_to(source.absolute())
        text, path = dated(_template(tokenizer), self.date), folder / _TEMPLATE
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text)


def dated(template: str, day: date) -> str:
    """A template with the function that it asks for the date put in front, for a fixed day."""
    midnight = datetime.combine(day, time())
    values = [[code, midnight.strftime(code)] for code in _CODES]
    return _MACRO.format(values=json.dumps(values)) + template


def _asks_for_date(tokenizer: Path) -> bool:
    return _FUNCTION in _template(tokenizer)


def _template(tokenizer: Path) -> str:
    """The chat template that transformers takes by default; empty if there is none."""
    try:
        return (tokenizer / _TEMPLATE).read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    # Who loads the tokenizer says what is wrong with it.
    except ValueError:
        return ""
    try:
        given = json.loads((tokenizer / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return ""
    named = {one.get("name"): one.get("template") for one in given if isinstance(one, dict)} if given else {}
    return given if isinstance(given, str) else str(named.get("default") or "")


def _read(file: Path) -> date | None:
    try:
        return date.fromisoformat(file.read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{file} is not a date like 2026-01-31: write the date that chat templates show") from error


def _is_link_to(link: Path, source: Path) -> bool:
    return link.is_symlink() and link.readlink() == source.absolute()
