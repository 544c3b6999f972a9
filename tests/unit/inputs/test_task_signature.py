"""What a task takes is read from its source, and it is given just that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from run_experiment.experiment.columns import Columns
from run_experiment.experiment.model import Evaluation, Generation, Model, Prompting, Run, Task
from run_experiment.inputs.task_signature import (
    TaskScriptError,
    TaskSignature,
    read_signature,
    task_arguments,
)

SCRIPT = """
from inspect_ai import task

raise RuntimeError("must not be imported")

def helper(task): ...

@task
def first(data_path: str, prompt="{input}", *, k=3, scorer=match(), **rest): ...

@task(name="other")
def second(required): ...
"""

IMPORTED = "; an imported task is not found: write a function with @task that returns what the imported one returns"


def write(folder: Path, text: str) -> Path:
    file = folder / "tasks.py"
    file.write_text(text)
    return file


def test_signature_without_importing(tmp_path: Path) -> None:
    assert read_signature(write(tmp_path, SCRIPT), "first") == TaskSignature(
        name="first",
        function="first",
        parameters=("data_path", "prompt", "k", "scorer"),
        required=("data_path",),
        defaults={"prompt": "{input}", "k": 3},
        accepts_any=True,
    )


def test_only_task_needs_no_name(tmp_path: Path) -> None:
    signature = read_signature(write(tmp_path, "@task\ndef only(): ...\ndef other(): ..."), None)
    assert (signature.function, signature.parameters, signature.accepts_any) == ("only", (), False)


@pytest.mark.parametrize("name", ["second", "other"])
def test_a_task_is_named_by_its_function_or_as_inspect_ai_knows_it(tmp_path: Path, name: str) -> None:
    signature = read_signature(write(tmp_path, SCRIPT), name)
    assert (signature.function, signature.name) == ("second", "other")


@pytest.mark.parametrize(("called", "function"), [("first", "first"), ("second", "second"), ("other", "second")])
def test_of_several_tasks_the_one_that_is_called_as_in_the_summary(tmp_path: Path, called: str, function: str) -> None:
    script = write(tmp_path, SCRIPT)
    assert read_signature(script, None, called).function == function
    # What the summary names is stronger.
    assert read_signature(script, "first", called).function == "first"


@pytest.mark.parametrize(("called", "meant"), [("", "first"), ("helper", "first"), ("second_subset", "second")])
def test_several_tasks_of_other_names(tmp_path: Path, called: str, meant: str) -> None:
    with pytest.raises(TaskScriptError, match=rf"has several tasks \(first, second\); name one: tasks.py@{meant}$"):
        read_signature(write(tmp_path, SCRIPT), None, called)


UNTOLD = '{file}:3: write the name of a task as text: @task(name="f")'


@pytest.mark.parametrize(
    ("text", "function", "message"),
    [
        (SCRIPT, None, "{file} has several tasks (first, second); name one: tasks.py@first"),
        (SCRIPT, "frist", "{file} has no task frist; did you mean first?"),
        (SCRIPT, "helper", "{file} has no task helper; known: first, second"),
        ("def f(): ...", None, "{file} has no function decorated with @task"),
        (
            "from inspect_ai import Task, task as register\n@register\ndef f(): ...",
            None,
            "{file} has no function decorated with @task; @register is not recognized: import task by its own name and "
            "write @task",
        ),
        (
            "if True:\n    @task\n    def f(): ...",
            "f",
            "{file} has no function decorated with @task; inspect-ai finds tasks only at the top level of a file: "
            "move it there",
        ),
        ("from evals.shout import shout", "shout", "{file} has no function decorated with @task" + IMPORTED),
        ("from . import shout", None, "{file} has no function decorated with @task" + IMPORTED),
        ("from x import y as shout\n@task\ndef first(): ...", "shout", "{file} has no task shout" + IMPORTED),
        ("from pathlib import Path\ndef f(): ...", None, "{file} has no function decorated with @task"),
        ("from inspect_ai import Task, task\nf = task(Task)", None, "{file} has no function decorated with @task"),
        (
            "@task\ndef f(data_path, /, prompt): ...",
            None,
            "{file}: task f has parameters before a /, but inspect-ai gives arguments by name: remove the /",
        ),
        ("from evals import shout", "other", "{file} has no function decorated with @task"),
        (
            "import inspect_ai\n@inspect_ai.task\ndef f(): ...",
            "f",
            "{file} has no function decorated with @task; inspect-ai does not find a task by @….task: write from "
            "inspect_ai import task, and @task",
        ),
        ("NAME = 'f'\n@task(name=NAME)\ndef f(): ...", None, UNTOLD),
        ("x = 1\n@task('other')\ndef f(): ...", None, UNTOLD),
        ("\ufeff@task\ndef f(): ...", None, "{file} begins with a byte order mark: save it as UTF-8 without one"),
        # A syntax tree shows nothing of these.
        ("@task\ndef f(): ...\nreturn 1", None, "{file}:3: not valid Python: 'return' outside function"),
        ("@task\ndef f(x, x): ...", None, "{file}:2: not valid Python: duplicate argument 'x' in function definition"),
        ("x = 1\ndef f(:", None, "{file}:2: not valid Python: invalid syntax"),
    ],
)
def test_unusable_scripts(tmp_path: Path, text: str, function: str | None, message: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(TaskScriptError) as caught:
        read_signature(file, function)
    assert str(caught.value) == message.format(file=file)


def test_missing_and_odd_files(tmp_path: Path) -> None:
    with pytest.raises(TaskScriptError, match="No such file"):
        read_signature(tmp_path / "absent.py", None)
    for text in ("\0", "(" * 10_000, "-" * 100_000 + "1"):
        with pytest.raises(TaskScriptError):
            read_signature(write(tmp_path, text), None)


def evaluation(**changes: Any) -> Evaluation:
    model = Model("m", Path("/m"))
    run = Run("r", "control", model, {}, None, None, "{run}/artifacts/epoch_{epoch}", None)
    given = Evaluation(
        run=run,
        task=Task("t", Path("/t.py"), None, Path("/d.json"), own_data=True, args={}),
        epoch=None,
        prompting=Prompting("P {input}", "S", "chat_completion"),
        generation=Generation(do_sample=False, temperature=None, seed=14, max_tokens=None, max_connections=32),
        scorers=({"name": "match", "params": {"location": "exact"}}, {"name": "includes", "params": {}}),
        label="r",
        compute=None,
        config_file=Path("/r/eval/t_base.config.yaml"),
    )
    return replace(given, **changes)


def signature(*parameters: str, accepts_any: bool = False) -> TaskSignature:
    return TaskSignature("t", "t", parameters, (), {}, accepts_any)


def test_a_task_is_given_what_it_takes() -> None:
    assert task_arguments(evaluation(), signature("data_path", "k", "scorer")) == {
        "data_path": "/d.json",
        "scorer": "match",
    }
    assert task_arguments(evaluation(), signature(accepts_any=True)) == {
        "data_path": "/d.json",
        "prompt": "P {input}",
        "system_prompt": "S",
        "scorers": [{"name": "match", "params": {"location": "exact"}}, {"name": "includes", "params": {}}],
        "scorer": "match",
    }


def test_names_of_columns_only_if_there_are_others() -> None:
    takes = signature("input_key", "output_key")
    assert task_arguments(evaluation(), takes) == {}
    other = evaluation(columns=Columns("question", "answer"))
    assert task_arguments(other, takes) == {"input_key": "question", "output_key": "answer"}
    assert "input_key" not in task_arguments(other, signature(accepts_any=True))


def test_own_arguments_override() -> None:
    task = Task("t", Path("/t.py"), None, None, own_data=False, args={"prompt": "mine", "k": 3})
    assert task_arguments(evaluation(task=task), signature("data_path", "prompt", "k")) == {"prompt": "mine", "k": 3}


def test_no_chat_template_for_text_completion_only() -> None:
    text = evaluation(prompting=Prompting("{input}", "", "text_completion"))
    assert task_arguments(text, signature("use_chat_template")) == {"use_chat_template": False}
    assert task_arguments(evaluation(), signature("use_chat_template")) == {}


@pytest.mark.parametrize(
    ("do_sample", "temperature", "expected"),
    [(False, None, {}), (False, 0.0, {"temperature": 0.0}), (False, 0.7, {}), (True, 0.7, {"temperature": 0.7})],
)
def test_temperature(do_sample: bool, temperature: float | None, expected: dict[str, Any]) -> None:
    given = evaluation(generation=Generation(do_sample, temperature, seed=14, max_tokens=20, max_connections=32))
    assert task_arguments(given, signature("temperature", "max_tokens")) == {"max_tokens": 20} | expected


def test_registered_name_is_the_decorator_s(tmp_path: Path) -> None:
    script = write(tmp_path, SCRIPT)
    assert [read_signature(script, name).name for name in ("first", "second")] == ["first", "other"]
