"""Whether the model answers with the word in capitals."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample, hf_dataset
from inspect_ai.scorer import match
from inspect_ai.solver import generate, system_message


@task
def shout(data_path: str, prompt: str = "{input}", system_prompt: str = "", split: str = "test") -> Task:
    def sample(row: dict) -> Sample:
        return Sample(input=prompt.format(input=row["input"]), target=row["output"])

    data = hf_dataset("json", data_files=data_path, field=split, split="train", sample_fields=sample)
    system = [system_message(system_prompt)] if system_prompt else []
    return Task(dataset=data, solver=[*system, generate()], scorer=match(location="exact"))
