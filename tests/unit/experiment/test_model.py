"""What a run is given: its own parameters, else those of all runs."""

from __future__ import annotations

import pytest

from run_experiment.experiment.schema import ControlsSection, Parameters


def test_own_parameters_come_before_those_of_all_runs() -> None:
    controls = ControlsSection(epochs=3, lr=0.1, prompt="Say: {input}")
    merged = Parameters(epochs=1, lr=3e-4, checkpoint_path="elsewhere").over(controls)
    # Its own counts where it is the default, too.
    assert (merged.epochs, merged.lr, merged.prompt) == (1, 3e-4, "Say: {input}")
    assert set(merged.model_dump()) == set(ControlsSection.model_fields)


@pytest.mark.parametrize(
    ("controls", "own", "scaling"),
    [
        ({}, {}, 16.0),
        ({"lora_rank": 4}, {}, 8.0),
        ({"lora_alpha": 5}, {"lora_rank": 4}, 5.0),
        ({}, {"lora_alpha": 1}, 1.0),
    ],
)
def test_scaling_is_twice_the_rank_unless_given(
    controls: dict[str, float], own: dict[str, float], scaling: float
) -> None:
    merged = Parameters.model_validate(own).over(ControlsSection.model_validate(controls))
    assert merged.lora_alpha == merged.scaling == scaling
