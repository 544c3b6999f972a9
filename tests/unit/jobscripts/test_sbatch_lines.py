"""What a job script's `#SBATCH` lines hold, which of them are refused, and which give way to an override."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from run_experiment.jobscripts.sbatch_lines import (
    LEFT_OUT,
    REFUSED,
    Option,
    SbatchError,
    Word,
    as_lines,
    environment_problems,
    parse,
    read_options,
    unread_lines,
    without,
)


def script(*lines: str) -> str:
    return "\n".join(["#!/bin/bash", *[f"#SBATCH {line}" for line in lines], "", "hostname"]) + "\n"


def values(text: str) -> dict[str, str]:
    return {option.name: option.value for option in read_options(text)}


def lines(*given: str) -> list[str]:
    """The words that go with a job of a script with these lines."""
    return as_lines(read_options(script(*given))).replace("#SBATCH ", "").splitlines()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--mem=5G", {"mem": "5G"}),
        ("--mem 5G", {"mem": "5G"}),
        ("-t 1:00 -c4 -pgpu", {"time": "1:00", "cpus-per-task": "4", "partition": "gpu"}),
        ("-A a -n 2 -N 1 -C v100", {"account": "a", "ntasks": "2", "nodes": "1", "constraint": "v100"}),
        ("-q q -G 2 -x n1", {"qos": "q", "gpus": "2", "x": "n1"}),
        ("--gres=gpu:1 # two of them", {"gres": "gpu:1"}),
        ("--wckey=a#b --mem=1", {"wckey": "a"}),
        ('--wckey="a b"#x --mem 5G', {"wckey": "a b"}),
        ("--wckey='a\"b' --mem=1", {"wckey": 'a"b', "mem": "1"}),
        (r'--wckey="a\"b"', {"wckey": 'a"b'}),
        (r"--wckey=a\#b\ --mem=1", {"wckey": "a#b", "mem": "1"}),
        (r"--wckey='a\'b'", {"wckey": "a'b"}),
        ('--mem=1 "" --wrap=x', {"mem": "1"}),
        ("--exclusive --mem=1", {"exclusive": "", "mem": "1"}),
        ("--exclusive=user", {"exclusive": "user"}),
        ("-OkQn2", {"O": "", "k": "Qn2"}),
        ("-OQn2", {"O": "", "ntasks": "2"}),
        ("--tasks=2", {"ntasks": "2"}),
        ("--tasks-per-node=2", {"ntasks-per-node": "2"}),
        ("--part=gpu --tim=3", {"partition": "gpu", "time": "3"}),
        ("--site-option=x --site-flag", {"site-option": "x", "site-flag": ""}),
        ("--mem=1\t--time=2\r", {"mem": "1", "time": "2"}),
    ],
)
def test_options_are_read_as_sbatch_reads_them(text: str, expected: dict[str, str]) -> None:
    assert values(script(text)) == expected


def test_only_magic_lines_before_the_first_command_count() -> None:
    text = (
        "#!/bin/bash\n##SBATCH --mem=1\n #SBATCH --mem=2\n# SBATCH --mem=3\n\n  \t\n#SBATCH --nodes=1\n"
        "#SBATCH --mem\n#SBATCH 4\n#SBATCH--time=5\n  # x\nmodule load x\n#SBATCH --mem=99\n#SBATCH --wrap=x\n"
    )
    assert values(text) == {"nodes": "1", "mem": "4", "time": "5"}
    why = "is below the first command, where sbatch reads no such lines: move it up"
    assert [problem.render("a") for problem in unread_lines(text)] == [
        f"a:13: `#SBATCH --mem=99` {why}",
        f"a:14: `#SBATCH --wrap=x` {why}",
    ]
    assert unread_lines("#!/bin/bash\n#SBATCH --mem=1") == []


def test_words_go_with_the_job_as_they_are_written() -> None:
    written = "--mem 5G --constraint='a|b' --exclusive", r"--wckey=a\#b --comment=x # why", "-OQc4 --gres=gpu:2"
    assert lines(*written) == [
        *("--mem 5G", "--constraint='a|b'", "--exclusive", r"--wckey=a\#b", "-O", "-c4", "--gres=gpu:2"),
    ]


def test_what_the_executor_sets_is_left_out() -> None:
    assert lines(*[f"--{name}=ALL" for name in sorted(LEFT_OUT)], "-J x -o y -e z -i w -QvW --mem=1") == ["--mem=1"]
    assert lines("--export=none --job-n x") == []


@pytest.mark.parametrize(
    "line",
    [
        "--wrap='rm -rf /'",
        "--array=1-3",
        "--arr 1-3",
        "-a1-3",
        "-Oa1-3",
        '-O"a"1-3',
        "--chdir=/x",
        "--workdir=/x",
        "-D /x",
        "--dependency=afterok:1",
        "--dep=afterok:1",
        "--hold",
        "-H",
        "--export=A=1",
        "--export-file=x",
        # An abbreviation of two options is none for sbatch either.
        "--exp=ALL",
        "--clusters=other",
        "--clus=other",
        "-M other",
        "--container=x",
        "--gid=0",
        "--usage",
        "--version",
        "--test-only",
        "--uid=0",
        "--help",
        "-V",
        "stray",
        "--mem=1 stray",
        "--mem 1 stray",
        "hetjob",
        '--mem="5G',
        "-- --mem=5",
    ],
)
def test_what_is_not_allowed_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(SbatchError, match=r"^job script:3: ") as caught:
        read_options(script("--nodes=1", line))
    assert [problem.line for problem in caught.value.problems] == [3]


def test_every_refused_option_is_refused_with_what_to_do() -> None:
    assert len(REFUSED) > 10
    for name, why in REFUSED.items():
        with pytest.raises(SbatchError, match=re.escape(f"job script:2: --{name}='1': not allowed: {why}")):
            read_options(script(f"--{name}=1"))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("hetjob", "'hetjob' is not allowed: one script is one job"),
        ("--mem=1G : --mem=2G", "':' is not allowed: one script is one job"),
        ("\u2013\u2013mem=1G", "'––mem=1G' is not an option of sbatch; it begins with a typographic dash: write -"),
        ("\u00a0--mem=1G", "'\\xa0--mem=1G' is not an option of sbatch; it has a no-break space: write a plain one"),
        ("mem=1G", "'mem=1G' is not an option of sbatch"),
    ],
)
def test_words_that_are_no_option(line: str, why: str) -> None:
    with pytest.raises(SbatchError) as caught:
        read_options(script(line))
    assert str(caught.value) == f"job script:2: {why}"


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SbatchError) as caught:
        read_options(script("--array=1-3", "--mem=4G", "--hold --wrap=x", "--job-name='x"))
    assert [problem.line for problem in caught.value.problems] == [2, 4, 4, 5]


@pytest.mark.parametrize(
    ("override", "gone"),
    [
        ("mem", ["--mem-per-cpu=1"]),
        ("mem-per-cpu", ["--mem-per-cpu=1"]),
        ("gpus", ["--gres=gpu:1"]),
        ("cpus-per-task", ["--cpus-per-gpu=2"]),
        ("ntasks", ["--ntasks-per-node=1"]),
        ("time", ["-t 5"]),
        ("mail-user", ["--mail-user=a"]),
        ("nice", []),
    ],
)
def test_an_override_takes_the_lines_of_its_family_out(override: str, gone: list[str]) -> None:
    given = "--mem-per-cpu=1 --gres=gpu:1 -t 5", "--cpus-per-gpu=2 --ntasks-per-node=1 --mail-user=a"
    before = lines(*given)
    after = [option.written for option in without(read_options(script(*given)), {override})]
    assert [words for words in before if words not in after] == gone


def words_of(text: str) -> list[tuple[str, str]]:
    return [(option.name, option.value) for option in read_options(text)]


@given(st.text(alphabet=st.sampled_from("abcDO1,.:-=#/%_ \"'\\$`;<>\n\t\r~!é\0"), max_size=40))
def test_lines_stay_lines_and_mean_the_same(text: str) -> None:
    """Whatever a script says: what goes with the job are `#SBATCH` lines, which say the same again."""
    try:
        options = read_options(script("--mem=1", text))
    except SbatchError:
        return
    written = as_lines(options)
    assert all(line.startswith("#SBATCH -") for line in written.removesuffix("\n").split("\n"))
    assert words_of(written) == [(option.name, option.value) for option in options]


@given(st.text(max_size=60))
def test_no_text_makes_anything_but_an_sbatch_error(text: str) -> None:
    with suppress(SbatchError):
        read_options(script(text))


def test_words_that_no_line_holds_have_no_line() -> None:
    assert parse([Word("--nice=5", "--nice=5")], []) == [Option("nice", "5", "--nice=5", 0)]


def test_another_cluster_by_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment_problems() == []
    monkeypatch.setenv("SBATCH_CLUSTERS", "other")
    (problem,) = environment_problems()
    assert problem.startswith("SBATCH_CLUSTERS is set in the environment: jobs run on one cluster")
