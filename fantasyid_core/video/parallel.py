"""One video on several cards: every process denoises its share of the tokens (diffusers' context parallelism).

All processes hold the whole model and walk through the same steps; only the blocks' work is shared out. Behind the
embedding each process keeps its share of the text tokens and of the video tokens. The joint attention trades shares of
the tokens for shares of the heads and back (Ulysses). The identity attention needs no exchange, because its keys and
values, the identity's, are whole everywhere. F_l convolves whole latent frames, so around it the tokens are gathered;
the release has none. Behind the last block all tokens are gathered, and every process goes on with the same velocity.

Shares may differ in length by one row, so any size of video and any number of cards works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from ..config import ModelConfig
from ..errors import InputError, MissingLibraryError

if TYPE_CHECKING:
    from .transformer import LayerAdaptiveTransformer3DModel


def context_parallel_plan(config: ModelConfig) -> dict[str, Any]:
    """Where diffusers splits and gathers the tokens of the model with this ``config`` (its ``_cp_plan``).

    ``own_tokens`` is the module through which the model passes whatever has one row per token.
    """
    from diffusers.models._modeling_parallel import ContextParallelInput, ContextParallelOutput

    share = {0: ContextParallelInput(split_dim=1, split_output=True)}
    whole = ContextParallelOutput(gather_dim=1)
    plan: dict[str, Any] = {"own_tokens": share, "proj_out": whole}
    if config.injection.layer_block:
        for block in range(0, config.transformer.layers, config.injection.interval):
            plan[f"transformer_blocks.{block}.layer_attention"] = whole
            plan[f"transformer_blocks.{block}.layer_block"] = share
    return plan


@contextmanager
def shared_tokens(model: LayerAdaptiveTransformer3DModel) -> Iterator[None]:
    """Within it all processes of torch.distributed share the tokens of ``model``, which each of them holds whole.

    It does what diffusers' ``enable_parallelism`` does with ``ContextParallelConfig(ulysses_degree=processes,
    ulysses_anything=True)``, but can be undone, and runs on CPUs, where diffusers 0.42 divides by the number of cards.
    A single process goes on as it is. Raises MissingLibraryError when diffusers is too old.
    """
    import torch.distributed as dist

    count = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if count == 1:
        yield
        return
    config = _ulysses(count)
    from diffusers.hooks.context_parallel import apply_context_parallel, remove_context_parallel
    from torch.distributed.device_mesh import init_device_mesh

    shares, plan = config.context_parallel_config, context_parallel_plan(model.model_config)
    device = next(model.parameters()).device
    mesh = init_device_mesh(device.type, shares.mesh_shape, mesh_dim_names=shares.mesh_dim_names)
    config.setup(dist.get_rank(), count, device, mesh=mesh)
    blocks: list[Any] = list(model.transformer_blocks)
    holders = [model, *(block.attn1.processor for block in blocks)]
    try:
        apply_context_parallel(model, shares, plan)
        for holder in holders:
            holder._parallel_config = config
        yield
    finally:
        remove_context_parallel(model, plan)
        for holder in holders:
            holder._parallel_config = None


def processes_sharing(model: Any) -> int:
    """How many processes share the tokens of ``model``: 1 without context parallelism."""
    shares = _shares(model)
    return 1 if shares is None else shares.ulysses_degree * shares.ring_degree


def mean_over_shares(model: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """The mean of a tensor with one row per token, as a scalar: over all processes' shares, equal in all of them.

    What a step cache decides by must be the same number everywhere, or the processes would wait for each other forever.
    """
    shares = _shares(model)
    if shares is None:
        return torch.mean
    import torch.distributed as dist

    group = shares._flattened_mesh.get_group()

    def mean(x: torch.Tensor) -> torch.Tensor:
        own = torch.stack([x.sum(dtype=torch.float64), torch.full_like(x.sum(), x.numel(), dtype=torch.float64)])
        every = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
        dist.all_gather(every, own, group=group)
        total, numbers = torch.stack(every).sum(dim=0)  # in the same order everywhere
        return total / numbers

    return mean


def check_shareable(model: Any, text: int, video: int) -> None:
    """Raise InputError when processes share the tokens of ``model`` and that cannot go well with so many tokens."""
    count = processes_sharing(model)
    if count == 1:
        return
    if getattr(model, "is_cache_enabled", False):
        raise InputError(
            "A step cache of diffusers would decide differently on every card; disable the model's cache, "
            "and choose one in the speed options."
        )
    heads = model.model_config.transformer.heads
    padding = -heads % count
    if padding >= (heads + padding) // count:  # diffusers pads the heads of the last process only
        raise InputError(
            f"This model's {heads} attention heads cannot be shared by {count} processes; "
            f"start a number that divides {heads}."
        )
    if next(model.parameters()).device.type == "cpu" and (text % count or video % count):
        raise InputError(
            f"Processes on CPUs share evenly, but {text} tokens of the text and {video} of the video cannot be shared "
            f"by {count}; start another number of processes."
        )


def check_attention_shareable(model: Any, backend: Any) -> None:
    """Raise InputError when processes share the tokens of ``model`` and this attention backend would see one's only."""
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    if processes_sharing(model) > 1 and not _AttentionBackendRegistry._is_context_parallel_available(backend):
        raise InputError(
            f"The attention backend '{backend.value}' cannot work on several cards; choose 'torch' or 'flash-attn 2'."
        )


def _shares(model: Any) -> Any:
    """diffusers' ContextParallelConfig of ``model``, None without."""
    return getattr(getattr(model, "_parallel_config", None), "context_parallel_config", None)


def _ulysses(count: int) -> Any:
    try:
        from diffusers.models._modeling_parallel import ContextParallelConfig, ParallelConfig

        shares = ContextParallelConfig(ulysses_degree=count, ulysses_anything=True)
        return ParallelConfig(context_parallel_config=shares)
    except (ImportError, TypeError) as error:
        raise MissingLibraryError(
            "One video on several cards needs diffusers 0.39 or newer; upgrade diffusers, or start a single process."
        ) from error
