"""Layer strengths: presets, the text an artist writes, and where they apply."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fantasyid_core.drawing import AMBER, ROSE, TRACK
from fantasyid_core.errors import InputError
from fantasyid_core.video.curves import strength_from
from fantasyid_core.video.strength import PRESETS, LayerStrength, StrengthBand, parse_strength
from fantasyid_core.video.strength_picture import MAP, describe_strength, draw_strength, strength_table


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


def test_wide_letters_of_chinese_and_japanese_keyboards_are_read():
    wide = parse_strength("１　１，０．５＠０－６０％；0.8 ＠ 60-100%")
    assert wide == parse_strength("1 1 0.5 @ 0-60%; 0.8 @ 60-100%")


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


@pytest.mark.parametrize(("curve", "text"), [(0.5, "0.5"), (2, "2"), ([0, 0.5, 1], "0 0.5 1"), ((1.0, 0.25), "1 0.25")])
def test_numbers_become_a_strength_along_the_depth(curve, text):
    assert str(strength_from(curve)) == text


@pytest.mark.parametrize("interpolation", ["linear", "monotone_cubic"])
def test_a_drawn_curve_runs_from_the_first_to_the_last_layer(interpolation):
    curve = {"points": [[1.0, 0.0], [0.0, 1.0], [0.5, 0.9]], "interpolation": interpolation}
    values = strength_from(curve).for_layers(42, 0.0)
    assert values[0] == pytest.approx(1, abs=0.01) and values[-1] == pytest.approx(0, abs=0.05)
    assert all(a >= b for a, b in pairwise(values))  # neither way overshoots
    middle = 0.9 if interpolation == "linear" else None
    assert middle is None or values[20] == pytest.approx(middle, abs=0.01)


def test_the_two_interpolations_differ_and_a_curve_object_evaluates_itself():
    points = [[0.0, 0.0], [0.4, 1.0], [1.0, 0.2]]
    straight, smooth = (
        strength_from({"points": points, "interpolation": name}) for name in ("linear", "monotone_cubic")
    )
    assert straight != smooth

    class Curve:  # as the core's curve editor hands it over
        def interp(self, x):
            return 0.5 * x

    assert strength_from(Curve()).for_layers(1, 0.0) == pytest.approx([0.25], abs=0.01)


def test_beyond_its_points_a_curve_stays_level():
    values = strength_from({"points": [[0.4, 0.3], [0.6, 0.7]], "interpolation": "linear"}).for_layers(42, 0.0)
    assert (values[0], values[-1]) == (0.3, 0.7)


@pytest.mark.parametrize(
    "curve", ["1 2", {"points": []}, {}, object(), [1, "x"], {"points": [[0, 1], [0, 2]]}, {"points": [[0, 1, 2]]}]
)
def test_what_is_no_curve_is_refused(curve):
    with pytest.raises(InputError, match="no strength curve"):
        strength_from(curve)
    with pytest.raises(InputError, match="0 to 10"):
        strength_from([-1.0])


def test_the_heat_maps_cells_have_their_own_strengths():
    strength = parse_strength("1 0 @ 0-50%; 3 @ 50-100%")
    assert strength_table(strength, 2, 2).tolist() == [[1, 3], [0, 3]]
    picture = draw_strength(strength, 2, 2)
    left, top, right, bottom = MAP
    cells = [
        [picture[int(top + y * (bottom - top)), int(left + x * (right - left))] for x in (0.25, 0.75)]
        for y in (0.25, 0.75)
    ]
    assert (cells[0][0] * 255).round().tolist() == list(AMBER)
    assert (cells[1][0] * 255).round().tolist() == list(TRACK)
    assert (cells[0][1] == cells[1][1]).all() and (cells[0][1] * 255).round().tolist() == list(ROSE)


@pytest.mark.parametrize(("layers", "steps"), [(1, 1), (42, 50), (42, 1000), (200, 3)])
def test_any_number_of_layers_and_steps_can_be_drawn(layers, steps):
    picture = draw_strength(PRESETS["motion first"], layers, steps)
    assert picture.shape == (640, 960, 3) and picture.std() > 0.05


def test_a_line_says_where_the_identity_acts():
    said = describe_strength(parse_strength("1 0 0.5 0 @ 20-60%"), 8, 10)
    assert said == "The identity acts in layers 1–2, 5–6 of 8, in steps 3–6 of 10, strength 0.5 to 1."
    assert "no layer" in describe_strength(parse_strength("0"), 8, 10)
    with pytest.raises(InputError, match="1 to 1000"):
        describe_strength(LayerStrength(), 0, 10)
