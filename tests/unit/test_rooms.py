"""The rooms of the package lie on floors: none imports one above it, no modules import each other in a circle."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import run_experiment

SOURCE = Path(run_experiment.__file__).parents[1]
PACKAGE = "run_experiment"
FLOORS = (
    {"common"},
    {"experiment", "machine"},
    {"inputs", "slurm"},
    {"actionlog", "checkpoints", "evaluation", "finetuning"},
    {"attempts", "jobscripts"},
    {"jobs", "summary", "snakemake_executor_plugin_slurm_attached"},
    {"planning"},
    {"estimate", "results", "session", "status"},
    {"report", "sharing"},
    {"cli", "snakemake_logger_plugin_action_log"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# More than these are more than a newcomer takes in at a glance.
MOST_MODULES = 12


def modules() -> dict[str, set[str]]:
    """Every module of ours by its dotted name, and those that it imports."""
    found = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in SOURCE.rglob("*.py")}
    found = {name.removesuffix(".__init__"): path for name, path in found.items()}
    return {name: imported(ast.parse(path.read_text()), set(found)) for name, path in found.items()}


def imported(tree: ast.AST, known: set[str]) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {full if (full := f"{node.module}.{alias.name}") in known else node.module for alias in node.names}
    return names & known


def room(module: str) -> str:
    return module.split(".")[1] if module.startswith(f"{PACKAGE}.") else module.split(".")[0]


def test_no_room_imports_one_above_it() -> None:
    edges = [(one, other) for one, others in modules().items() for other in others if PACKAGE not in (one, other)]
    assert len(edges) > 200
    wrong = [
        f"{one} imports {other}"
        for one, other in edges
        if room(one) != room(other) and FLOOR[room(one)] <= FLOOR[room(other)]
    ]
    assert not wrong


def test_no_modules_import_each_other() -> None:
    list(graphlib.TopologicalSorter(modules()).static_order())


def test_rooms_are_small_and_say_what_they_are() -> None:
    folders = [path.parent for path in SOURCE.rglob("__init__.py") if path.parent.name != PACKAGE]
    assert {room(".".join(folder.relative_to(SOURCE).parts)) for folder in folders} == FLOOR.keys() - {"cli"}
    for folder in folders:
        says = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        assert len(says.splitlines()) == 4, folder.name
        assert len(list(folder.glob("*.py"))) - 1 <= MOST_MODULES, folder.name
