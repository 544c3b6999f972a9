"""YAML read safely: plain values, the line of each, and the readings of YAML that nobody means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from run_experiment.common.errors import Problem
from run_experiment.common.files import regular

KeyPath = tuple[str | int, ...]

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
MAX_DEPTH = 50

_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
# What newer versions of libyaml say of a thousand levels, before they tell of the first.
_NESTING = "exceeded maximum nesting depth"

_TAG = "tag:yaml.org,2002:"
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_HINTS = {
    "mapping values are not allowed": "text with a colon must be quoted",
    "did not find expected key": "text that begins with { or a quote must be quoted as a whole; "
    "keys of one mapping begin in the same column",
    "did not find expected ',' or '}'": "text with a colon, comma or brace must be quoted",
    "did not find expected '-' indicator": "entries of one list begin in the same column",
    "cannot start any token": "indent with spaces, not with tabs; quote text that begins with @, ` or %",
    "found undefined alias": "text that begins with * must be quoted",
    "found unexpected end of stream": "a quote is not closed",
    "unknown escape character": "in double quotes \\ begins an escape; use single quotes, and / in paths",
}


@dataclass(frozen=True)
class Source:
    """A YAML file as read: its values, where they are written, and what is wrong with it as YAML.

    Keys are always text. `texts` has what was written for a bare value that YAML does not read as text.
    """

    data: Any
    problems: tuple[Problem, ...]
    lines: dict[KeyPath, int]
    texts: dict[KeyPath, str]

    def line(self, path: KeyPath) -> int:
        """Line (from 1) of the key or entry, or of what holds it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)


def dotted(path: KeyPath) -> str:
    """A path as messages have it: `runs[2].parameters.lora_rank`."""
    return "".join(_step(step) for step in path).removeprefix(".")


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if re.fullmatch(r"[\w-]+", step) else f"[{shown(step)}]"


def shown(value: Any, limit: int = 60) -> str:
    """A value as messages have it, in one short line: text in double quotes, else as YAML writes it."""
    if isinstance(value, dict | list):
        return ("a mapping" if isinstance(value, dict) else "a list") if value else str(value)
    words: dict[Any, str] = {None: "nothing", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    text = _printable(str(value)[: limit + 1])
    text = text if len(text) <= limit else f"{text[:limit]}…"
    return f'"{text}"' if isinstance(value, str) else text


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def load(path: Path) -> Source:
    """Read a YAML file of at most 1 MB. Raises OSError; everything else is in the source's `problems`."""
    if regular(path).stat().st_size > MAX_BYTES:
        return _refused(0, f"the file has {path.stat().st_size:,} bytes; at most {MAX_BYTES:,} are read")
    content = path.read_bytes()
    try:
        return parse(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return _refused(content.count(b"\n", 0, error.start) + 1, "not UTF-8 text; save the file as UTF-8")


def parse(text: str) -> Source:
    """Read YAML text; what is wrong with it is in the source's `problems`."""
    try:
        refusal = _refusal(text)
        if refusal:
            return _refused(*refusal)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        # libyaml counts the position in bytes.
        before = text.encode()[: error.position]
        return _refused(before.count(b"\n") + 1, f"character {error.character:#04x} is not allowed in YAML")
    except yaml.MarkedYAMLError as error:
        return _syntax_error(error, text.splitlines())
    builder = _Builder(text)
    data = builder.value(node, ()) if node else None
    problems = {(problem.line, problem.message): problem for problem in reversed(builder.problems)}
    return Source(data, tuple(sorted(problems.values())), builder.lines, builder.texts)


class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """Resolves no timestamps: a date stays the text that was written."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, regexp) for tag, regexp in resolvers if tag not in (f"{_TAG}timestamp", f"{_TAG}value")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _refused(line: int, message: str) -> Source:
    return Source(None, (Problem(line, "", message),), {}, {})


def _hint_of_line(line: str) -> str:
    """Hint at characters that a text processor or a web page puts where YAML knows others."""
    if "\u00a0" in line:
        return "the line has a no-break space; write plain ones"
    if re.search("[\u201c\u201d\u201e\u2018\u2019]", line):
        return "the line has typographic quotes; write \" or '"
    if re.match(r"(<<<<<<<|=======|>>>>>>>)", line):
        return "two versions of the file were merged; keep one"
    return ""


def _syntax_error(error: yaml.MarkedYAMLError, lines: Sequence[str]) -> Source:
    what = str(error.problem or error.context)
    if error.context and error.context.startswith("expected a single document"):
        what = "a second document begins here; write one document, without ---"
    mark = error.problem_mark or error.context_mark
    # The mark may be on the line after.
    near = lines[max(0, mark.line - 1) : mark.line + 1] if mark else []
    hint = next(filter(None, map(_hint_of_line, near)), "") or next(
        (hint for start, hint in _HINTS.items() if start in what), ""
    )
    opened = error.context_mark if re.search("flow|quoted", error.context or "") else None
    if opened and mark and opened.line != mark.line:
        what += f" {error.context}, which begins in line {opened.line + 1}"
    message = f"not valid YAML: {what}" + (f" ({hint})" if hint else "")
    return _refused(mark.line + 1 if mark else 0, _TOO_DEEP if _NESTING in what else message)


def _refusal(text: str) -> tuple[int, str] | None:
    """Line and reason why a text must not be built: it nests too deep, or its aliases explode."""
    sizes: dict[str | None, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > MAX_DEPTH:
                return line, _TOO_DEEP
            continue
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                return line, f"alias *{event.anchor} refers to what holds it"
            size = sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            sizes |= {event.anchor: 1} if event.anchor else {}
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
            sizes |= {anchor: size} if anchor else {}
        else:
            continue
        holder, held = open_nodes.pop()
        open_nodes.append((holder, held + size))
        if held + size > MAX_NODES:
            return line, f"more than {MAX_NODES:,} values, counting what aliases repeat"
    return None


class _Builder:
    """Turns nodes into plain values and notes lines, texts and problems on the way."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.problems: list[Problem] = []
        self.lines: dict[KeyPath, int] = {(): 1}
        self.texts: dict[KeyPath, str] = {}
        self._constructor = SafeConstructor()

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """The plain value of a node."""
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            self._report(node, path, f"tag {shown(node.tag.removeprefix(_TAG))} is not supported; remove it")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        return [self._entry(item, (*path, index)) for index, item in enumerate(node.value)]

    def _entry(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines[path] = node.start_mark.line + 1
        return self.value(node, path)

    def _report(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(node.start_mark.line + 1, dotted(path), message))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> Any:
        if _is_placeholder(node):
            text = " ".join(self.text[node.start_mark.index : node.end_mark.index].split())
            self._report(node, path, f"YAML reads {_printable(text)} as a mapping; quote it: {shown(text)}")
            return text
        self._report_duplicates(node, path)
        result: dict[str, Any] = {}
        for key, item in self._pairs(node, path):
            if key.value not in result:
                self.lines[(*path, key.value)] = key.start_mark.line + 1
                result[key.value] = self.value(item, (*path, key.value))
        return result

    def _report_duplicates(self, node: yaml.MappingNode, path: KeyPath) -> None:
        first: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._report(key, path, "a key must be text; quote text that begins with { or [")
            elif key.value in first:
                self._report(key, (*path, key.value), f"written twice, first in line {first[key.value]}; keep one")
            else:
                first[key.value] = key.start_mark.line + 1

    def _pairs(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """Keys and values of a mapping, its own first, then those merged with `<<`."""
        scalars = [(key, item) for key, item in node.value if isinstance(key, yaml.ScalarNode)]
        yield from ((key, item) for key, item in scalars if key.tag != f"{_TAG}merge")
        for key, item in scalars:
            if key.tag == f"{_TAG}merge":
                for merged in item.value if isinstance(item, yaml.SequenceNode) else [item]:
                    if isinstance(merged, yaml.MappingNode):
                        yield from self._pairs(merged, path)
                    else:
                        self._report(key, path, "<< merges mappings only; quote it if it is a key")

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if kind == "str" or (kind == "merge" and node.style):
            return str(node.value)
        if kind not in ("null", "bool", "int", "float"):
            self._report(node, path, f"tag {shown(kind)} is not supported; remove it")
            return str(node.value)
        if not node.style:
            self.texts[path] = node.value
        return self._number_or_word(node, kind, path)

    def _number_or_word(self, node: yaml.ScalarNode, kind: str, path: KeyPath) -> Any:
        try:
            value = getattr(self._constructor, f"construct_yaml_{kind}")(node)
        except (ValueError, KeyError):
            return str(node.value)
        if kind in ("int", "float") and ":" in node.value:
            self._report(node, path, f"YAML reads {node.value} as the number {value}; quote it: {shown(node.value)}")
        elif kind == "int" and _OCTAL.fullmatch(node.value):
            plain = re.sub(r"^([-+]?)0+", r"\1", node.value) or "0"
            written = f"YAML reads {node.value} as the octal number {value}"
            self._report(node, path, f'{written}; write {plain}, or quote it: "{node.value}"')
        return value


def _is_placeholder(node: yaml.MappingNode) -> bool:
    """Whether a mapping was meant as text: `{input}` or `{{input}}`."""
    if node.tag != f"{_TAG}map" or not node.flow_style or not node.value:
        return False
    return all(isinstance(key, yaml.MappingNode) or _is_absent(item) for key, item in node.value)


def _is_absent(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.value and not node.style
