"""One training loop for every stage: Accelerate, EMA, whole checkpoints, a log, sample sheets, a clean stop.

A stage brings a module whose forward takes a batch and gives its losses, the batches of any step, and what to draw now
and then. One process, several GPUs, FSDP or DeepSpeed are how it is launched (``accelerate launch -m fantasyid_core.cli
train …``, or ``torchrun``), not other code.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ..errors import CheckpointError, InputError
from .optimisers import cpu_multiplies_bfloat16, make_optimisers

Batch = Mapping[str, Any]
Losses = dict[str, torch.Tensor]
CHECKPOINT, SETTINGS, LOG = "checkpoint", "settings.json", "log.jsonl"


@dataclass(frozen=True)
class RunOptions:
    """How a run is run. steps: optimiser steps in all. batch: samples per process and step. learning_rate: at its
    highest. schedule: a name of diffusers' get_scheduler; the paper has "cosine_with_restarts". optimiser: "adamw" (the
    paper's) or "muon" (matrices by Muon, the rest by AdamW). ema: decay of the weights' running mean. precision: "no",
    "bf16" or "fp16", or "auto" (bf16 where the device computes in it). compile: the blocks that repeat, for a graphics
    card. save_minutes, sample_minutes: how often.
    """

    out: Path
    steps: int
    batch: int = 16
    learning_rate: float = 3e-6
    warmup: int = 100
    schedule: str = "cosine_with_restarts"
    optimiser: str = "adamw"
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    accumulate: int = 1
    precision: str = "auto"
    compile: bool = False
    seed: int = 0
    save_minutes: float = 10.0
    sample_minutes: float = 10.0
    log_every: int = 10

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.accumulate < 1:
            raise InputError("Training takes at least one step, of at least one sample; raise --steps or --batch.")
        if not self.learning_rate > 0:
            raise InputError(f"The learning rate must be above 0, not {self.learning_rate:g}.")


class Stage(Protocol):
    """What is trained. ``module(batch)`` gives named losses, "loss" the one that is minimised."""

    module: nn.Module

    def batches(self, step: int, rank: int, world: int) -> Iterator[Batch]:
        """The batches of ``step`` and all later ones for process ``rank`` of ``world``; the same whenever asked."""
        ...

    def settings(self) -> dict[str, Any]:
        """What a checkpoint must agree in to be resumed, as JSON."""
        ...

    def sheet(self, module: nn.Module, path: Path) -> None:
        """Draw what ``module`` (with its mean weights) can do to ``path``, a .jpg."""
        ...

    def export(self, module: nn.Module, folder: Path) -> None:
        """Write the mean weights for use to ``folder``."""
        ...


def run(stage: Stage, options: RunOptions, say: Callable[[str], None] = lambda line: None) -> int:
    """Train ``stage`` until ``options.steps``, from the last checkpoint in ``options.out`` if there is one.

    Returns the step reached. An interrupt (Ctrl+C) ends the step in work, saves, and raises KeyboardInterrupt. Raises
    CheckpointError when the checkpoint is of another configuration, InputError when nothing can be written.
    """
    trainer = _Trainer(stage, options, say)
    trainer.resume()
    return trainer.train()


class _Trainer:
    def __init__(self, stage: Stage, options: RunOptions, say: Callable[[str], None]) -> None:
        from accelerate import Accelerator
        from accelerate.utils import set_seed
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        self.stage, self.options, self.say = stage, options, say
        precision = best_precision() if options.precision == "auto" else options.precision
        self.accelerator = Accelerator(
            mixed_precision=precision,
            gradient_accumulation_steps=options.accumulate,
            cpu=not torch.cuda.is_available() and not torch.backends.mps.is_available(),
        )
        set_seed(options.seed)
        _make_folder(options.out)
        # accelerate steps a prepared scheduler once per process
        world = self.accelerator.num_processes
        module = stage.module
        if options.compile:
            _compile_repeated(module)
        optimisers = make_optimisers(module, options.optimiser, options.learning_rate, options.weight_decay)
        schedulers = [
            get_scheduler(
                options.schedule,
                one,
                num_warmup_steps=options.warmup * world,
                num_training_steps=options.steps * world,
            )
            for one in optimisers
        ]
        trained = [p for p in module.parameters() if p.requires_grad]
        self.ema = EMAModel(trained, decay=options.ema, use_ema_warmup=True, foreach=True)
        prepared = self.accelerator.prepare(module, *optimisers, *schedulers)
        self.module, self.optimisers, self.schedulers = (
            prepared[0], prepared[1 : 1 + len(optimisers)], prepared[1 + len(optimisers) :],
        )  # fmt: skip
        self.ema.to(self.accelerator.device)
        self.accelerator.register_for_checkpointing(self.ema)
        self.step, self.seconds = 0, 0.0
        self._saved_at = self._drawn_at = self._since = time.monotonic()
        self._sums: dict[str, float] = {}
        self._summed = 0  # steps

    # --- the loop ---------------------------------------------------------------------------------------------------

    def train(self) -> int:
        accelerator, options = self.accelerator, self.options
        batches = self.stage.batches(
            self.step * options.accumulate, accelerator.process_index, accelerator.num_processes
        )
        self.module.train()
        try:
            with _prepared(batches, ahead=4 if accelerator.device.type == "cuda" else 0) as ready:
                while self.step < options.steps:
                    self._add(self._step(ready))
                    self._now_and_then()
        except KeyboardInterrupt:
            self.save()
            self.say(f"Stopped at step {self.step}; the same command goes on from here.")
            raise
        self.save()
        self._draw()
        if accelerator.is_main_process:
            self._with_mean_weights(lambda module: self.stage.export(module, options.out))
        accelerator.wait_for_everyone()
        return self.step

    def _step(self, batches: Iterator[Batch]) -> dict[str, float]:
        """One optimiser step. An interrupt in its middle comes after it: weights and step number stay together."""
        accelerator, totals = self.accelerator, dict[str, float]()
        with _interrupts_wait():
            for _ in range(self.options.accumulate):
                batch = _to_device(next(batches), accelerator.device)
                with accelerator.accumulate(self.module):
                    losses: Losses = self.module(batch)
                    if not torch.isfinite(losses["loss"]):
                        raise InputError(
                            f"The loss is not a number at step {self.step}; lower the learning rate and start again "
                            "from the last checkpoint."
                        )
                    accelerator.backward(losses["loss"])
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(self.module.parameters(), self.options.clip)
                    for one in (*self.optimisers, *self.schedulers):
                        one.step()
                    for optimiser in self.optimisers:
                        optimiser.zero_grad(set_to_none=True)
                for name, value in losses.items():
                    totals[name] = totals.get(name, 0.0) + float(value.detach()) / self.options.accumulate
            self.ema.step([p for p in self.module.parameters() if p.requires_grad])
            self.step += 1
        return totals

    def _now_and_then(self) -> None:
        now = time.monotonic()
        if self.step % self.options.log_every == 0:
            self._log(now)
        if now - self._saved_at > 60 * self.options.save_minutes:
            self.save()
        if now - self._drawn_at > 60 * self.options.sample_minutes:
            self._draw()

    def _add(self, losses: Mapping[str, float]) -> None:
        self._summed += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def _log(self, now: float) -> None:
        self.seconds += now - self._since
        samples = self._summed * self.options.batch * self.accelerator.num_processes
        rate = samples / max(now - self._since, 1e-9)
        row = {"step": self.step, "seconds": round(self.seconds, 1), "samples/s": round(rate, 2)}
        row |= {"rate": max(self.schedulers[0].get_last_lr())}
        row |= {name: round(total / self._summed, 5) for name, total in self._sums.items()}
        self._since, self._sums, self._summed = now, {}, 0
        if self.accelerator.is_main_process:
            with (self.options.out / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            self.say(json.dumps(row))

    # --- what lies on disk ------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Weights, optimiser, schedule, random state and mean weights: whole or not at all."""
        with _interrupts_wait():
            accelerator, out = self.accelerator, self.options.out
            part, place, old = (out / f"{CHECKPOINT}{suffix}" for suffix in (".part", "", ".old"))
            if accelerator.is_main_process:
                shutil.rmtree(part, ignore_errors=True)
            accelerator.wait_for_everyone()
            try:
                accelerator.save_state(str(part))
                accelerator.wait_for_everyone()  # every process writes its random state; only then may the folder move
                if accelerator.is_main_process:
                    facts = self.stage.settings() | {"step": self.step, "seconds": self.seconds}
                    facts |= {"processes": accelerator.num_processes}
                    (part / SETTINGS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
                    if place.exists():
                        place.rename(old)
                    part.rename(place)
                    shutil.rmtree(old, ignore_errors=True)
            except OSError as error:
                shutil.rmtree(part, ignore_errors=True)
                raise InputError(
                    f"The checkpoint cannot be written to {out} ({error.strerror or error}); make room there. The last "
                    "one is still whole."
                ) from error
            accelerator.wait_for_everyone()
            self._saved_at = time.monotonic()

    def resume(self) -> None:
        """Take up the last whole checkpoint, if there is one."""
        out = self.options.out
        place = next((p for p in (out / CHECKPOINT, out / f"{CHECKPOINT}.old") if (p / SETTINGS).is_file()), None)
        if place is None:
            return
        facts = json.loads((place / SETTINGS).read_text(encoding="utf-8"))
        for name, value in json.loads(json.dumps(self.stage.settings())).items():
            if facts.get(name) != value:
                raise CheckpointError(
                    f"The checkpoint in {out} was made with another {name} ({facts.get(name)}, now {value}); choose "
                    "another folder, or the settings it was made with."
                )
        self.accelerator.load_state(str(place))
        self.step, self.seconds = int(facts["step"]), float(facts["seconds"])
        self._since = time.monotonic()
        self.say(f"Going on from step {self.step}.")

    def _draw(self) -> None:
        began = time.monotonic()
        if self.accelerator.is_main_process:
            path = self.options.out / f"samples-{self.step:06d}.jpg"
            self._with_mean_weights(lambda module: self.stage.sheet(module, path))
        self.accelerator.wait_for_everyone()
        self._drawn_at = time.monotonic()
        self._since += self._drawn_at - began  # the log's seconds are those of training

    def _with_mean_weights(self, use: Callable[[nn.Module], None]) -> None:
        module = self.accelerator.unwrap_model(self.module)
        trained = [p for p in module.parameters() if p.requires_grad]
        self.ema.store(trained)
        self.ema.copy_to(trained)
        module.eval()
        try:
            with torch.no_grad(), torch.compiler.set_stance("force_eager"):  # other shapes: not worth compiling
                use(module)
        finally:
            module.train()
            self.ema.restore(trained)


@contextmanager
def _prepared(batches: Iterator[Batch], ahead: int) -> Iterator[Iterator[Batch]]:
    """The same batches, made by a thread while a graphics card works on those before; at most ``ahead`` of them."""
    if not ahead:
        yield batches
        return
    from queue import Full, Queue
    from threading import Event, Thread

    waiting: Queue[Batch | BaseException] = Queue(ahead)
    done = Event()

    def make() -> None:
        try:
            while not done.is_set():
                put(next(batches))
        except BaseException as error:  # raised where the batch is wanted
            put(error)

    def put(one: Batch | BaseException) -> None:
        while not done.is_set():
            try:
                return waiting.put(one, timeout=0.2)
            except Full:
                continue

    def taken() -> Iterator[Batch]:
        while True:
            one = waiting.get()
            if isinstance(one, BaseException):
                raise one
            yield one

    thread = Thread(target=make, name="batches", daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        done.set()
        thread.join()


def _compile_repeated(module: nn.Module) -> None:
    """Compile what is built of blocks that repeat (diffusers' name for them), one graph per shape."""
    for part in module.modules():
        if getattr(part, "_repeated_blocks", None):
            part.compile_repeated_blocks(dynamic=False)  # type: ignore[operator]


class _interrupts_wait:  # noqa: N801 (used as a statement)
    """Ctrl+C and SIGTERM within the block are raised behind it, as KeyboardInterrupt."""

    def __enter__(self) -> None:
        import signal
        import threading

        self._caught = False
        self._handlers: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._note)

    def _note(self, *_: object) -> None:
        self._caught = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        import signal

        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._caught and kind is None:
            raise KeyboardInterrupt


def best_precision() -> str:
    """ "bf16" where the device multiplies in it, "no" (float32) elsewhere."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if cpu_multiplies_bfloat16() else "no"


def log_line(line: str) -> None:
    """One line on standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}); choose another folder.") from error


def _to_device(batch: Batch, device: torch.device) -> dict[str, Any]:
    return {k: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
