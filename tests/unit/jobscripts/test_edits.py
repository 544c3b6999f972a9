"""Rendered files: what a user edited is kept part by part, the rest follows the configuration."""

from __future__ import annotations

import pytest

from run_experiment.jobscripts.edits import Rendered, parse


def script(account: str, rate: str) -> Rendered:
    head = f"#!/bin/bash\n#SBATCH --account={account}\n\nmodule load cuda\n"
    return Rendered(head, f"set -euo pipefail\npython train.py --lr {rate}\n")


def config(rate: str) -> Rendered:
    return Rendered("", f"lr: {rate}\n")


def again(text: str, *rendered: Rendered) -> str:
    """A file after it was rendered anew several times."""
    for new in rendered:
        text = parse(text).updated(new) or text
    return text


def test_marker_is_below_the_first_line() -> None:
    lines = script("a", "1").text.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert lines[1].startswith("# Rendered by run-experiment (head ")
    assert config("1").text.splitlines()[1:] == ["lr: 1"]


@pytest.mark.parametrize("rendered", [script("a", "1"), config("1")], ids=["script", "config"])
def test_untouched_file_is_known_as_such(rendered: Rendered) -> None:
    existing = parse(rendered.text)
    assert existing.parts == rendered
    assert not existing.own_head
    assert not existing.own_commands
    assert existing.commands_hash is None
    assert existing.updated(rendered) is None


def test_untouched_file_follows() -> None:
    assert again(script("a", "1").text, script("a", "2"), script("b", "3")) == script("b", "3").text
    assert again(config("1").text, config("2")) == config("2").text


def test_edited_head_is_kept_while_commands_follow() -> None:
    edited = script("a", "1").text.replace("--account=a", "--account=mine\n#SBATCH --mem=80G")
    result = again(edited, script("b", "1"), script("b", "2"), script("c", "3"))
    bare = [line for line in result.splitlines() if "Rendered by" not in line]
    assert bare == [
        "#!/bin/bash",
        "#SBATCH --account=mine",
        "#SBATCH --mem=80G",
        "",
        "module load cuda",
        "set -euo pipefail",
        "python train.py --lr 3",
    ]
    existing = parse(result)
    assert existing.own_head
    assert not existing.own_commands
    assert existing.commands_hash is None


def test_edited_commands_are_kept_while_the_head_follows() -> None:
    edited = script("a", "1").text.replace("--lr 1", "--lr 1 --extra")
    result = again(edited, script("a", "2"), script("b", "3"), script("c", "4"))
    assert "#SBATCH --account=c\n" in result
    assert result.endswith("set -euo pipefail\npython train.py --lr 1 --extra\n")
    existing = parse(result)
    assert not existing.own_head
    assert existing.own_commands
    assert existing.commands_hash == parse(edited).commands_hash


def test_file_with_both_parts_edited_stays_as_it_is() -> None:
    edited = script("a", "1").text.replace("=a", "=mine").replace("--lr 1", "--lr 9")
    assert again(edited, script("b", "2"), script("c", "3")) == edited


def test_taken_back_edit_follows_again() -> None:
    edited = script("a", "1").text.replace("=a", "=mine")
    back = again(edited, script("a", "2")).replace("=mine", "=a")
    assert again(back, script("b", "3")) == script("b", "3").text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "#!/bin/bash\n#SBATCH --time=1:00:00\nset -euo pipefail\npython train.py\n",
        "#!/bin/bash\nLR=3\npython train.py --lr $LR\n",
        script("a", "1").text.replace("set -euo pipefail\n", "set -e\n"),
    ],
    ids=["empty", "with the line where commands begin", "without", "rendered, and that line removed"],
)
def test_foreign_file_is_never_touched(text: str) -> None:
    existing = parse(text)
    assert existing.own_head
    assert existing.own_commands
    assert again(text, script("b", "2"), config("3")) == text


FOREIGN = """#!/bin/bash
#SBATCH --time=1:00:00
LR=3
module load cuda
source activate torch
set -euo pipefail
# Train.
conda run -n torch python train.py --lr $LR
"""

SITE_EDITS = {
    "time": ("1:00:00", "2:00:00"),
    "module": ("module load cuda", "module purge\nml cuda/12\n"),
    "environment": ("source activate torch", "  . venv/bin/activate"),
    "conda": ("source activate torch", "conda activate torch"),
    "comment": ("# Train.", "# Train it."),
    "white space": ("set -euo pipefail", "\nset -euo pipefail  "),
}
OTHER_EDITS = {
    "variable above the commands": ("LR=3", "LR=4"),
    "command in a conda environment": ("--lr $LR", "--lr 1"),
    "command behind another": ("source activate torch", "source activate torch && export SEED=1"),
    "export": ("# Train.", "export SEED=1"),
}


@pytest.mark.parametrize(("old", "new"), SITE_EDITS.values(), ids=SITE_EDITS)
def test_edit_of_site_facts_changes_no_result(old: str, new: str) -> None:
    assert old in FOREIGN
    assert parse(FOREIGN.replace(old, new)).commands_hash == parse(FOREIGN).commands_hash


@pytest.mark.parametrize(("old", "new"), OTHER_EDITS.values(), ids=OTHER_EDITS)
def test_edit_of_what_is_computed_is_noticed(old: str, new: str) -> None:
    assert old in FOREIGN
    assert parse(FOREIGN.replace(old, new)).commands_hash != parse(FOREIGN).commands_hash
