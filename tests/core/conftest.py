"""What several core tests need around them."""

from __future__ import annotations

import pytest


@pytest.fixture
def default_backend():
    """Choosing an attention backend also changes diffusers' global one, for all models and tests: put it back."""
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    before, _ = _AttentionBackendRegistry.get_active_backend()
    yield
    _AttentionBackendRegistry.set_active_backend(before)
