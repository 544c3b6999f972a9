"""SFTTrainer with what experiments need besides: our order of data, curve, epochs and states (train side)."""

from __future__ import annotations

import json
import math
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Sampler
from transformers import AutoConfig, Trainer, TrainerCallback
from trl import SFTTrainer

from run_experiment.checkpoints.verify import TOKENIZER
from run_experiment.common.paths import ADAPTER_CONFIG, GENERATION_CONFIG
from run_experiment.finetuning.encoder import IGNORE_INDEX, Sample, begin_packs
from run_experiment.finetuning.metrics import DivergedError, MetricsLogger
from run_experiment.finetuning.resume_state import published_epoch
from run_experiment.inputs.data_files import DataError
from run_experiment.trainers import process_group
from run_experiment.trainers.trl_state import finish_state, state_folder

Batch = dict[str, torch.Tensor]


class EpochSampler(Sampler[int]):
    """Order of the samples in an epoch: by seed and epoch, whatever was drawn before, and only whole steps of it."""

    def __init__(self, size: int, used: int, seed: int, shuffle: bool) -> None:
        self._size, self._used, self._seed, self._shuffle = size, used, seed, shuffle
        self.epoch = 0

    def __len__(self) -> int:
        """Samples of an epoch."""
        return self._used

    def __iter__(self) -> Iterator[int]:
        """Indices of the samples."""
        generator = torch.Generator().manual_seed(self._seed + self.epoch)
        order = torch.randperm(self._size, generator=generator).tolist() if self._shuffle else range(self._size)
        return iter(order[: self._used])


def packs(samples: Sequence[Sample], size: int) -> list[Sample]:
    """Samples in their order in packs of at most `size` tokens; `position_ids` begin anew with each sample.

    No sample's first label is counted, so none is predicted from the sample before it.
    """
    made: list[Sample] = []
    lengths = [len(sample["input_ids"]) for sample in samples]
    for sample, length, begins in zip(samples, lengths, begin_packs(lengths, size), strict=True):
        placed = {**sample, "position_ids": list(range(length))}
        if begins:
            made.append(placed)
        else:
            made[-1] = {name: made[-1][name] + placed[name] for name in placed}
    return made


@torch.no_grad()
def require_packs(model: Any) -> None:
    """Raise DataError if samples of a pack see each other in a model.

    transformers hides them by their positions, but not in every architecture, and does not say where.
    """
    training, positions = model.training, torch.arange(8, device=model.device)
    model.eval()
    # The same sample after two others, in one shape, so that its numbers are the same if it does not see them.
    found = [_after(model, before, positions) for before in (positions, positions.flip(0))]
    model.train(training)
    first, second = found
    if first is None or second is None or not torch.allclose(first, second, rtol=1e-4, atol=1e-5):
        kind = model.config.model_type
        raise DataError(f"samples of a pack would see each other in the architecture {kind}: leave packed out")


def _after(model: Any, before: torch.Tensor, sample: torch.Tensor) -> torch.Tensor | None:
    """Logits of a sample in a pack behind another one; None if a model takes no positions."""
    ids, positions = (torch.cat(pair)[None] for pair in ((before, sample), (sample, sample)))
    try:
        logits: torch.Tensor = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    except TypeError:
        return None
    return logits[:, len(before) :].float()


class Collator:
    """Makes batches of samples or packs, filled up with a token that no loss counts."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """A batch with TRL's names."""
        batch = {
            "input_ids": self._padded(samples, "input_ids", self._pad_id),
            "labels": self._padded(samples, "labels", IGNORE_INDEX),
        }
        if "weights" in samples[0]:
            batch["weights"] = self._padded(samples, "weights", 0)
        if "position_ids" in samples[0]:
            # Without a mask, with which transformers would not look at the positions.
            return {**batch, "position_ids": self._padded(samples, "position_ids", 0)}
        mask = [torch.ones(len(one["input_ids"])).long() for one in samples]
        return {**batch, "attention_mask": pad_sequence(mask, True)}

    def _padded(self, samples: Sequence[Sample], name: str, padding: int) -> torch.Tensor:
        return pad_sequence([torch.tensor(one[name]) for one in samples], True, padding)


class Interrupts:
    """SIGTERM, as it comes at a time limit or a preemption: the step ends, its state is saved, the process ends."""

    def __init__(self) -> None:
        self.received = False

    def listen(self) -> None:
        """Receive it from now on."""
        signal.signal(signal.SIGTERM, self._receive)

    def _receive(self, *_: object) -> None:
        self.received = True


class EpochTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer that writes `metrics.csv`, publishes each epoch, and saves a state to resume from.

    Resumed from a state, it trains as it would have without the interruption: on a CPU bit for bit, on a GPU as nearly
    as two trainings of the same config are alike. `deciding` is the part of the config that a resumed training shares;
    of a `sharded` model each process has a share of the frozen weights.
    """

    def __init__(
        self,
        *,
        output_dir: Path,
        sampler: EpochSampler,
        validation: Sequence[Sample],
        metrics: MetricsLogger,
        save_every: float,
        interrupts: Interrupts,
        deciding: dict[str, Any],
        sharded: bool,
        **given: Any,
    ) -> None:
        self._output_dir, self._sampler, self._validation = output_dir, sampler, validation
        self._curve, self._deciding, self._sharded = metrics, deciding, sharded
        self._losses: list[torch.Tensor] = []
        self._weight = 0.0
        self._tokens, self._step_began = 0, time.perf_counter()
        super().__init__(**given)
        for weights in self.model.parameters():
            if weights.requires_grad:
                # TRL has the adapter of a quantized model in bf16, and peft loads one to resume in fp32.
                weights.data = weights.data.float()
        # accelerate would wrap the model into DDP, which cannot have sharded weights.
        self.model._is_accelerate_prepared = sharded
        per_process = self.args.train_batch_size * self.args.gradient_accumulation_steps
        self.per_epoch = len(sampler) // (per_process * process_group.count())
        if process_group.count() > 1:
            # Each process draws its own dropout.
            torch.manual_seed(self.args.seed + process_group.rank())
        self.add_callback(_Epochs(self, save_every, interrupts))

    def _move_model_to_device(self, model: Any, device: torch.device) -> None:
        # Shares of weights are where they belong.
        if not self._sharded:
            super()._move_model_to_device(model, device)

    def _get_train_sampler(self, *_: Any) -> EpochSampler:
        return self._sampler

    def get_batch_samples(self, *given: Any) -> tuple[list[Batch], Any]:
        """The batches of a step, with the number of their tokens that are counted; the weight of these is kept."""
        batches, tokens = super().get_batch_samples(*given)
        if batches and "weights" in batches[0]:
            weight = sum(float(batch["weights"][:, 1:].sum()) for batch in batches)
            (self._weight,) = process_group.summed([weight], self.args.device)
        return batches, tokens

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """A batch's share of the step's mean loss: of TRL's, or of the mean by weight if rows have weights."""
        weights = inputs.pop("weights", None)
        if weights is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        router = {"output_router_logits": True} if self.aux_loss_enabled else {}
        outputs = model(**inputs, **router, fused_lm_head=True)
        loss = -(outputs.log_probs * weights[:, 1:]).sum() / self._weight * process_group.count()
        if router:
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss / self.current_gradient_accumulation_steps
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: Any, inputs: Batch, num_items_in_batch: Any = None) -> torch.Tensor:
        """One batch; its share of the step's loss and its tokens are kept for the curve."""
        self._tokens += int((inputs["labels"] != IGNORE_INDEX).sum())
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        self._losses.append(loss)
        if self._sharded and self.accelerator.sync_gradients:
            process_group.average_gradients(model)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """A row of the curve after every step, in place of transformers' logs, whose losses are rounded."""
        self._metrics["train"].clear()
        if not self._losses:
            return
        seconds = time.perf_counter() - self._step_began
        loss, tokens = process_group.summed([float(torch.stack(self._losses).sum()), self._tokens], self.args.device)
        row: dict[str, Any] = {
            # Scaled for the mean of all processes' gradients.
            "loss": loss / process_group.count(),
            "lr": self.lr_scheduler.get_last_lr()[0],
            "tokens_per_second": tokens / seconds,
        }
        if self.args.max_grad_norm:
            row["grad_norm"] = logs["grad_norm"]
        if torch.cuda.is_available() and not self.args.use_cpu:
            row["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self._losses, self._tokens, self._step_began = [], 0, time.perf_counter()
        self._curve.log_dict(row, step=self.state.global_step)

    def begin_epoch(self) -> None:
        """Give the epoch its order of samples."""
        self._sampler.epoch = self.complete_epochs
        self._curve.begin_epoch(self.complete_epochs, self.state.global_step)

    @property
    def complete_epochs(self) -> int:
        """How many epochs are complete."""
        return int(self.state.global_step // self.per_epoch)

    def publish_epoch(self) -> None:
        """End an epoch: log the validation loss if there is a validation split, then publish the adapter.

        Raises DivergedError instead of publishing weights that are not finite.
        """
        epoch = self.complete_epochs - 1
        self._require_finite(epoch)
        if self._validation:
            self._curve.log_dict({"validation_loss": self.validation_loss()}, step=self.state.global_step)
        self._curve.sync()
        if process_group.is_first():
            with published_epoch(self._output_dir, epoch) as folder:
                save = save_adapter if isinstance(self.model, PeftModel) else save_model
                save(self.model, folder)

    def _require_finite(self, epoch: int) -> None:
        for weights in self.model.parameters():
            if weights.requires_grad and not torch.isfinite(weights).all():
                what = "adapter" if isinstance(self.model, PeftModel) else "model"
                raise DivergedError(what, math.nan, epoch, self.state.global_step)

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean loss of the validation split's completion tokens, of which each process takes its share of batches.

        Draws no random numbers.
        """
        total, tokens, size = 0.0, 0, self.args.train_batch_size
        self.model.eval()
        for first in range(0, len(self._validation), size * process_group.count()):
            start = first + size * process_group.rank()
            # With sharded weights all processes have to compute as often: one without samples left counts none.
            some = self._validation[start : start + size]
            batch = self._prepare_inputs(self.data_collator(some or self._validation[:1]))
            labels = batch.pop("labels")[:, 1:]
            if not some:
                labels = torch.full_like(labels, IGNORE_INDEX)
            logits = self.model(**batch).logits[:, :-1].float()
            total += float(cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum"))
            tokens += int((labels != IGNORE_INDEX).sum())
        self.model.train()
        loss, counted = process_group.summed([total, tokens], self.args.device)
        return loss / counted

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # Not SFTTrainer's, which writes a model card.
        Trainer._save_checkpoint(self, model, trial)
        self._curve.sync()
        # Each process writes its random numbers.
        process_group.wait_for_all()
        if process_group.is_first():
            facts = {"step": self.state.global_step, "epochs": self.complete_epochs, "config": self._deciding}
            finish_state(state_folder(self._output_dir, self.state.global_step), facts)
        process_group.wait_for_all()


class _Epochs(TrainerCallback):  # type: ignore[misc]
    """Tells the trainer when an epoch begins and ends, and when to save a state."""

    def __init__(self, trainer: EpochTrainer, save_every: float, interrupts: Interrupts) -> None:
        self._trainer, self._save_every, self._interrupts = trainer, save_every, interrupts
        self._saved = time.monotonic()

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self._trainer.begin_epoch()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        due = time.monotonic() - self._saved >= self._save_every
        # Any process may be the first to know; all save the same step.
        asked, interrupted = process_group.summed([due, self._interrupts.received], args.device)
        if not asked and not interrupted:
            return
        # The state at the end of an epoch is saved once that is published.
        control.should_save = bool(state.global_step % self._trainer.per_epoch)
        if control.should_save:
            self._saved = time.monotonic()
        if interrupted:
            self._interrupts.received = control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # An epoch that is stopped ends, too.
        if state.global_step % self._trainer.per_epoch == 0:
            self._trainer.publish_epoch()
            control.should_save = True
            self._saved = time.monotonic()

    def on_train_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if self._interrupts.received and state.global_step < state.max_steps:
            raise SystemExit(128 + signal.SIGTERM)


class MutedMetrics(MetricsLogger):
    """The curve in a process that is not the first: it writes nothing, but ends as the first one does."""

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Begin nothing."""

    def begin_epoch(self, epoch: int, step: int | None = None) -> None:
        """Remember the epoch, for messages."""
        self._epoch = epoch

    def _write(self, row: dict[str, float], step: int) -> None:
        pass


def save_adapter(model: Any, folder: Path) -> None:
    """Write an adapter as peft does, the same bytes for the same adapter."""
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / ADAPTER_CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    # A set, whose order differs between processes.
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def save_model(model: Any, folder: Path) -> None:
    """Write a whole model: the base model's folder with other weights, in its number format, as which it is evaluated.

    Also its tokenizer is there, and it generates as the base model does, which adapters leave as it is, too.
    """
    base = Path(model.name_or_path)
    dtype = AutoConfig.from_pretrained(base).dtype
    weights: dict[str, torch.Tensor] = {}
    # Weights that are tied stay one.
    cast: dict[tuple[int, torch.Size], torch.Tensor] = {}
    for name, values in model.state_dict().items():
        key = (values.data_ptr(), values.shape)
        cast.setdefault(key, values.to("cpu", dtype if values.is_floating_point() else None))
        weights[name] = cast[key]
    model.save_pretrained(folder, state_dict=weights)
    (folder / GENERATION_CONFIG).unlink(missing_ok=True)
    for name in ("config.json", GENERATION_CONFIG, *TOKENIZER):
        with suppress(FileNotFoundError):
            shutil.copyfile(base / name, folder / name)
