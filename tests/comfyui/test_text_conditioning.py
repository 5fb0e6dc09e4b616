"""Text from ComfyUI's own T5 is what the release's text encoder gives, token for token (on a tiny T5)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

LENGTH = 226
TINY = {
    "d_ff": 64,
    "d_kv": 8,
    "d_model": 32,
    "num_heads": 4,
    "num_layers": 2,
    "vocab_size": 32128,
    "relative_attention_num_buckets": 32,
}
PROMPTS = ["A woman walks through the rain.", "", "word " * 150]


@pytest.fixture(scope="module")
def release_t5():
    """T5 as transformers has it, with the weights that both sides get."""
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    return T5EncoderModel(T5Config(**TINY, feed_forward_proj="gated-gelu", dropout_rate=0.0)).eval()


@pytest.fixture(scope="module")
def clip(core, release_t5):
    """The CLIP object that core's CLIPLoader makes of a t5xxl file with type "sd3", at a tiny size."""
    import comfy.sd
    from comfy.text_encoders.sd3_clip import SD3Tokenizer, sd3_clip

    class TinyT5(sd3_clip(clip_l=False, clip_g=False, t5=True)):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            options = {**(model_options or {}), "t5xxl_model_config": dict(TINY)}
            super().__init__(device=device, dtype=dtype, model_options=options)

    class Target:
        params: dict = {}  # noqa: RUF012 (as core's own)
        clip = TinyT5
        tokenizer = SD3Tokenizer

    made = comfy.sd.CLIP(Target(), model_options={"dtype": torch.float32})
    assert not made.cond_stage_model.t5xxl.load_sd(release_t5.state_dict()).missing_keys
    return made


@pytest.fixture(scope="module")
def release_encode(core, release_t5):
    import comfy.text_encoders.sd3_clip as sd3
    from transformers import T5TokenizerFast

    from fantasyid_core.video.text import encode_text

    tokenizer = T5TokenizerFast.from_pretrained(str(Path(sd3.__file__).parent / "t5_tokenizer"))
    return lambda prompt: encode_text(tokenizer, release_t5, prompt, LENGTH)


@pytest.mark.parametrize("prompt", [*PROMPTS, "word " * 400])
def test_our_tokens_through_comfyuis_t5_are_the_releases_text(clip, release_encode, prompt):
    from fantasyid_core.video.text import fixed_length_tokens

    tokens = clip.tokenize(prompt)
    tokens["t5xxl"] = fixed_length_tokens(tokens["t5xxl"], LENGTH)
    ours = clip.encode_from_tokens_scheduled(tokens)[0][0]
    torch.testing.assert_close(ours, release_encode(prompt), rtol=0, atol=2e-5)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_cliptextencode_with_the_t5_length_set_is_the_releases_text(core, clip, release_encode, prompt):
    from fantasyid_core.video.text import fit_conditioning

    long = clip.clone()
    long.set_tokenizer_option("t5xxl_min_length", LENGTH)  # core's node T5TokenizerOptions
    (conditioning,) = core.CLIPTextEncode().encode(long, prompt)
    fitted = fit_conditioning(conditioning[0][0], LENGTH)
    torch.testing.assert_close(fitted, release_encode(prompt), rtol=0, atol=2e-5)


def test_a_shorter_conditioning_is_closer_with_its_last_row_repeated_than_with_zeros(core, clip, release_encode):
    from fantasyid_core.video.text import fit_conditioning

    (conditioning,) = core.CLIPTextEncode().encode(clip, PROMPTS[0])
    short, expected = conditioning[0][0], release_encode(PROMPTS[0])
    assert short.shape[1] < LENGTH
    zeros = torch.nn.functional.pad(short, (0, 0, 0, LENGTH - short.shape[1]))
    assert (fit_conditioning(short, LENGTH) - expected).norm() < 0.5 * (zeros - expected).norm()
