"""Parameters of a task's function, and what it is called with; planning never imports a user's code."""

from __future__ import annotations

import ast
import warnings
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import decode_source
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run_experiment.common.files import regular
from run_experiment.common.suggestions import closest, did_you_mean
from run_experiment.experiment.columns import DEFAULT_COLUMNS, Columns

if TYPE_CHECKING:
    from run_experiment.experiment.model import Evaluation, Generation, Prompting

# Name of the argument that receives the data file.
DATA_ARGUMENT = "data_path"
# Name of the argument that says whether the model's chat template is used.
TEMPLATE_ARGUMENT = "use_chat_template"
# Name of the argument that receives a file of prompts, scorers and labels.
CONFIG_ARGUMENT = "config_path"
# Label in results and plots, which changes no answer.
LABEL_ARGUMENT = "vis_label"
# Names of the arguments that receive the columns of the data.
INPUT_ARGUMENT, OUTPUT_ARGUMENT = "input_key", "output_key"
# Only for functions that name them: those that take any argument would pass these on to what may not know them.
_IF_NAMED = frozenset(
    {CONFIG_ARGUMENT, LABEL_ARGUMENT, INPUT_ARGUMENT, OUTPUT_ARGUMENT, "assistant_prefix", "logprobs", "top_logprobs"}
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


class TaskScriptError(Exception):
    """A task's file has no usable task function; the message says why."""


@dataclass(frozen=True)
class TaskSignature:
    """Name and parameters of a task's function; `defaults` holds those that are literals.

    `name` is what inspect-ai knows the task by: the function's, unless the decorator gives another.
    """

    name: str
    function: str
    parameters: tuple[str, ...]
    required: tuple[str, ...]
    defaults: Mapping[str, Any]
    accepts_any: bool

    def takes(self, name: str) -> bool:
        """True if the function takes an argument of this name."""
        return self.accepts_any or name in self.parameters

    def is_given(self, name: str) -> bool:
        """True if the function gets what a summary offers by this name."""
        return name in self.parameters if name in _IF_NAMED else self.takes(name)


def read_signature(
    script: Path, function: str | None, called: str = "", elsewhere: Callable[[], str | None] = lambda: None
) -> TaskSignature:
    """Signature of the task function in a file: the named one, or the only one, or of several the one that is `called`
    as the summary calls the task, or that is named `elsewhere`. Raises TaskScriptError.
    """
    tree = parse_script(script)
    _require_importable(script, tree)
    tasks = {node.name: node for node in tree.body if isinstance(node, Function) and _is_task(node)}
    if not tasks:
        raise TaskScriptError(f"{script} has no function decorated with @task{_task_elsewhere(tree, function)}")
    name = function or (_function_of(called, tasks) or elsewhere() if len(tasks) > 1 else next(iter(tasks)))
    if name is None:
        meant = closest(called, tasks) or next(iter(tasks))
        raise TaskScriptError(f"{script} has several tasks ({', '.join(tasks)}); name one: {script.name}@{meant}")
    name = _function_of(name, tasks) or name
    if name not in tasks:
        hint = _imported_task(tree, name) or did_you_mean(name, tasks)
        raise TaskScriptError(f"{script} has no task {name}{hint}")
    if isinstance(tasks[name], ast.AsyncFunctionDef):
        raise TaskScriptError(f"{script}: task {name} is an async function, which inspect-ai does not call: write def")
    _require_known_name(script, tasks[name])
    positional = [arg.arg for arg in tasks[name].args.posonlyargs]
    if positional:
        message = f"task {name} has parameters before a /, but inspect-ai gives arguments by name: remove the /"
        raise TaskScriptError(f"{script}: {message}")
    return _signature(tasks[name])


def _function_of(name: str, tasks: Mapping[str, Function]) -> str | None:
    """The function of a task that is named by it, or as the decorator names it for inspect-ai's command."""
    if name in tasks:
        return name
    return next((function for function, node in tasks.items() if _registered(node) == name), None)


def parse_script(script: Path) -> ast.Module:
    """Syntax tree of a Python file. Raises TaskScriptError if it cannot be read or parsed."""
    try:
        return ast.parse(decode_source(regular(script).read_bytes()))
    except OSError as error:
        raise TaskScriptError(f"cannot read {script}: {error.strerror}") from error
    except SyntaxError as error:
        if error.msg.startswith("invalid or missing encoding"):
            raise TaskScriptError(f"{script} is not UTF-8: save it as UTF-8") from error
        raise _not_python(script, error) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise TaskScriptError(f"{script} is not valid Python: {error}") from error


def _require_importable(script: Path, tree: ast.Module) -> None:
    """Raise TaskScriptError for what a syntax tree does not show, and for a mark that inspect-ai stumbles on."""
    if script.read_bytes().startswith(BOM_UTF8):
        raise TaskScriptError(f"{script} begins with a byte order mark: save it as UTF-8 without one")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(tree, str(script), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise _not_python(script, error) from error


def _not_python(script: Path, error: SyntaxError) -> TaskScriptError:
    place = f"{script}:{error.lineno}" if error.lineno else str(script)
    return TaskScriptError(f"{place}: not valid Python: {error.msg}")


def _decorators(node: Function) -> list[ast.expr]:
    """What a function is decorated with, without the arguments of calls."""
    return [item.func if isinstance(item, ast.Call) else item for item in node.decorator_list]


def _is_task(node: Function) -> bool:
    """True if decorated with `task` or a call of it, by which inspect-ai finds tasks before it imports a file."""
    return any(isinstance(item, ast.Name) and item.id == "task" for item in _decorators(node))


def _is_task_of_module(node: ast.AST) -> bool:
    """True if decorated with `inspect_ai.task`, by which inspect-ai does not find it."""
    return isinstance(node, Function) and any(
        isinstance(item, ast.Attribute) and item.attr == "task" for item in _decorators(node)
    )


def _task_elsewhere(tree: ast.Module, function: str | None) -> str:
    """Hint at a task that is not recognized: nested, decorated by another name, or imported; empty if none is seen."""
    if any(isinstance(node, Function) and _is_task(node) for node in ast.walk(tree)):
        return "; inspect-ai finds tasks only at the top level of a file: move it there"
    if any(_is_task_of_module(node) for node in tree.body):
        return "; inspect-ai does not find a task by @….task: write from inspect_ai import task, and @task"
    aliases = [alias for node in _imports(tree) if node.module == "inspect_ai" for alias in node.names]
    if other := next((alias.asname for alias in aliases if alias.name == "task" and alias.asname), None):
        return f"; @{other} is not recognized: import task by its own name and write @task"
    return _imported_task(tree, function)


def _imported_task(tree: ast.Module, function: str | None) -> str:
    """Hint at the named function if it is imported, or at any import in a file that defines no function."""
    imports = [node for node in _imports(tree) if node.module != "inspect_ai"]
    names = [alias.asname or alias.name for node in imports for alias in node.names]
    only_imports = not any(isinstance(node, Function) for node in tree.body)
    if names and (function in names if function else only_imports):
        return "; an imported task is not found: write a function with @task that returns what the imported one returns"
    return ""


def _imports(tree: ast.Module) -> list[ast.ImportFrom]:
    return [node for node in tree.body if isinstance(node, ast.ImportFrom)]


def _require_known_name(script: Path, node: Function) -> None:
    """Raise TaskScriptError if the decorator gives the task a name in a way that does not tell it beforehand."""
    positional = any(call.args for call in _task_calls(node))
    if positional or any(not isinstance(value, ast.Constant) for value in _given_names(node)):
        raise TaskScriptError(f'{script}:{node.lineno}: write the name of a task as text: @task(name="{node.name}")')


def _registered(node: Function) -> str:
    return next((str(value.value) for value in _given_names(node) if isinstance(value, ast.Constant)), node.name)


def _given_names(node: Function) -> list[ast.expr]:
    """What the decorator is given as the task's name."""
    return [item.value for call in _task_calls(node) for item in call.keywords if item.arg == "name"]


def _task_calls(node: Function) -> list[ast.Call]:
    calls = [item for item in node.decorator_list if isinstance(item, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "task"]


def _signature(node: Function) -> TaskSignature:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    first_default = len(positional) - len(arguments.defaults)
    defaults: dict[str, ast.expr | None] = {
        **{arg.arg: None for arg in positional[:first_default]},
        **{arg.arg: value for arg, value in zip(positional[first_default:], arguments.defaults, strict=True)},
        **{arg.arg: value for arg, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)},
    }
    return TaskSignature(
        name=_registered(node),
        function=node.name,
        parameters=tuple(defaults),
        required=tuple(name for name, default in defaults.items() if default is None),
        defaults=_literals(defaults),
        accepts_any=arguments.kwarg is not None,
    )


def _literals(defaults: Mapping[str, ast.expr | None]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, default in defaults.items():
        try:
            result |= {name: ast.literal_eval(default)} if default is not None else {}
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
    return result


def offered_arguments(
    prompting: Prompting,
    generation: Generation,
    scorers: Sequence[Mapping[str, Any]],
    data: Path | None,
    label: str = "",
    assistant_prefix: str = "",
    columns: Columns = DEFAULT_COLUMNS,
) -> dict[str, Any]:
    """Arguments that a summary offers to a task, whether or not its function takes them."""
    offered: dict[str, Any] = {"prompt": prompting.prompt, "system_prompt": prompting.system_prompt}
    offered[LABEL_ARGUMENT] = label
    if data is not None:
        offered[DATA_ARGUMENT] = str(data)
    if prompting.dataset_type == "text_completion":
        offered[TEMPLATE_ARGUMENT] = False
    if assistant_prefix:
        offered["assistant_prefix"] = assistant_prefix
    if columns != DEFAULT_COLUMNS:
        offered |= {INPUT_ARGUMENT: columns.input, OUTPUT_ARGUMENT: columns.output}
    # Without sampling, temperature is ignored; 0 means the same as not sampling.
    if generation.temperature is not None and (generation.do_sample or generation.temperature == 0):
        offered["temperature"] = generation.temperature
    for name in ("max_tokens", "logprobs", "top_logprobs"):
        if (value := getattr(generation, name)) is not None:
            offered[name] = value
    if scorers:
        offered |= {"scorers": [dict(scorer) for scorer in scorers], "scorer": scorers[0]["name"]}
    return offered


@dataclass(frozen=True)
class TaskCall:
    """What an evaluation calls its task with; `arguments` are those beside the file of its configuration.

    `config_file` is that file, if the task takes one; `config` is what it says, unless another tool wrote it.
    `data` is the file that the task reads, `split` the part of it that an argument names.
    """

    signature: TaskSignature
    arguments: dict[str, Any]
    config_file: Path | None
    config: dict[str, Any] | None
    data: Path | None
    split: str | None

    @property
    def all_arguments(self) -> dict[str, Any]:
        """The arguments as the job script gives them."""
        return {CONFIG_ARGUMENT: str(self.config_file), **self.arguments} if self.config_file else self.arguments


def task_call(evaluation: Evaluation, signature: TaskSignature, config_file: Path | None, is_ours: bool) -> TaskCall:
    """How an evaluation calls its task, if it may give it this file, which may be another tool's (not `is_ours`)."""
    task = evaluation.task
    takes_config = signature.is_given(CONFIG_ARGUMENT) and CONFIG_ARGUMENT not in task.args
    file = config_file if takes_config else None
    split = task.args.get("split", signature.defaults.get("split"))
    return TaskCall(
        signature=signature,
        arguments=task_arguments(evaluation, signature),
        config_file=file,
        config=task_config(evaluation) if file and is_ours else None,
        data=task.data if task.own_data or signature.takes(DATA_ARGUMENT) else None,
        split=split if isinstance(split, str) else None,
    )


def task_arguments(evaluation: Evaluation, signature: TaskSignature) -> dict[str, Any]:
    """Arguments for an evaluation's task: the offered ones that it takes, then the task's own `args`.

    Without the file of its configuration, which a task may be given as well.
    """
    given = (evaluation.prompting, evaluation.generation, evaluation.scorers, evaluation.task.data)
    offered = offered_arguments(*given, evaluation.label, evaluation.assistant_prefix, evaluation.columns)
    return {name: offered[name] for name in offered if signature.is_given(name)} | dict(evaluation.task.args)


def task_config(evaluation: Evaluation) -> dict[str, Any]:
    """What the file says that is given to tasks which take `config_path`; keys without a value are left out."""
    values: dict[str, Any] = {
        "prompt": evaluation.prompting.prompt,
        "system_prompt": evaluation.prompting.system_prompt,
        "scorers": [dict(scorer) for scorer in evaluation.scorers],
        "dataset_type": evaluation.prompting.dataset_type,
        "is_finetuned": evaluation.needs_checkpoint,
        "epoch": evaluation.epoch,
        "source_model": evaluation.run.model.name,
        LABEL_ARGUMENT: evaluation.label,
    }
    return {name: value for name, value in values.items() if value is not None and value != []}
