"""What a script's `inspect eval` becomes where an evaluation goes on; a shim shows what inspect-ai is called with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from run_experiment.evaluation.continuing import (
    asked_max_connections,
    can_be_told,
    inspect_environment,
    repeats_itself,
)
from run_experiment.jobs.script_process import run_script

LOG = Path('/an experiment\'s/$HOME `x`/a "b".eval')
SHIM = f"""#!{sys.executable}
import json, sys
print(json.dumps(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, with an `inspect` that prints its arguments."""
    monkeypatch.chdir(tmp_path)
    Path("bin").mkdir()
    Path("bin/inspect").write_text(SHIM)
    Path("bin/inspect").chmod(0o755)


def called(line: str, log: Path | None = LOG, connections: int | None = None) -> list[list[str]]:
    """What inspect-ai is called with by a script."""
    Path("job.slurm").write_text(
        f'#!/bin/bash\nset -euo pipefail\nexport PATH="{Path("bin").absolute()}:$PATH"\n{line}\n'
    )
    with Path("log").open("wb") as output:
        status = run_script(Path("job.slurm"), output, inspect_environment(log, connections))
    lines = Path("log").read_text().splitlines()
    assert status == 0, lines
    return [json.loads(item) for item in lines]


PLAIN = ["--display", "plain"]


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        ("inspect eval t.py@t --model m -T a=1", []),
        ('inspect eval t.py \\\n  --model m \\\n  --log-dir "my logs/$(echo x)" -T a=1', ["--log-dir", "my logs/x"]),
        ("inspect eval t.py --log-dir='a b' --env K=1 --no-score", ["--log-dir=a b", "--env", "K=1", "--no-score"]),
        ("inspect eval t.py --max-connections 8 --display rich --log-format eval", ["--max-connections", "8"]),
        ("cd bin && inspect eval t.py | cat", []),
        ("export -n LANG; bash -c 'inspect eval t.py'", []),
    ],
)
def test_inspect_eval_becomes_eval_retry(line: str, taken: list[str]) -> None:
    assert called(line) == [["eval-retry", str(LOG), *taken, *PLAIN]]


def test_the_last_option_wins() -> None:
    line = "inspect eval t.py --max-connections 8"
    retried = ["eval-retry", str(LOG), "--max-connections", "8", *PLAIN, "--max-connections", "2"]
    assert called(line, LOG, 2) == [retried]
    assert called(line, None, 2) == [["eval", "t.py", "--max-connections", "8", "--max-connections", "2"]]
    assert called(line, None, None) == [["eval", "t.py", "--max-connections", "8"]]


@pytest.mark.parametrize(
    "line", ["inspect", "inspect score a.eval", "inspect list tasks --log-dir x", "env inspect eval t"]
)
@pytest.mark.parametrize("log", [LOG, None])
def test_other_commands_are_run_as_they_are(line: str, log: Path | None) -> None:
    assert called(line, log, 2) == [line.removeprefix("env ").split()[1:]]


def test_its_exit_status_is_the_script_s() -> None:
    Path("bin/inspect").write_text("#!/bin/sh\nexit 7\n")
    Path("job.slurm").write_text(f"PATH={Path('bin').absolute()}:$PATH\ninspect eval t.py || exit $?\n")
    with Path("log").open("wb") as output:
        assert run_script(Path("job.slurm"), output, inspect_environment(LOG, None)) == 7


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("inspect eval x", True),
        ("cd x && INSPECT_LOG_DIR=y inspect eval x | tee log", True),
        ("inspect eval x > log 2>&1\ninspect score log", True),
        ("inspect eval x\ninspect eval y", False),
        ("for i in 1 2; do inspect eval x; done", False),
        ("srun inspect eval x", False),
        ("exec inspect eval x", False),
        ("/opt/bin/inspect eval x", False),
        ("python -m inspect_ai eval x", False),
        ("# inspect eval x", False),
        ("inspect eval-set x", False),
    ],
)
def test_which_scripts_can_be_told(script: str, told: bool) -> None:
    assert can_be_told(script) is told


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ("--max-connections 8", 8),
        ("--max-connections=8 --x", 8),
        ("--max-connections 8 --max-connections 4", 4),
        ("", 32),
        ('--max-connections "$N"', 6),
        ("--max-connections=${M:-3}", 3),
        ("--max-connections $UNKNOWN", None),
        ("--max-connections $((2 * N))", None),
        ("--max-connections", None),
        ("--max-connections 0", None),
    ],
)
def test_connections_of_a_script_s_own(options: str, number: int | None) -> None:
    script = f"N=$ONE\nA=b inspect eval x \\\n  {options}\ninspect score --max-connections 9"
    assert asked_max_connections(script, 32, {"ONE": "6"}) == number


@pytest.mark.parametrize(
    ("script", "number"),
    [
        ("export INSPECT_EVAL_MAX_CONNECTIONS=4\ninspect eval x", 4),
        ("INSPECT_EVAL_MAX_CONNECTIONS=$ONE inspect eval x", 6),
        ("export INSPECT_EVAL_MAX_CONNECTIONS=4\ninspect eval x --max-connections 8", 8),
        ("inspect eval x", 32),
    ],
)
def test_connections_that_a_script_has_in_its_environment(script: str, number: int) -> None:
    """That of the caller is not handed on."""
    assert asked_max_connections(script, 32, {"ONE": "6", "INSPECT_EVAL_MAX_CONNECTIONS": "9"}) == number


def test_a_set_has_the_same_order_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    Path("bin/inspect").write_text(f"#!{sys.executable}\nprint([hash('a') % 10**9])\n")
    assert called("inspect eval t.py; inspect eval t.py") == [called("inspect score")[0]] * 2

    monkeypatch.setenv("PYTHONHASHSEED", "7")
    assert inspect_environment(None, None) == {"PYTHONHASHSEED": "7"}


ROWS = [{"input": word} for word in "aab"]


def write_log(*inputs: str, ids: list[int | str] | None = None, epochs: int = 1) -> Path:
    """A log of samples with these inputs, numbered as inspect-ai does where no ids are given."""
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSpec, write_eval_log

    ids = ids or list(range(1, len(inputs) + 1))
    header = EvalSpec(
        created="2025-01-31T10:00:00+00:00",
        task="cap",
        model="hf/local",
        dataset=EvalDataset(samples=len(ids), sample_ids=ids),
        config=EvalConfig(epochs=epochs),
    )
    samples = [
        EvalSample(id=own, epoch=epoch + 1, input=text, target="x")
        for epoch in range(epochs)
        for own, text in zip(ids, inputs, strict=True)
    ]
    write_eval_log(EvalLog(status="success", eval=header, samples=samples), "a.eval")
    return Path("a.eval")


@pytest.mark.parametrize(
    ("inputs", "ids", "repeats"),
    [
        ("abc", None, False),
        ("abb", None, False),
        ("aaa", None, True),
        ("aabb", None, True),
        ("bb", None, False),
        ("ab", None, False),
        ("aaa", ["i", "ii", "iii"], False),
        ("aaa", [7, 8, 9], False),
    ],
)
@pytest.mark.parametrize("epochs", [1, 2])
def test_samples_that_data_have_not(inputs: str, ids: list[int | str] | None, repeats: bool, epochs: int) -> None:
    assert repeats_itself(write_log(*inputs, ids=ids, epochs=epochs), ROWS) is repeats


def test_long_questions_that_begin_alike_are_others() -> None:
    assert not repeats_itself(write_log("x" * 9000 + "a", "x" * 9000 + "b"), [])
    assert repeats_itself(write_log("x" * 9000, "x" * 9000), [])
