"""YAML is read safely, with lines, and its surprising readings are found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from run_experiment.common.yaml_lines import MAX_BYTES, dotted, load, parse, shown

EXPLODING = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcde", "bcdef", strict=True)
)

REFUSED = [
    (
        "a: b: c",
        "f:1: not valid YAML: mapping values are not allowed in this context (text with a colon must be quoted)",
    ),
    (
        "a: 1\nprompt: {input} please",
        "f:2: not valid YAML: did not find expected key (text that begins with { or a quote must be quoted as a whole; "
        "keys of one mapping begin in the same column)",
    ),
    (
        "a:\n\tb: 1",
        "f:2: not valid YAML: found character that cannot start any token (indent with spaces, not with tabs; "
        "quote text that begins with @, ` or %)",
    ),
    ("a: 1\n---\nb: 2", "f:2: not valid YAML: a second document begins here; write one document, without ---"),
    ("é: 1\nb: \x07", "f:2: character 0x07 is not allowed in YAML"),
    (
        "a: [1,\nb: 2\nc: {}\n",
        "f:3: not valid YAML: did not find expected ',' or ']' while parsing a flow sequence, which begins in line 1",
    ),
    (
        "a: {prompt: Say: {input}}",
        "f:1: not valid YAML: did not find expected ',' or '}' (text with a colon, comma or brace must be quoted)",
    ),
    (
        'a: "x\nb: 2\n',
        "f:3: not valid YAML: found unexpected end of stream while scanning a quoted scalar, which begins in line 1 "
        "(a quote is not closed)",
    ),
    ("a: *b", "f:1: not valid YAML: found undefined alias (text that begins with * must be quoted)"),
    ("a: &a [*a]", "f:1: alias *a refers to what holds it"),
    (EXPLODING, "f:5: more than 100,000 values, counting what aliases repeat"),
    ("[" * 51, "f:1: nested more than 50 levels deep"),
    ("[" * 100_000, "f:1: nested more than 50 levels deep"),
]

PROBLEMS = [
    ("a: 1\nb: 2\na: 3", "f:3: a: written twice, first in line 1; keep one"),
    ("a: [{x: 1, x: 2}]", "f:1: a[0].x: written twice, first in line 1; keep one"),
    ("seed: 012", 'f:1: seed: YAML reads 012 as the octal number 10; write 12, or quote it: "012"'),
    ("time: 12:30:00", 'f:1: time: YAML reads 12:30:00 as the number 45000; quote it: "12:30:00"'),
    ("prompt: {input}", 'f:1: prompt: YAML reads {input} as a mapping; quote it: "{input}"'),
    ("prompt: {{input}}", 'f:1: prompt: YAML reads {{input}} as a mapping; quote it: "{{input}}"'),
    ("? {a: b}\n: c", "f:1: a key must be text; quote text that begins with { or ["),
    ("a: !!python/object:os.system x", 'f:1: a: tag "python/object:os.system" is not supported; remove it'),
    ("a: !mine [1]", 'f:1: a: tag "!mine" is not supported; remove it'),
    ("a: {<<: 3}", "f:1: a: << merges mappings only; quote it if it is a key"),
]


@pytest.mark.parametrize(("text", "line"), REFUSED)
def test_refused(text: str, line: str) -> None:
    source = parse(text)
    assert source.data is None
    assert [problem.render("f") for problem in source.problems] == [line]


@pytest.mark.parametrize(("text", "line"), PROBLEMS)
def test_problem(text: str, line: str) -> None:
    assert [problem.render("f") for problem in parse(text).problems] == [line]


def test_all_problems_at_once_in_order_of_lines() -> None:
    source = parse("a: 012\nb: {x}\nc: 1\nc: 2\n")
    assert [problem.line for problem in source.problems] == [1, 2, 4]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2025-01-01", "2025-01-01"),
        ("2025-01-01 10:00:00", "2025-01-01 10:00:00"),
        ("1e-5", "1e-5"),
        ("1.0e-5", 1e-5),
        ("=", "="),
        ('"012"', "012"),
        ("0", 0),
        ("0x_", "0x_"),
        ("no", False),
        ("~", None),
        ("{}", {}),
        ("{a: 1}", {"a": 1}),
    ],
)
def test_value(text: str, value: object) -> None:
    source = parse(f"key: {text}")
    assert source.problems == ()
    assert source.data == {"key": value}
    assert type(source.data["key"]) is type(value)


def test_keys_are_text() -> None:
    assert parse("no: 1\n2: 3").data == {"no": 1, "2": 3}


def test_merge_keys_yield_to_own_keys() -> None:
    source = parse("base: &base {x: 1, y: 2}\nown:\n  <<: *base\n  x: 3\n")
    assert source.problems == ()
    assert source.data["own"] == {"x": 3, "y": 2}


def test_lines_of_keys_entries_and_of_what_holds_them() -> None:
    source = parse("a:\n  - x: 1\n    y:\n      z: 2\n\n  - 7\nb: 1")
    assert source.line(("a",)) == 1
    assert source.line(("a", 0, "y", "z")) == 4
    assert source.line(("a", 1)) == 6
    assert source.line(("a", 0, "absent", "deeper")) == 2
    assert source.line(("absent",)) == 1


def test_texts_are_kept_of_bare_values_only() -> None:
    source = parse('a: no\nb: "no"\nc: text\nd: 1_000')
    assert source.texts == {("a",): "no", ("d",): "1_000"}


def test_big_file_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("#" * (MAX_BYTES + 1))
    assert [problem.render("f") for problem in load(file).problems] == [
        "f: the file has 1,000,001 bytes; at most 1,000,000 are read"
    ]


def test_other_encodings_are_refused_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"a: 1\nb: \xe4\n")
    assert [problem.render("f") for problem in load(file).problems] == ["f:2: not UTF-8 text; save the file as UTF-8"]
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert load(file).data == {"a": 1}


def test_paths_and_values_stay_on_one_line() -> None:
    assert dotted(("runs", 2, "parameters", "lora_rank")) == "runs[2].parameters.lora_rank"
    assert dotted(("args", "a\nb")) == 'args["a\\nb"]'
    assert shown("x\ny") == '"x\\ny"'
    assert len(shown("x" * 500)) < 70


@given(st.text() | st.text(alphabet="ab:{}[]&*!-?|>'\"#%@<0:.\n\t ", max_size=60))
def test_no_text_raises(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    source = parse(text)
    assert all(problem.line >= 0 for problem in source.problems)
