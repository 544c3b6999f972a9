"""The options by which a script asks for GPUs and other generic resources, as overrides change them.

A script keeps its way of asking: `--gres=gpu:2` with another number is `--gres=gpu:3`, not `--gpus=3`.
"""

from __future__ import annotations

from collections.abc import Mapping

from run_experiment.jobscripts.sbatch_lines import GPUS, Option

# Resources of Snakemake: a number, a type, and a text as for `--gres`.
GPU_RESOURCES = frozenset({"gpu", "gpu_model", "gres"})

Values = Mapping[str, int | str]


def gpu_options(script: list[Option], values: Values) -> list[Option]:
    """The script's options for generic resources, changed; none if nothing about them is overridden."""
    if not values.keys() & GPU_RESOURCES:
        return []
    asked = {option.name: option.value for option in script if option.name in GPUS}
    if gres := str(values.get("gres", "")):
        asked = _with_gres(asked, gres)
    changed = {name: _changed(name, value, values) for name, value in asked.items()}
    if "gpu" in values and not any(_asks_for_gpus(name, value) for name, value in asked.items()):
        changed["gpus"] = _typed(values.get("gpu_model", ""), values["gpu"])
    return [Option(name, value, "", 0) for name, value in changed.items()]


def _with_gres(asked: Mapping[str, str], gres: str) -> dict[str, str]:
    """The options with other generic resources, which replace those of the same kind."""
    new = {_kind(entry) for entry in gres.split(",")}
    kept = [entry for entry in asked.get("gres", "").split(",") if entry and _kind(entry) not in new]
    others = {name: value for name, value in asked.items() if name == "gres" or "gpu" not in new}
    return {**others, "gres": ",".join([*kept, gres])}


def _changed(name: str, value: str, values: Values) -> str:
    """The value of an option with the number and type of GPUs that override it."""
    if name != "gres":
        return _gpus(value, values)
    entries = value.split(",")
    return ",".join(f"gpu:{_gpus(entry[4:], values)}" if _kind(entry) == "gpu" else entry for entry in entries)


def _gpus(asked: str, values: Values) -> str:
    """`type:number`, either of which may be missing, with the values that override it."""
    parts = asked.split(":") if asked else []
    number = parts.pop() if parts and parts[-1].isdecimal() else "1"
    return _typed(values.get("gpu_model", ":".join(parts)), values.get("gpu", number))


def _typed(model: int | str, number: int | str) -> str:
    return f"{model}:{number}" if model else str(number)


def _asks_for_gpus(name: str, value: str) -> bool:
    return name != "gres" or "gpu" in map(_kind, value.split(","))


def _kind(entry: str) -> str:
    """What an entry of `--gres` is for: `gpu` of `gpu:a100:2`."""
    return entry.partition(":")[0]
