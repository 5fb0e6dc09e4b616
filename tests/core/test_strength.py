"""Layer strengths: presets, the text an artist writes, and where they apply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fantasyid_core.errors import InputError
from fantasyid_core.video.strength import PRESETS, LayerStrength, StrengthBand, parse_strength


def test_balanced_is_the_model_as_trained():
    assert all(PRESETS["balanced"].at(layer, 42, step / 50) == 1.0 for layer in range(42) for step in range(50))


def test_early_and_late_layers_share_the_depth():
    early, late = PRESETS["early layers"].for_layers(42, 0.0), PRESETS["late layers"].for_layers(42, 0.0)
    assert early == (1.0,) * 21 + (0.0,) * 21
    assert tuple(a + b for a, b in zip(early, late, strict=True)) == (1.0,) * 42


def test_motion_first_lets_the_identity_join_after_a_quarter():
    motion = PRESETS["motion first"]
    assert motion.at(0, 8, 0.0) < 1.0
    assert motion.at(0, 8, 0.25) == motion.at(0, 8, 0.99) == 1.0


def test_one_strength_per_layer_reaches_exactly_that_layer():
    values = tuple(k / 10 for k in range(8))
    assert LayerStrength((StrengthBand(values),)).for_layers(8, 0.5) == values


def test_outside_its_steps_the_identity_is_off():
    strength = parse_strength("0.8 @ 20-60%")
    assert [strength.at(0, 1, step / 10) for step in range(10)] == [0, 0, 0.8, 0.8, 0.8, 0.8, 0, 0, 0, 0]


def test_scaled_and_between_combine():
    strength = parse_strength("1 0.5 @ 0-50%; 2 @ 50-100%").scaled(0.5).between(0.25, 0.75)
    assert str(strength) == "0.5 0.25 @ 25-50%; 1 @ 50-75%"
    assert strength.at(0, 2, 0.2) == 0.0
    assert LayerStrength().between(0.5, 0.5).for_layers(3, 0.5) == (0.0, 0.0, 0.0)


def test_a_presets_name_is_as_good_as_its_numbers():
    assert parse_strength(" Motion First ") == PRESETS["motion first"]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_being_written_and_read(name):
    assert parse_strength(str(PRESETS[name])) == PRESETS[name]


hundredths = st.integers(0, 1000).map(lambda k: k / 100)
bands = st.builds(
    lambda values, edges: StrengthBand(tuple(values), min(edges) / 1000, max(edges) / 1000),
    st.lists(hundredths, min_size=1, max_size=42),
    st.tuples(st.integers(0, 1000), st.integers(0, 1000)),
)


@given(st.lists(bands, min_size=1, max_size=3))
def test_any_strength_survives_being_written_and_read(some):
    strength = LayerStrength(tuple(some))
    again = parse_strength(str(strength))
    assert again.bands == pytest.approx(strength.bands) or all(
        a.values == b.values and a.start == pytest.approx(b.start) and a.end == pytest.approx(b.end)
        for a, b in zip(again.bands, strength.bands, strict=True)
    )


@pytest.mark.parametrize("text", ["strong", "1 @ 80%", "1 @ 20-", "1 1 x", "@ 0-50%", "1..2", "1 @ 0.1.2-5%"])
def test_text_that_is_no_strength_is_refused_with_an_example(text):
    with pytest.raises(InputError, match=r"as in '1 1 0\.5 @ 0-80%'"):
        parse_strength(text)


@pytest.mark.parametrize(
    ("text", "words"), [("-1", "0 to 10"), ("11", "0 to 10"), ("nan", "0 to 10"), ("1 @ 80-20%", "from a smaller")]
)
def test_numbers_out_of_range_are_refused(text, words):
    with pytest.raises(InputError, match=words):
        parse_strength(text)


def test_an_empty_text_means_off():
    assert parse_strength("").at(0, 1, 0.5) == 0.0
    assert parse_strength("0").at(0, 1, 0.5) == 0.0
