"""What the demo left: five evaluations, a model that learned to capitalise, and what all was made with.

python tests/check_demo.py [FOLDER]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

DEMO = Path(__file__).parent.parent / "examples/capitalization"


def main(results: Path) -> int:
    """Print the results; exit status 1 if they are not what the README says."""
    evals = pd.read_csv(results / "evals.csv")
    print(evals.to_string())
    accuracy = evals.groupby("type")["match/accuracy"]
    learned = accuracy.max()["control"] <= 0.3 and accuracy.max()["fine-tuned"] >= 0.6
    # Nothing is of other versions than those installed.
    same = evals["versions"].isna().all() and _told(results)
    return 0 if len(evals) == 5 and (evals["samples"] == 50).all() and learned and same else 1


def _told(results: Path) -> bool:
    """Whether every result says what it was made with."""
    told = json.loads((results / "provenance.json").read_text(encoding="utf-8"))
    made = [*told["trainings"].values(), *told["evaluations"].values()]
    return len(told["evaluations"]) == 5 and all(one["versions"] and one["python"] and one["host"] for one in made)


if __name__ == "__main__":
    sys.exit(main((Path(sys.argv[1]) if sys.argv[1:] else DEMO) / "results"))
