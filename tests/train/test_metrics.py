"""The training curve's file: written row by row, read back, also from a killed training."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from run_experiment.finetuning.metrics import (
    COLUMNS,
    DivergedError,
    MetricsLogger,
    final_losses,
    read_losses,
    read_metrics,
)


def started(folder: Path, *, epoch: int = 0, **arguments: Any) -> MetricsLogger:
    logger = MetricsLogger(str(folder), **arguments)
    logger.log_config({})
    logger.begin_epoch(epoch)
    return logger


def test_rows_are_on_disk_at_once(tmp_path: Path) -> None:
    logger = started(tmp_path)
    logger.begin_epoch(3)
    logger.log_dict({"loss": torch.tensor(0.5), "lr": 1e-3, "tokens_per_second_per_gpu": 7, "unknown": 1}, step=31)
    frame = read_metrics(tmp_path / "metrics.csv")
    logger.close()
    assert tuple(frame.columns) == COLUMNS
    row = frame.iloc[0].dropna().to_dict()
    assert row == {"epoch": 3, "step": 31, "loss": 0.5, "lr": 1e-3, "tokens_per_second": 7}


def test_gpu_memory_is_kept(tmp_path: Path) -> None:
    logger = started(tmp_path)
    logger.log_dict({"loss": 1, "peak_memory_active": 1.5, "peak_memory_alloc": 2, "peak_memory_reserved": 3}, step=1)
    assert read_metrics(tmp_path / "metrics.csv")["peak_memory_gib"].tolist() == [1.5]


def test_final_losses(tmp_path: Path) -> None:
    logger = started(tmp_path)
    for epoch, losses, validation in ((0, (4.0, 2.0), 3.0), (1, (1.0, 0.5), 0.25)):
        logger.begin_epoch(epoch)
        for loss in losses:
            logger.log("loss", loss, step=1)
        logger.log("validation_loss", validation, step=1)
    assert final_losses(tmp_path / "metrics.csv") == {"train_loss": 0.75, "validation_loss": 0.25}
    found = read_losses(tmp_path / "metrics.csv")
    assert found.train == [(1, 4.0), (1, 2.0), (1, 1.0), (1, 0.5)]
    assert found.validation == [(0, 1, 3.0), (1, 1, 0.25)]


def test_nothing_trained_yet(tmp_path: Path) -> None:
    started(tmp_path)
    assert read_metrics(tmp_path / "metrics.csv").empty
    assert final_losses(tmp_path / "metrics.csv") == {"train_loss": None, "validation_loss": None}


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    started(tmp_path).log("loss", 2.0, step=1)
    path = tmp_path / "metrics.csv"
    path.write_text(path.read_text() + "0,2,0.")
    assert read_metrics(path)["loss"].tolist() == [2.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["loss", "validation_loss", "grad_norm"])
def test_a_value_that_is_not_finite_is_written_and_ends_the_training(tmp_path: Path, name: str, value: float) -> None:
    logger = started(tmp_path)
    logger.log("loss", 2.0, step=1)
    with pytest.raises(DivergedError) as caught:
        logger.log(name, torch.tensor(value), step=2)
    what = {"loss": "loss", "validation_loss": "validation loss", "grad_norm": "gradient norm"}[name]
    number = "NaN" if math.isnan(value) else "infinite"
    expected = f"the training diverged: the {what} is {number} at step 2 of 5 (epoch 0): lower lr"
    assert caught.value.explained(5).startswith(expected)
    assert read_metrics(tmp_path / "metrics.csv")["step"].tolist() == [1, 2]


def test_a_first_loss_that_is_not_finite_is_the_base_model_s(tmp_path: Path) -> None:
    with pytest.raises(DivergedError) as caught:
        started(tmp_path).log("loss", math.nan, step=1)
    assert "at step 1 of 9 (epoch 0): check the base model's weights" in caught.value.explained(9)


def metrics(path: Path, *rows: str) -> Path:
    """A metrics file with epoch, step, loss and validation loss, as other versions and trainers leave it."""
    path.write_text("\n".join(["epoch,step,loss,validation_loss", *rows, ""]))
    return path


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_final_loss_never_leaves_out_steps_that_are_not_finite(tmp_path: Path, value: str) -> None:
    path = metrics(
        tmp_path / "metrics.csv", "0,1,5.8,", f"0,2,{value},", "0,2,,1.5", f"1,3,2.0,\n1,4,{value},", f"1,4,,{value}"
    )
    losses = final_losses(path)
    assert [str(loss) for loss in losses.values()] == [value, value]


def test_an_empty_cell_is_no_loss(tmp_path: Path) -> None:
    losses = final_losses(metrics(tmp_path / "metrics.csv", "0,1,4.0,", "0,1,,0.5", "0,2,2.0,"))
    assert losses == {"train_loss": 3.0, "validation_loss": 0.5}


def test_resuming_goes_on_below_and_training_anew_begins_anew(tmp_path: Path) -> None:
    started(tmp_path).log("loss", 2.0, step=1)
    started(tmp_path, epoch=1).log("loss", 1.0, step=2)
    assert read_metrics(tmp_path / "metrics.csv")["loss"].tolist() == [2.0, 1.0]
    started(tmp_path).log("loss", 3.0, step=1)
    assert read_metrics(tmp_path / "metrics.csv")["loss"].tolist() == [3.0]


@pytest.mark.parametrize("torn", [b"", b"2,5,0.", b"0"])
def test_resuming_cuts_what_is_trained_again_and_a_torn_line(tmp_path: Path, torn: bytes) -> None:
    logger, path, texts = started(tmp_path), tmp_path / "metrics.csv", []
    for epoch in range(3):
        logger.begin_epoch(epoch)
        texts.append(path.read_bytes())
        logger.log_dict({"loss": 1 / 3, "lr": 0.1}, step=2 * epoch + 1)
        logger.log("validation_loss", 0.1 + 0.2, step=2 * epoch + 1)
    path.write_bytes(path.read_bytes() + torn)
    for epoch in (2, 1, 0):
        started(tmp_path, epoch=epoch)
        assert path.read_bytes() == texts[epoch]


@pytest.mark.parametrize("content", [b"", b"\0" * 200, b"\xff", b"other,columns\r\n0,1\r\n", b"epoch,step"])
def test_resuming_on_a_file_of_another_form_begins_it_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    started(tmp_path, epoch=3).log("loss", 1.0, step=7)
    assert read_metrics(tmp_path / "metrics.csv")["step"].tolist() == [7]


def test_missing_wandb_is_said_once_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with caplog.at_level(logging.WARNING):
        logger = started(tmp_path, wandb_project=["a$", "{b}"])
        logger.log("loss", 2.0, step=1)
        logger.log("loss", 1.0, step=2)
        logger.close()
    assert [record.message.split(":")[0] for record in caplog.records] == ["No Weights & Biases log of this training"]
    assert len(read_metrics(tmp_path / "metrics.csv")) == 2
