"""Rows of training data that are conversations: `messages` in place of an input and an output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from run_experiment.common.text import clipped
from run_experiment.experiment.columns import Columns
from run_experiment.inputs.data_files import Row, text_problem

MESSAGES = "messages"
_SPOKEN = ("user", "assistant")
_ROLES = ("system", *_SPOKEN)


def has_messages(row: Row) -> bool:
    """Whether a row may be a conversation, whatever the column of inputs is."""
    return isinstance(row, Mapping) and MESSAGES in row


def is_conversation(row: Row, input_key: str) -> bool:
    """Whether a row is a conversation; one that has an input as well is not."""
    return MESSAGES in row and input_key not in row


def as_pair(row: Row, columns: Columns) -> Row:
    """A conversation with all before its last answer as its input; other rows as they are."""
    if not isinstance(row, dict) or not is_conversation(row, columns.input) or conversation_problem(row[MESSAGES]):
        return row
    *asked, answer = row[MESSAGES]
    before = [[message["role"], message["content"]] for message in asked]
    return {columns.input: json.dumps(before, ensure_ascii=False), columns.output: answer["content"]}


def conversation_problem(messages: Any) -> str | None:
    """Why messages cannot be trained on, as in `messages {problem}`; None if they can."""
    if not isinstance(messages, list) or not messages:
        return "is empty" if messages == [] else "is no list of messages"
    for number, message in enumerate(messages, start=1):
        if problem := _message_problem(message):
            return f"cannot be trained on: message {number} {problem}"
    return _order_problem([message["role"] for message in messages]) or _reasoning_problem(messages)


def _message_problem(message: Any) -> str | None:
    if not isinstance(message, dict):
        return "is no object with role and content"
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        return f"has the role {_shown(role)}; roles are {', '.join(_ROLES)}" if "role" in message else _no_role(message)
    if not isinstance(content, str):
        return f"has the content {_shown(content)}, not text"
    if others := [name for name, value in message.items() if name not in ("role", "content") and value is not None]:
        return f"has {_shown(others[0])}; a message has role and content only"
    return text_problem(content)


def _no_role(message: Mapping[str, Any]) -> str:
    return "has no role" + ("; write role and content in place of from and value" if "from" in message else "")


def _order_problem(roles: list[str]) -> str | None:
    """What no evaluation could ask: inspect-ai joins messages of a user that follow each other."""
    first = 1 if roles[0] == "system" else 0
    for place, role in enumerate(roles[first:]):
        if role != (expected := _SPOKEN[place % 2]):
            found = f"message {first + place + 1} is of {role}, not of {expected}"
            return f"cannot be trained on: {found}; after a system message, user and assistant take turns"
    if roles[-1] != "assistant":
        return f"ends with a message of {roles[-1]}: the last one is the answer that is trained, of assistant"
    return None


def _reasoning_problem(messages: list[Mapping[str, str]]) -> str | None:
    """Reasoning in what a model is shown: inspect-ai gives it in another form than the text has."""
    for number, message in enumerate(messages[:-1], start=1):
        if message["role"] == "assistant" and "<think" in message["content"]:
            return f"cannot be trained on: message {number} has <think>: only the last answer may have reasoning"
    return None


def _shown(value: Any) -> str:
    """A value as JSON has it, in at most 40 characters."""
    return clipped(json.dumps(value), 40)
