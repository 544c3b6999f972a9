"""Which lines of a log say why its script failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from run_experiment.machine.processes import last_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n\nIndexError: out of range\n \n", ["a", "IndexError: out of range"]),
        # As wandb ends after a script that failed, and `/usr/bin/time -p inspect eval`.
        ("boom\n\x1b[1;34mwandb\x1b[0m: \n\x1b[1;34mwandb\x1b[0m: Find logs at: \x1b[1;35mlogs\x1b[0m\n", ["boom"]),
        ("boom\nreal 3.11\nuser 2.08\nsys 1.27\n", ["boom"]),
        # inspect-ai ends what it shows with a line of spaces, and none that is broken.
        ("boom\n  \n    real 3.11\nuser 2.08\nsys 1.27\n", ["boom"]),
        ("boom\n\nreal\t0m0.003s\nuser\t0m0.000s\nsys\t0m0.001s\n", ["boom"]),
        ("wandb: is offline\n\x1b[31mboom\x1b[0m 5%\r10%\n", ["wandb: is offline", "boom 5%", "10%"]),
        # A bar is written anew for each step; its last state says where a training was.
        (
            "loading\n 17%|█▋        | 1/6 [00:00<00:01,  4.65it/s]\r1|2|Loss: 5.7:  33%|███▎      | 2/6 [00:00]\r"
            "1|3|Loss: nan:  50%|█████     | 3/6 [00:00<00:00,  4.65it/s]\nthe loss is NaN at step 3\n",
            [
                "loading",
                "1|3|Loss: nan:  50%|█████     | 3/6 [00:00<00:00,  4.65it/s]",
                "the loss is NaN at step 3",
            ],
        ),
        ("wandb: ERROR no key\n", ["wandb: ERROR no key"]),
        ("", []),
    ],
)
def test_what_programs_say_of_themselves_afterwards_is_left_out(tmp_path: Path, text: str, expected: list[str]) -> None:
    (tmp_path / "log").write_text(text)
    assert last_lines(tmp_path / "log") == expected
