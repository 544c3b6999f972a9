"""Files of its own folder that a task's script imports, found by parsing: nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from run_experiment.inputs.task_signature import TaskScriptError, parse_script


def local_sources(script: Path) -> list[Path]:
    """Python files (absolute, sorted) of a script's folder that it imports, directly or indirectly.

    The script itself is not among them. A file that cannot be parsed is, but not what it imports.
    """
    script = script.absolute()
    found, waiting = {script}, [script]
    while waiting:
        new = set(_imported_files(waiting.pop(), script.parent)) - found
        found |= new
        waiting += new
    return sorted(found - {script})


def _imported_files(file: Path, root: Path) -> Iterator[Path]:
    try:
        tree = parse_script(file)
    except TaskScriptError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _module_files(root, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            yield from _imported_from(node, file, root)


def _imported_from(node: ast.ImportFrom, file: Path, root: Path) -> Iterator[Path]:
    """Files of `from … import …`: the module, and each name that is a module itself."""
    base = file.parents[min(node.level, len(file.parents)) - 1] if node.level else root
    if not base.is_relative_to(root):
        return
    if node.level:
        yield from _existing(base / "__init__.py")
    module = node.module.split(".") if node.module else []
    for alias in node.names:
        yield from _module_files(base, [*module, alias.name])


def _module_files(base: Path, names: list[str]) -> Iterator[Path]:
    """Files of the dotted module `names` below `base`: of each package on the way, then its own."""
    for name in names:
        base = base / name
        package = list(_existing(base / "__init__.py"))
        yield from package or _existing(base.with_name(f"{name}.py"))


def _existing(file: Path) -> Iterator[Path]:
    if file.is_file():
        yield file
