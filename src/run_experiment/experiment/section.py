"""What all sections of `experiment_summary.yaml` have in common, and the kinds of values that many of them hold."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, model_validator

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def _number(value: Any) -> Any:
    """Take `1e-5` as the number it means: YAML 1.1 reads it as text."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return value


def as_list(value: Any) -> Any:
    """Take a single value for a list of one."""
    return value if value is None or isinstance(value, list) else [value]


Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
# numpy, which torchtune seeds too, takes 32 bits.
Seed = Annotated[NonNegativeInt, Field(le=2**32 - 1)]
# The bounds are inside of the validator: the JSON schema has them then.
Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_number)]
PositiveNumber = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_number)]
NonNegativeNumber = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_number)]
Probability = Annotated[float, Field(ge=0, lt=1), BeforeValidator(_number)]


class Section(BaseModel):
    """A mapping of the file; keys that it does not have are reported by the reader."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    # Whether other tools put keys of their own here.
    shared: ClassVar[bool] = False

    @model_validator(mode="before")
    @classmethod
    def _empty_sections_are_absent(cls, value: Any) -> Any:
        """Take `runs[].parameters:` with nothing below it for an absent one."""
        if not isinstance(value, dict):
            return value
        optional = {
            key for name in cls.model_fields if cls.model_fields[name].default_factory for key in cls.keys(name)
        }
        return {key: item for key, item in value.items() if item is not None or key not in optional}

    @classmethod
    def keys(cls, field: str) -> tuple[str, ...]:
        """Keys that a field is read from: its name, then older ones."""
        alias = cls.model_fields[field].validation_alias
        return tuple(str(choice) for choice in alias.choices) if isinstance(alias, AliasChoices) else (field,)

    @classmethod
    def all_keys(cls) -> tuple[str, ...]:
        """All keys of the section, older names too."""
        return tuple(key for field in cls.model_fields for key in cls.keys(field))
