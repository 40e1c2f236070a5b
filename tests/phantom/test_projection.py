from __future__ import annotations

import numpy as np
import pytest

from benchmark.phantom.anatomy import SIDES, draw_patient, draw_pose
from benchmark.phantom.projection import project, to_pixels
from benchmark.phantom.seeds import stream

SIZE = 96


@pytest.fixture(scope="module")
def scenes():
    """Two images each of 24 patients."""
    patients = [draw_patient(f"patient {p}") for p in range(24)]
    return [[project(one, draw_pose(one, stream("pose", p, i)), SIZE, SIZE) for i in range(2)] for p, one in enumerate(patients)]


def test_images_of_one_patient_are_more_alike_than_images_of_two(scenes):
    flat = np.array([[scene.attenuation.reshape(-1) for scene in pair] for pair in scenes])
    likeness = np.corrcoef(flat.reshape(-1, SIZE * SIZE)).reshape(24, 2, 24, 2)
    same = likeness[np.arange(24), 0, np.arange(24), 1]
    other = likeness[:, 0, :, 1][~np.eye(24, dtype=bool)]
    assert same.mean() > other.mean() + 0.01
    nearest = likeness[:, 0, :, 1].argmax(axis=1)
    assert (nearest == np.arange(24)).mean() > 0.6  # chance is 1 in 24; views differ in about a third of the pairs


def test_right_lung_lies_in_the_left_half_of_the_picture(scenes):
    for pair in scenes:
        for scene in pair:
            centre = {side: 0.5 * (scene.boxes[side][0] + scene.boxes[side][2]) for side in SIDES}
            assert centre["right"] < SIZE / 2 < centre["left"]


def test_lungs_never_overlap_and_are_darker_than_the_heart(scenes):
    for pair in scenes:
        for scene in pair:
            right, left = scene.lungs["right"] > 0.5, scene.lungs["left"] > 0.5
            assert not (right & left).any()
            assert 0.10 < (right | left).mean() < 0.50
            assert scene.attenuation[right | left].mean() < 0.7 * scene.attenuation[scene.heart > 0.9].mean()


def test_points_land_on_the_pixels_whose_coordinates_they_are(scenes):
    for pair in scenes[:4]:
        scene = pair[0]
        rows, columns = np.array([10, 40, 80]), np.array([5, 50, 90])
        points = np.stack([scene.x[rows, columns], scene.y[rows, columns]], axis=1)
        assert to_pixels(scene.pose, points, SIZE, SIZE) == pytest.approx(np.stack([columns, rows], axis=1), abs=0.01)


def test_an_enlarged_heart_is_wider_in_the_same_chest():
    patient = draw_patient("heart")
    pose = draw_pose(patient, stream("heart"))
    normal, enlarged = (project(patient, pose, SIZE, SIZE, heart_scale=scale) for scale in (1.0, 1.3))
    assert (enlarged.heart > 0.5).any(axis=0).sum() > 1.15 * (normal.heart > 0.5).any(axis=0).sum()
    assert np.array_equal(normal.x, enlarged.x)
