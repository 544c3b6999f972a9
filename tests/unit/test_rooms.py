"""The rooms of the package lie on floors: none imports one above it, no modules import each other in a circle."""

from __future__ import annotations

import ast
import graphlib
import re
from functools import cache
from pathlib import Path

import pytest

import run_experiment

SOURCE = Path(run_experiment.__file__).parents[1]
PACKAGE = "run_experiment"
ROOT = Path(__file__).parents[2]
OURS = {PACKAGE, "snakemake_executor_plugin_slurm_attached", "snakemake_logger_plugin_action_log"}
FLOORS = (
    {"common"},
    {"experiment", "machine"},
    {"inputs", "slurm"},
    {"actionlog", "checkpoints", "evaluation", "finetuning"},
    {"trainers"},
    {"attempts", "jobscripts"},
    {"jobs", "summary", "snakemake_executor_plugin_slurm_attached"},
    {"planning"},
    {"estimate"},
    {"results", "session", "status"},
    {"report", "sharing"},
    {"cli", "snakemake_logger_plugin_action_log"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# More than these are more than a newcomer takes in at a glance.
MOST_MODULES = 12


@cache
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


def reached(start: str) -> set[str]:
    """A module and all that it imports, at once or later."""
    edges, found, todo = modules(), set(), [start]
    while todo:
        found.add(one := todo.pop())
        todo += edges[one] - found
    return found


@cache
def libraries(module: str) -> set[str]:
    """Other packages that a module imports, at once or later."""
    path = SOURCE / f"{module.replace('.', '/')}.py"
    tree = ast.parse((path if path.exists() else path.with_suffix("") / "__init__.py").read_text())
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in found}


@pytest.mark.parametrize(
    ("own", "others", "place"),
    [
        ({"torchtune", "torchao", "omegaconf"}, {"trl", "accelerate"}, "finetuning"),
        ({"trl", "accelerate"}, {"torchtune", "torchao", "omegaconf"}, "trainers"),
    ],
)
def test_each_trainer_does_without_the_others_packages(own: set[str], others: set[str], place: str) -> None:
    """One of them is enough to train and to evaluate."""
    trains = [module for module in modules() if own & libraries(module)]
    assert trains
    assert {room(module) for module in trains} == {place}
    assert [module for start in trains for module in reached(start) if others & libraries(module)] == []


def test_rooms_are_small_and_say_what_they_are() -> None:
    folders = [path.parent for path in SOURCE.rglob("__init__.py") if path.parent.name != PACKAGE]
    assert {room(".".join(folder.relative_to(SOURCE).parts)) for folder in folders} == FLOOR.keys() - {"cli"}
    for folder in folders:
        says = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        assert len(says.splitlines()) == 4, folder.name
        assert len(list(folder.glob("*.py"))) - 1 <= MOST_MODULES, folder.name


# Statements of rules, whose files are no Python.
IMPORT = re.compile(r"^ *(from (?:run_experiment|snakemake_\w+)[\w.]* import (?:\([^)]*\)|[^(\n]+))", re.MULTILINE)


def test_what_rules_scripts_and_benchmarks_import_is_there() -> None:
    """Type checks do not see them, and most of them run only in long tests."""
    known = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in SOURCE.rglob("*.py")}
    known = {name.removesuffix(".__init__"): path for name, path in known.items()}
    files = [path for folder in ("rules", "scripts", "benchmarks") for path in (ROOT / folder).glob("*.*")]
    found = [
        (path.name, node.module, alias.name)
        for path in files
        if path.suffix in (".py", ".smk")
        for statement in IMPORT.findall(path.read_text())
        for node in ast.walk(ast.parse(statement))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in OURS
        for alias in node.names
    ]
    assert len(found) > 50
    missing = [
        (file, module, name)
        for file, module, name in found
        if f"{module}.{name}" not in known and (module not in known or name not in defined(known[module]))
    ]
    assert missing == []


def defined(module: Path) -> set[str]:
    """Names that a module has."""
    names: set[str] = set()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {word.id for target in node.targets for word in ast.walk(target) if isinstance(word, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname or alias.name for alias in node.names}
    return names
