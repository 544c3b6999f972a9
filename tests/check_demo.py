"""What the demo left: five evaluations, and a model that learned to capitalise."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

EVALS = Path(__file__).parent.parent / "examples/capitalization/results/evals.csv"


def main() -> int:
    """Print the results; exit status 1 where they are not what the README says."""
    evals = pd.read_csv(EVALS)
    print(evals.to_string())
    accuracy = evals.groupby("type")["match/accuracy"]
    learned = accuracy.max()["control"] <= 0.3 and accuracy.max()["fine-tuned"] >= 0.6
    return 0 if len(evals) == 5 and (evals["samples"] == 50).all() and learned else 1


if __name__ == "__main__":
    sys.exit(main())
