"""Logs of inspect-ai to give away: a log with secrets of the environment in it is written anew without them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from run_experiment.common.secret_values import secret_values, without_secrets
from run_experiment.evaluation.log_file import open_log


class UnreadableLogError(Exception):
    """It cannot be said whether a log holds a secret."""


def masked_log(log: Path) -> bytes | None:
    """The log with stars in place of every secret; None if there is none in it. Raises UnreadableLogError."""
    if not (secrets := _as_in_json(secret_values())):
        return None
    # A torn file fails in zipfile or in the decompressor, each with exceptions of its own.
    try:
        with open_log(log) as archive:
            names = archive.namelist()
            if any(_masked(archive.read(name), secrets) is not None for name in names):
                return _rewritten(archive, names, secrets)
    except Exception as error:
        raise UnreadableLogError(f"{type(error).__name__}: {error}") from error
    return None


def _as_in_json(secrets: Sequence[str]) -> list[str]:
    """Secrets as they are, and as JSON writes them: with escapes."""
    escaped = [json.dumps(one, ensure_ascii=ascii)[1:-1] for one in secrets for ascii in (True, False)]
    return list(dict.fromkeys([*secrets, *escaped]))


def _rewritten(archive: zipfile.ZipFile, names: Sequence[str], secrets: Sequence[str]) -> bytes:
    written = BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as copy:
        for name in names:
            content = archive.read(name)
            masked = _masked(content, secrets)
            copy.writestr(name, content if masked is None else masked)
    return written.getvalue()


def _masked(content: bytes, secrets: Sequence[str]) -> bytes | None:
    """A part of the log without secrets; None if it has none."""
    if not any(secret.encode("utf-8", "surrogateescape") in content for secret in secrets):
        return None
    text = content.decode("utf-8", "surrogateescape")
    return without_secrets(text, secrets).encode("utf-8", "surrogateescape")
