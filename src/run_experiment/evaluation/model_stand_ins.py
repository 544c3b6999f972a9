"""Stand-ins for the models that a task gets in its body, such as a judge: reading its data needs no weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# They load nothing themselves.
_LIGHT = ("none", "mockllm")


@contextmanager
def model_stand_ins() -> Iterator[None]:
    """While it lasts, inspect-ai's `get_model` loads no model: what it returns has the name, and answers nothing."""
    from inspect_ai._util.registry import registry_info, registry_unqualified_name
    from inspect_ai.model import _model

    names = vars(_model)
    find = names["registry_find"]

    def find_stand_ins(predicate: Any) -> list[Any]:
        return [
            found
            if (info := registry_info(found)).type != "modelapi" or registry_unqualified_name(info) in _LIGHT
            else _stand_in(found)
            for found in find(predicate)
        ]

    names["registry_find"] = find_stand_ins
    try:
        yield
    finally:
        names["registry_find"] = find


def _stand_in(api: Any) -> Any:
    """A model API of the same name that takes any arguments."""
    from inspect_ai._util.registry import registry_info, set_registry_info
    from inspect_ai.model._providers.none import NoModel

    def make(model_name: str, **_: Any) -> NoModel:
        model = NoModel(model_name)
        set_registry_info(model, registry_info(api))
        return model

    return make
