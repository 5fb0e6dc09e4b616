"""Choosing an attention backend switches it and only it; compiled blocks are compiled and give the same numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from test_fused import FLASH, MATH, _operators
from video_models import call, conditions, identity_tokens, tiny_config, tiny_model

from fantasyid_core.errors import InputError, MissingLibraryError
from fantasyid_core.video import attention_choice, compiling
from fantasyid_core.video.attention import use_attention
from fantasyid_core.video.attention_choice import ATTENTIONS, AttentionChoice, available_attentions, require_attention
from fantasyid_core.video.compiling import compiled_blocks
from fantasyid_core.video.levers import Levers
from fantasyid_core.video.sample import SamplingOptions, sample

OPTIONS = SamplingOptions(steps=2)


@pytest.fixture
def model():
    return tiny_model(tiny_config())


@pytest.fixture
def slow(monkeypatch):
    """A backend that runs on any machine and is told from torch's own choice by its operators."""
    more = dict(ATTENTIONS) | {"slow": AttentionChoice("torch's textbook attention", "_native_math", card=False)}
    monkeypatch.setattr(attention_choice, "ATTENTIONS", more)
    monkeypatch.setattr("fantasyid_core.video.attention.ATTENTIONS", more)
    return "slow"


@torch.no_grad()
def test_within_the_choice_its_operators_run_and_behind_it_the_old_ones(model, slow):
    expected = call(model)
    with use_attention(model, slow):
        assert _operators(model) == {MATH}
        torch.testing.assert_close(call(model), expected, atol=2e-6, rtol=0)
        with use_attention(model, "torch"):
            assert FLASH in _operators(model)
        with use_attention(model, "auto"):
            assert _operators(model) == {MATH}
    assert FLASH in _operators(model)


@torch.no_grad()
def test_no_other_model_switches_with_it(model, slow):
    other, before = tiny_model(tiny_config(), seed=1), _AttentionBackendRegistry.get_active_backend()[0]
    with use_attention(model, slow):
        assert FLASH in _operators(other)
        assert _AttentionBackendRegistry.get_active_backend()[0] == before


def test_the_lever_switches_every_call_of_a_sampling_and_an_error_switches_back(model, slow):
    seen = []
    options = replace(OPTIONS, levers=Levers(attention=slow))
    block = model.transformer_blocks[0]
    block.register_forward_hook(lambda *_: seen.append(str(block.attn1.processor._attention_backend.value)))
    sample(model, conditions(model), options, torch.Generator())
    assert seen == ["_native_math"] * 2
    with pytest.raises(RuntimeError):
        sample(model, conditions(model), options, torch.Generator(), _raise)
    assert block.attn1.processor._attention_backend is None


def test_only_what_runs_here_is_offered_and_the_rest_says_what_it_lacks():
    offered = available_attentions()
    assert offered[:2] == ("auto", "torch")
    for name in set(ATTENTIONS) - set(offered):
        with pytest.raises(MissingLibraryError, match=r"needs .+; install it"):
            require_attention(name)
    with pytest.raises(InputError, match="one of: auto, torch"):
        require_attention("sage 1")


def test_a_package_that_is_too_old_is_not_offered(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(attention_choice.importlib.util, "find_spec", lambda name: object())
    for installed, lacks in (("1.0.6", True), ("2.1.1", False), ("2.2.0+cu128torch2.8", False)):
        monkeypatch.setattr(attention_choice, "version", lambda _, installed=installed: installed)
        assert ("sage 2" not in available_attentions()) == lacks


def test_every_offered_name_is_one_of_diffusers_and_none_downloads():
    from diffusers.models.attention_dispatch import AttentionBackendName

    known = {backend.value for backend in AttentionBackendName}
    backends = {choice.backend for choice in ATTENTIONS.values()} - {None}
    assert backends <= known
    assert not [backend for backend in backends if "hub" in backend or "fp8" in backend]


# --- compiling


@torch.no_grad()
def test_one_block_is_compiled_for_all_of_them_and_gives_the_same_numbers(model):
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    identity = model.prepare_identity(identity_tokens())
    expected = call(model, identity)
    torch._dynamo.reset()
    with compiled_blocks(model, True, backend=backend):
        torch.testing.assert_close(call(model, identity), expected, atol=2e-6, rtol=0)
        compiled = len(graphs)
        call(model, identity, seed=5)
    with compiled_blocks(model, True, backend=backend):
        call(model, identity, seed=6)
    assert 0 < compiled == len(graphs)  # once, and not again for further calls, blocks and samplings
    assert torch.equal(call(model, identity), expected)  # behind it nothing is compiled


def test_without_a_compiler_one_sentence_says_so(model, monkeypatch):
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    with pytest.raises(MissingLibraryError, match=r"C\+\+ compiler .+ switch compile_blocks off"):
        sample(model, conditions(model), replace(OPTIONS, levers=Levers(compile_blocks=True)), torch.Generator())
    assert all(block._compiled_call_impl is None for block in model.transformer_blocks)


def _raise(*_):
    raise RuntimeError
