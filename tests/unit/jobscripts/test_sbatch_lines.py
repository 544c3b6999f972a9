"""What a job script's `#SBATCH` lines mean, and what the stock SLURM executor makes of the resources."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string
from snakemake_executor_plugin_slurm.validation import validate_slurm_extra

from run_experiment.jobscripts.sbatch_lines import SbatchError, read_directives, snakemake_resources
from run_experiment.jobscripts.sbatch_options import ALIASES, OPTIONS, SHORT, Takes, Use


def script(*lines: str) -> str:
    return "\n".join(["#!/bin/bash", *[f"#SBATCH {line}" for line in lines], "", "hostname"]) + "\n"


def resources(*lines: str) -> dict[str, int | str]:
    return snakemake_resources(read_directives(script(*lines)))


def values(text: str) -> dict[str, str]:
    return {option: found.value for option, found in read_directives(text).by_option.items()}


class _Resources(dict):
    def __getattr__(self, name: str) -> int | str:
        return self[name]


def submitted(found: dict[str, int | str]) -> list[str]:
    """The words after `sbatch` of the stock executor's own options for these resources, as a shell splits them."""
    job = SimpleNamespace(resources=_Resources(found), threads=4)
    if "slurm_extra" in found:
        validate_slurm_extra(job)
    params = {"run_uuid": "u", "slurm_logfile": "l", "comment_str": "c", "account": "", "partition": "", "workdir": "w"}
    words = shlex.split(get_submit_command(job, params) + set_gres_string(job))
    fixed = ["sbatch", "--parsable", "--job-name", "u", "--output", "l", "--export=ALL", "--comment", "c", "-D", "w"]
    for word in fixed:
        words.remove(word)
    return words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--mem=5G", {"mem": "5G"}),
        ("--mem 5G", {"mem": "5G"}),
        ("-t 1:00 -c4 -pgpu", {"time": "1:00", "cpus-per-task": "4", "partition": "gpu"}),
        ("-A a -J n -n 2 -N 1 -C v100 -q q -G 2 -o o -e e", None),
        ("--gres=gpu:1 # two of them", {"gres": "gpu:1"}),
        ("--wckey=a#b --mem=1", {"wckey": "a"}),
        ('--job-name="a b"#x --mem 5G', {"job-name": "a b"}),
        ("--job-name='a\"b' --mem=1", {"job-name": 'a"b', "mem": "1"}),
        (r'--job-name="a\"b"', {"job-name": 'a"b'}),
        (r"--job-name=a\#b\ --mem=1", {"job-name": "a#b", "mem": "1"}),
        (r"--job-name='a\'b'", {"job-name": "a'b"}),
        ('--mem=1 "" --wrap=x', {"mem": "1"}),
        ("--exclusive --mem=1", {"exclusive": "", "mem": "1"}),
        ("--exclusive=user", {"exclusive": "user"}),
        ("-Ok -n2", {"overcommit": "", "no-kill": "", "ntasks": "2"}),
        ("--tasks=2", {"ntasks": "2"}),
        ("--mem=1 --mem=2", {"mem": "2"}),
    ],
)
def test_options_are_read_as_sbatch_reads_them(text: str, expected: dict[str, str] | None) -> None:
    found = values(script(text))
    assert found == expected if expected is not None else len(found) == 9


def test_only_magic_lines_before_the_first_command_count() -> None:
    text = (
        "#!/bin/bash\n##SBATCH --mem=1\n #SBATCH --mem=2\n# SBATCH --mem=3\n\n  \t\n#SBATCH --nodes=1\n"
        "#SBATCH --mem\n#SBATCH 4\n#SBATCH--time=5\n  # x\nmodule load x\n#SBATCH --mem=99\n#SBATCH --wrap=x\n"
    )
    assert values(text) == {"nodes": "1", "mem": "4", "time": "5"}


def test_the_line_of_an_option_is_known() -> None:
    found = read_directives(script("--mem=1", "--time=3")).get("time")
    assert found is not None
    assert found.line == 3


@pytest.mark.parametrize(
    "line",
    [
        "--wrap='rm -rf /'",
        "--array=1-3",
        "-a1-3",
        "--chdir=/x",
        "-D /x",
        "--dependency=afterok:1",
        "--hold",
        "-H",
        "--export=A=1",
        "--test-only",
        "--uid=0",
        "--unheard-of=1",
        "--part=gpu",
        "-Z",
        "stray",
        "--exclusive user",
        "--overcommit=x",
        "--mem",
        '--mem="5G',
        "-- --mem=5",
        "--mem=1.5G",
        "--mem=10Gi",
        "--mem=",
        "--time=1:2:3:4",
        "--time=soon",
        "--mail-user='a@b; rm -rf /'",
        "--mail-user='$(id)'",
        "--mail-user=`id`",
        "--reservation=a'b",
        '--reservation="a b"',
        "--reservation=-x",
        "--reservation=x-J1",
        "--wckey=a--mem=1",
        "--account=a,b",
        "--nodelist=/etc/passwd",
        "--constraint='a$b'",
        "--gpus=2;id",
        "--gres=gpu=2",
        "--gres=gpu:1:2:3",
    ],
)
def test_what_is_not_allowed_is_refused_with_its_line_and_words(line: str) -> None:
    with pytest.raises(SbatchError, match=r"^job script:3: ") as caught:
        read_directives(script("--nodes=1", line))
    assert [problem.line for problem in caught.value.problems] == [3]


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SbatchError) as caught:
        read_directives(script("--array=1-3", "--mem=4G", "--time=soon -Z", "--job-name='x"))
    assert [problem.line for problem in caught.value.problems] == [2, 4, 4, 5]


def test_an_error_names_the_option_and_its_value() -> None:
    with pytest.raises(SbatchError, match=re.escape("job script:2: --mail-user='$(id)': is not")):
        read_directives(script("--mail-user=$(id)"))


@pytest.mark.parametrize(
    "lines",
    [
        ["--time=0"],
        ["--time=UNLIMITED"],
        ["--mem=1G", "--mem-per-cpu=1G"],
        ["--mem-per-cpu=0"],
        ["--mem-per-gpu=1G"],
        ["--cpus-per-gpu=1"],
        ["--cpus-per-task=0"],
        ["--nodes=0"],
        ["--nodes=1-2"],
        ["--gpus=1", "--gres=gpu:2"],
        ["--gpus=4", "--nodes=2"],
        ["--gres=nvme:1,tape:2"],
    ],
)
def test_what_cannot_be_asked_for_is_refused(lines: list[str]) -> None:
    with pytest.raises(SbatchError):
        resources(*lines)


@pytest.mark.parametrize(
    ("time", "minutes"),
    [
        ("90", 90),
        ("90:00", 90),
        ("90:01", 91),
        ("0:30", 1),
        ("04:00:00", 240),
        ("1:02:03", 63),
        ("2-3", 2 * 1440 + 180),
        ("1-0", 1440),
        ("1-2:30", 1440 + 150),
        ("1-02:30:01", 1440 + 151),
    ],
)
def test_times(time: str, minutes: int) -> None:
    assert resources(f"--time={time}")["runtime"] == minutes


@pytest.mark.parametrize(
    ("size", "megabytes"),
    [("500", 500), ("500M", 500), ("2G", 2048), ("2gb", 2048), ("1T", 2**20), ("2048K", 2), ("1K", 1)],
)
def test_memory(size: str, megabytes: int) -> None:
    assert resources(f"--mem={size}")["mem_mb"] == megabytes
    assert resources(f"--mem-per-cpu={size}")["mem_mb_per_cpu"] == megabytes
    assert resources(f"--mem-per-gpu={size}", "--gpus=3")["mem_mb"] == 3 * megabytes


BARE = ["--ntasks=1"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], BARE),
        (["--gres=gpu:0"], [*BARE, "--nodes=1"]),
        (["--gres=none"], BARE),
        (["--gres=gpu"], ["--nodes=1", "--gpus=1"]),
        (["--gres=gpu:2"], ["--nodes=1", "--gpus=2"]),
        (["--gres=gpu:a100:2"], ["--nodes=1", "--gpus=a100:2"]),
        (["--gres=gpu:a100"], ["--nodes=1", "--gpus=a100:1"]),
        (["--gres=gpu:1g.5gb:1"], ["--nodes=1", "--gpus=1g.5gb:1"]),
        (["--gpus=2"], ["--gpus=2"]),
        (["-G", "a100:2"], ["--gpus=a100:2"]),
        (["--gpus-per-node=2"], ["--nodes=1", "--gpus=2"]),
        (["--gpus-per-task=2", "-n1"], ["--nodes=1", "--gpus=2"]),
        (["--gres=gpu:2", "--nodes=1", "--ntasks=1", "-c8"], ["--nodes=1", "--gpus=2", "--cpus-per-task=8"]),
        (["--gres=gpu:2", "--gpus-per-node=2"], ["--nodes=1", "--gpus=2"]),
        (["--gres=gpu:1,nvme:5G"], ["--nodes=1", "--gpus=1", "--gres=nvme:5G"]),
        # A type with a dash cannot be given as a resource, nor with an untyped --gpus beside it.
        (["--gres=gpu:a100-sxm4:2"], [*BARE, "--nodes=1", "--gpus-per-node=a100-sxm4:2"]),
        (["--gpus=a100-sxm4:2", "-N1"], [*BARE, "--nodes=1", "--gpus-per-node=a100-sxm4:2"]),
        (
            ["--gres=gpu:4", "-N2"],
            ["--nodes=2", "--ntasks=2", "--gpus-per-node=4"],
        ),
        (
            ["--gpus-per-task=1", "-N1", "-n4", "--cpus-per-gpu=3"],
            ["--nodes=1", "--ntasks=4", "--cpus-per-task=3", "--gpus-per-task=1"],
        ),
        (
            ["-N2", "--ntasks-per-node=4"],
            ["--nodes=2", "--ntasks=8", "--ntasks-per-node=4"],
        ),
        (["--gpus=2", "--cpus-per-gpu=3"], ["--gpus=2", "--cpus-per-task=6"]),
        (["--mem=0"], [*BARE, "--mem=0"]),
    ],
)
def test_the_executor_asks_for_what_the_script_asks_for(lines: list[str], words: list[str]) -> None:
    assert sorted(submitted(resources(*lines))) == sorted(words)


def test_a_whole_script() -> None:
    found = resources(
        "--job-name=x --output=slurm-%j.out",
        "--account=lab --partition=gpu,long --qos=high",
        "--nodes=1 --ntasks=1 --cpus-per-task=4 --mem=40G --time=04:00:00",
        "--gres=gpu:a100:1 --constraint='gpu80|gpu40'",
        "--mail-type=END,FAIL --mail-user=me@uni.edu --exclusive",
    )
    assert found == {
        "slurm_account": "lab",
        "slurm_partition": "gpu,long",
        "qos": "high",
        "constraint": "gpu80|gpu40",
        "runtime": 240,
        "nodes": 1,
        "cpus_per_task": 4,
        "mem_mb": 40960,
        "gpu": 1,
        "gpu_model": "a100",
        "slurm_extra": "--mail-type='END,FAIL' --mail-user='me@uni.edu' --exclusive",
    }


def test_every_short_option_and_alias_is_known() -> None:
    assert SHORT
    assert {*SHORT.values(), *ALIASES.values()} <= OPTIONS.keys()
    assert all(option.instead for option in OPTIONS.values() if option.use is Use.REFUSED)


EXTRA = sorted(name for name, option in OPTIONS.items() if option.use is Use.EXTRA)
VALUED = sorted(name for name, option in OPTIONS.items() if option.takes is not Takes.NOTHING)
HOSTILE = st.text(alphabet=st.sampled_from("ab1,.:-[]()*&|@=+/%_ \"'\\$`;<>\n\t#~!?{}é-JneBTU\0"), max_size=12)


@settings(max_examples=400, deadline=None)
@given(name=st.sampled_from(EXTRA), data=st.data())
def test_no_accepted_value_leaves_its_quotes_or_passes_for_another_option(name: str, data: st.DataObject) -> None:
    option = OPTIONS[name]
    form = st.from_regex(re.compile(option.form, re.ASCII), fullmatch=True)
    value = "" if option.takes is Takes.NOTHING else data.draw(st.one_of(HOSTILE, form))
    written = f"--{name}={shlex.quote(value)}" if value else f"--{name}"
    try:
        found = resources("--mem=1 --licenses=end-n", written, "--contiguous")
    except SbatchError:
        return
    # As sbatch reads it: a backslash counts in quotes, too.
    value = values(script(written))[name]
    assert (f"--{name}={value}" if value else f"--{name}") in shlex.split(str(found["slurm_extra"]))
    assert not re.search(r"[\s\"'\\$`;<>#~!?{}\0]", value)
    submitted(found)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(VALUED), value=HOSTILE)
def test_any_line_is_read_or_refused(name: str, value: str) -> None:
    try:
        found = resources(f"--{name}={value}")
    except SbatchError:
        return
    words = submitted(found)
    assert not [word for word in words if re.search(r"[\s\"'\\$`;<>#~!?{}\0é]", word)]


@given(st.text(max_size=60))
def test_no_text_makes_anything_but_an_sbatch_error(text: str) -> None:
    with suppress(SbatchError):
        resources(text)
