"""`run-experiment results --compare`: two runs, or two experiments, compared as `results/comparisons.csv` compares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from run_experiment.common import paths
from run_experiment.common.errors import CommandError
from run_experiment.common.suggestions import did_you_mean
from run_experiment.common.text import counted, harmless
from run_experiment.planning.results_state import Records
from run_experiment.results.analysis import statistics
from run_experiment.results.analysis.analyse import Analysis, analyse
from run_experiment.results.analysis.comparisons import Comparison, compare
from run_experiment.results.analysis.scores import Cell, Score
from run_experiment.results.collect import read_records
from run_experiment.results.markdown import markdown_table
from run_experiment.trainers.known import trainer_of

_HEADER = ("task", "epoch", "A", "B", "n", "delta", "95 % interval", "wins", "losses", "p", "corrected", "method")


@dataclass(frozen=True)
class Side:
    """One of the two that are compared: a run of an experiment, or all of its runs (`run` is None)."""

    records: Records
    analysis: Analysis
    run: str | None

    @property
    def name(self) -> str:
        """What it is, for a reader."""
        folder = str(self.records.experiment.folder)
        return f"all runs of {folder}" if self.run is None else f"{self.run} of {folder}"

    def runs(self) -> list[str]:
        """Names of the runs."""
        return [one.name for one in self.records.experiment.runs] if self.run is None else [self.run]

    def cell(self, task: str, run: str, epoch: int | None) -> Cell | None:
        """The evaluation after an epoch, else the one of a model that was not trained."""
        cells = self.analysis.cells
        return cells.get((task, run, epoch)) or cells.get((task, run, None))

    def trainer(self, run: str) -> str:
        """Name of the trainer that trained a run; empty if none did."""
        record = self.records.trainings().get(run)
        return trainer_of(record.config).name if record else ""


@dataclass(frozen=True)
class Pair:
    """Two evaluations and their comparison; one of them may be missing. `trainers` says that theirs differ."""

    task: str
    epoch: int | None
    a: Score | None
    b: Score | None
    runs: str
    found: Comparison | None
    trainers: str = ""


def comparison_text(folder: Path, names: Sequence[str]) -> str:
    """The comparison of two runs or experiments, by name or folder. Raises CommandError and InputError."""
    a, b = sides(folder, names)
    pairs = corrected(list(_pairs(a, b)))
    lines = [f"A: {a.name}", f"B: {b.name}", ""]
    if not pairs:
        return "\n".join([*lines, "Nothing to compare: no evaluation of A or B is done."])
    several = a.run is None and b.run is None
    header = ["run", *_HEADER] if several else list(_HEADER)
    rows = [[pair.runs, *_row(pair)] if several else _row(pair) for pair in pairs]
    return harmless("\n".join([*lines, markdown_table(header, rows), "", *_notes(pairs)]))


def sides(folder: Path, names: Sequence[str]) -> tuple[Side, Side]:
    """What two names stand for: each is a run of the experiment in `folder`, or the folder of an experiment.

    Beside a folder, a run's name stands for the run of that name in both.
    """
    here = read_records(folder)
    runs = [one.name for one in here.experiment.runs]
    first, second = (_side(here, runs, name) for name in names)
    if first.records is second.records:
        return first, second
    both = first.run or second.run
    for side in (first, second):
        known = [one.name for one in side.records.experiment.runs]
        if both and both not in known:
            raise CommandError(f"{side.records.experiment.folder} has no run {both}{_choices(both, known)}")
    return replace(first, run=both), replace(second, run=both)


def _side(here: Records, runs: Sequence[str], name: str) -> Side:
    if name in runs:
        return Side(here, analyse(here), name)
    folder = Path(name).resolve()
    if folder == here.experiment.folder:
        return Side(here, analyse(here), None)
    if not (folder / paths.SUMMARY).is_file():
        text = f"{name}: neither a run of {here.experiment.folder} nor the folder of an experiment"
        raise CommandError(f"{text}{_choices(name, runs)}")
    there = read_records(folder)
    return Side(there, analyse(there), None)


def _choices(name: str, runs: Sequence[str]) -> str:
    """What may be meant, and all that there is."""
    meant = did_you_mean(name, runs)
    return meant if meant.startswith("; known") else f"{meant}\nRuns: {', '.join(runs)}"


def _pairs(a: Side, b: Side) -> Iterator[Pair]:
    """Every evaluation of A or B with its counterpart, in the order of the summaries."""
    there = b.runs()
    runs = [(one, one) for one in a.runs() if one in there] if a.run is None and b.run is None else [_only(a, b)]
    tasks = dict.fromkeys(task.name for side in (a, b) for task in side.records.experiment.tasks)
    for task in tasks:
        for one, other in runs:
            for epoch in _epochs(task, (a, one), (b, other)):
                yield _pair(task, epoch, (a, one), (b, other))


def _only(a: Side, b: Side) -> tuple[str, str]:
    return str(a.run or b.run), str(b.run or a.run)


def _epochs(task: str, *runs: tuple[Side, str]) -> list[int | None]:
    """Epochs after which one of the runs was evaluated; None only if neither was after any."""
    found = {epoch for side, run in runs for name, of, epoch in side.analysis.cells if (name, of) == (task, run)}
    numbers = sorted(epoch for epoch in found if epoch is not None)
    return [*numbers] or [*found]


def _pair(task: str, epoch: int | None, a: tuple[Side, str], b: tuple[Side, str]) -> Pair:
    one, other = (side.cell(task, run, epoch) for side, run in (a, b))
    known = (one.score if one else None, other.score if other else None)
    found = _compared(one, other) if one and other else None
    return Pair(task, epoch, *known, a[1], found, _other_trainers(*(side.trainer(run) for side, run in (a, b))))


def _other_trainers(one: str, other: str) -> str:
    """That two runs were trained by different trainers; empty if not, or if one was not trained."""
    return f"trained by {one} and {other}" if one and other and one != other else ""


def _compared(one: Cell, other: Cell) -> Comparison:
    """Compare two evaluations, which in two experiments may have different metrics."""
    found = compare(one, other)
    if one.score.metric == other.score.metric:
        return found
    why = f"A has {one.score.metric or 'no metric'}, B {other.score.metric or 'no metric'}"
    untested = replace(found, paired=False, why=why, delta=None, low=None, high=None, p=None, smallest=None)
    return replace(untested, wins=0, losses=0, method="")


def corrected(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with p-values corrected for the number of all of them (Holm)."""
    values = statistics.holm([pair.found.p if pair.found else None for pair in pairs])
    return [
        replace(pair, found=replace(pair.found, p_corrected=p)) if pair.found else pair
        for pair, p in zip(pairs, values, strict=True)
    ]


def _row(pair: Pair) -> list[str]:
    epoch = "" if pair.epoch is None else str(pair.epoch)
    row = [pair.task, epoch, _value(pair.a), _value(pair.b)]
    found = pair.found
    if found is None:
        return [*row, *[""] * 7, f"not compared: {'B' if pair.a else 'A'} has no result"]
    if not found.paired:
        return [*row, "", _number(found.delta, "+"), *[""] * 5, _marked(pair, f"not paired: {found.why}")]
    interval = "" if found.low is None else f"[{_number(found.low, '+')}, {_number(found.high, '+')}]"
    method = _marked(pair, "; ".join(filter(None, [found.method, found.why])))
    tested = [str(found.wins), str(found.losses), _p(found.p), _p(found.p_corrected), method]
    return [*row, str(found.n), _number(found.delta, "+"), interval, *tested]


def _marked(pair: Pair, text: str) -> str:
    return "; ".join(filter(None, [text, pair.trainers]))


def _value(score: Score | None) -> str:
    return _number(score.value) if score else ""


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.3f}"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _notes(pairs: Sequence[Pair]) -> list[str]:
    """What the columns are."""
    tests = sum(pair.found is not None and pair.found.p is not None for pair in pairs)
    metrics = {pair.task: pair.a or pair.b for pair in pairs}
    shown = [_metric(task, score) for task, score in metrics.items() if score and score.metric]
    lines = [f"Metrics: {'; '.join(shown)}."] if shown else []
    lines.append("delta is A minus B, on the samples that both scored; wins are samples on which A is better.")
    return [*lines, f"{counted(tests, 'p-value')}, corrected together (Holm)." if tests else "Nothing was tested."]


def _metric(task: str, score: Score) -> str:
    return f"{task}: {score.metric}{f' ({score.better} is better)' if score.better else ''}"
