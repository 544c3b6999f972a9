"""The task: say the given word with a capital letter.

An ordinary inspect-ai task: it also runs by hand, with
`inspect eval capitalization.py@capitalization -T data_path=data/words.json --model …`.
"""

from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import Sample, hf_dataset
from inspect_ai.scorer import match
from inspect_ai.solver import generate, system_message


@task
def capitalization(data_path: str, prompt: str = "{input}", system_prompt: str = "", split: str = "test") -> Task:
    """Ask for every word of a split; the answer has to be that word alone, capitalised."""

    def record_to_sample(record: dict[str, Any]) -> Sample:
        return Sample(input=prompt.format(input=record["input"]), target=record["output"])

    dataset = hf_dataset(
        path="json",
        data_files=data_path,
        field=split,
        split="train",  # what the JSON loader calls the rows of `field`
        sample_fields=record_to_sample,
    )
    return Task(
        dataset=dataset,
        solver=[system_message(system_prompt), generate()] if system_prompt else generate(),
        # "exact" passes over spaces and punctuation around the word, and over nothing else.
        scorer=match(location="exact", ignore_case=False),
    )
