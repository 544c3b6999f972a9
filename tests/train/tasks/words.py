"""Tasks of the evaluation tests."""

from __future__ import annotations

from typing import Any

from beside import FIELD
from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import FieldSpec, MemoryDataset, Sample, csv_dataset, example_dataset, hf_dataset
from inspect_ai.model import get_model
from inspect_ai.scorer import Score, Scorer, Target, accuracy, includes, match, mean, model_graded_qa, scorer, stderr
from inspect_ai.solver import TaskState, generate


@scorer(metrics={"length": [mean(), stderr()], "share": [mean()]})
def measures() -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        return Score(value={"length": len(state.output.completion), "share": float("nan")})

    return score


@scorer(metrics=[accuracy()])
def broken() -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        if state.sample_id == 2:
            raise RuntimeError("the scorer broke")
        return Score(value=1)

    return score


@task
def words(data_path: str, prompt: str = "{input}", split: str = "test", seed: int | None = None) -> Task:
    # A solver's template would change the prompt's own braces.
    def sample(row: dict[str, Any]) -> Sample:
        return Sample(input=prompt.replace("{input}", row["input"]), target=row[FIELD])

    shuffle: dict[str, Any] = {} if seed is None else {"shuffle": True, "seed": seed}
    return Task(
        dataset=hf_dataset("json", "train", sample_fields=sample, data_files=data_path, field=split, **shuffle),
        solver=generate(),
        scorer=[match(), match(location="any"), measures()],
    )


@task
def broken_words(data_path: str) -> Task:
    return Task(dataset=csv_dataset(data_path, auto_id=True), solver=generate(), scorer=broken())


@task
def twice() -> Task:
    return Task(
        dataset=example_dataset("security_guide")[:2],
        solver=generate(),
        scorer=includes(),
        epochs=Epochs(2, ["mean", "at_least_1"]),
    )


@task
def beside_the_script() -> Task:
    return Task(dataset=csv_dataset("own.csv"), model=get_model(), solver=generate(), scorer=match())


@task(name="another name")
def named() -> Task:
    return Task(dataset=csv_dataset("own.csv"))


@task
def of_another_model() -> Task:
    return Task(dataset=csv_dataset("own.csv"), model="openai/gpt", scorer=match())


@task
def without_targets() -> Task:
    samples = [Sample(input="a", target=target) for target in ("", [" "], "A")]
    return Task(dataset=MemoryDataset(samples), scorer=[match(), includes()])


@task
def without_samples(data_path: str) -> Task:
    return Task(dataset=hf_dataset("json", "train", data_files=data_path, field="test", limit=0), scorer=match())


@task
def of_the_hub() -> Task:
    fields = FieldSpec(input="input", target="output")
    return Task(dataset=hf_dataset("acme/words", split="test", sample_fields=fields), scorer=match())


@task
def of_the_hub_without_inspect() -> Task:
    from datasets import load_dataset

    rows = load_dataset("acme/words", split="test")
    return Task(dataset=MemoryDataset([Sample(input=row["input"]) for row in rows]), scorer=match())


@task
def judged_in_its_body(data_path: str, judge: str) -> Task:
    arguments = {} if judge.startswith("mockllm") else {"model_path": "/nowhere", "device": "cuda"}
    model = get_model(judge, **arguments)
    assert str(model) == judge
    data = hf_dataset("json", data_files=data_path, field="test", split="train", sample_fields=FieldSpec(input="input"))
    return Task(dataset=data, scorer=model_graded_qa(model=model))


@task
def numbered(ids: list[Any]) -> Task:
    return Task(dataset=MemoryDataset([Sample(input=f"word {place}", id=one) for place, one in enumerate(ids)]))
