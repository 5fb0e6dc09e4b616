"""Alignment as the release does it: template, similarity, crop, and the conditioning picture made of the crop."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from golden import golden_arrays
from PIL import Image

from fantasyid_core.faces.align import TEMPLATE, alignment_matrix, warp_crop
from fantasyid_core.video.vae import stretch

# The golden numbers were made on OpenCV 4.10, where ours are the same to the bit. OpenCV 5 itself computes both
# functions a little differently: the similarity by up to 1.3e-5, and 2.9 % of the crop's values by up to 2 levels.
OPENCV_5 = int(cv2.__version__.split(".")[0]) >= 5
MATRIX_TOLERANCE = 2e-5 if OPENCV_5 else 1e-12
CROP_LEVELS = 2 if OPENCV_5 else 0
CROP_SHARE = 0.04 if OPENCV_5 else 0.0


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return golden_arrays("face_preprocess.npz")


def test_template_is_the_release_s(golden):
    assert np.array_equal(TEMPLATE, golden["template"])


@pytest.mark.parametrize("row", range(6))
def test_similarity_is_the_release_s(golden, row):
    difference = np.abs(alignment_matrix(golden["landmarks"][row]) - golden["affine"][row]).max()
    assert difference <= MATRIX_TOLERANCE


@pytest.mark.parametrize("smooth", [False, True])  # this face is enlarged, so that smoothing must change nothing
def test_crop_is_the_release_s(golden, smooth):
    photograph = golden["image_rgb"].astype(np.float32) / np.float32(255)
    crop = warp_crop(photograph, alignment_matrix(golden["landmarks"][0]), smooth)
    levels = np.rint(crop * 255).astype(int)[..., ::-1]
    difference = np.abs(levels - golden["crop_bgr"])
    assert difference.max() <= CROP_LEVELS
    assert (difference > 0).mean() <= CROP_SHARE


def test_conditioning_picture_is_the_crop_stretched_by_lanczos(golden):
    crop = Image.fromarray(np.ascontiguousarray(golden["crop_bgr"][..., ::-1]))
    picture = np.asarray(stretch(crop, 720, 480), dtype=np.float32) / 127.5 - 1.0
    sampled = picture.transpose(2, 0, 1)[None, :, ::8, ::8]
    assert np.abs(sampled - golden["pipeline_image_8x"]).max() < 1e-6
