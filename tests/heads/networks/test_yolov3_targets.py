"""LoVT's YOLOv3 (docs/sources.md, LoVT): target assignment and loss, against its table and a slow loop written from its rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from benchmark.heads.base import Targets
from benchmark.heads.networks.yolov3_targets import ScaleTargets, _shape_iou, assign, scale_loss, scale_sums

# The tests of this file need no mmdet, so the anchors stand here again, from the reference's table.
ANCHORS = {
    32: [(64.64, 48.6), (84.24, 106.92), (201.42, 176.04)],
    16: [(16.2, 32.94), (33.48, 24.3), (31.86, 64.26)],
    8: [(5.4, 7.02), (8.64, 16.2), (17.82, 12.42)],
}
STRIDES = (32, 16, 8)


def _targets(*images, labels=None):
    """Images are lists of xywh boxes; padding goes to the front and the back of the lists in turn."""
    most = max(map(len, images), default=0)
    boxes, classes = torch.zeros(len(images), most, 4), torch.zeros(len(images), most, dtype=torch.long)
    valid = torch.zeros(len(images), most, dtype=torch.bool)
    for n, image in enumerate(images):
        start = (most - len(image)) * (n % 2)
        for m, box in enumerate(image, start):
            boxes[n, m], valid[n, m] = torch.tensor(box, dtype=torch.float32), True
            classes[n, m] = labels[n][m - start] if labels else 0
    return Targets(boxes_xywh=boxes, box_labels=classes, box_valid=valid)


def _assign(targets, stride, switch="kept", frame=224, n_classes=1):
    return assign(targets, torch.tensor(ANCHORS[stride]), stride, (frame // stride, frame // stride), switch, n_classes)


def _slow_assign(images, labels, stride, switch="kept", frame=224):
    """The assignment in six steps, one box at a time, in float32 as the released code."""
    f = np.float32
    grid = frame // stride
    positive = np.zeros((len(images), 3, grid, grid), bool)
    background = np.ones_like(positive)
    txywh = np.zeros((*positive.shape, 4), f)
    classes = np.zeros((*positive.shape, 3), bool)
    anchors = [(f(w) / f(stride), f(h) / f(stride)) for w, h in ANCHORS[stride]]
    for n, image in enumerate(images):
        for box, box_label in zip(image, labels[n], strict=True):
            x, y, gw, gh = (f(value) / f(stride) for value in box)
            gx, gy = x + gw / f(2), y + gh / f(2)
            i, j = min(int(gx), grid - 1), min(int(gy), grid - 1)
            ious = []
            for aw, ah in anchors:
                shared = (min(gw, aw) + f(1)) * (min(gh, ah) + f(1))
                ious.append(shared / ((gw + f(1)) * (gh + f(1)) + (aw + f(1)) * (ah + f(1)) - shared))
            for a, iou in enumerate(ious):
                if iou > 0.5:
                    background[n, a, j, i] = False
            best = ious.index(max(ious))
            positive[n, best, j, i] = True
            aw, ah = anchors[best]
            txywh[n, best, j, i] = (gx - i, gy - j, np.log(gw / aw + f(1e-16)), np.log(gh / ah + f(1e-16)))
            classes[n, best, j, i, box_label] = True  # a second class in the same place is added to the first
    if switch == "cleared":
        background &= ~positive
    return positive, background, txywh, classes


def _quarters(low, high):
    return st.integers(4 * low, 4 * high).map(lambda quarter: quarter / 4)


_box = st.one_of(
    st.tuples(_quarters(0, 200), _quarters(0, 200), _quarters(1, 224), _quarters(1, 224)),
    st.sampled_from([(223.75, 223.75, 0.25, 0.25), (0.0, 0.0, 224.0, 224.0), (224.0, 100.0, 0.0, 0.0), (96.0, 96.0, 64.0, 64.0)]),
    st.tuples(_quarters(96, 104), _quarters(96, 104), _quarters(20, 30), _quarters(20, 30)),  # crowded: shared cells and anchors
).map(lambda box: (box[0], box[1], min(box[2], 224 - box[0]), min(box[3], 224 - box[1])))  # fmt: skip


@given(
    images=st.lists(st.lists(st.tuples(_box, st.integers(0, 2)), max_size=6), min_size=1, max_size=3),
    stride=st.sampled_from(STRIDES),
    switch=st.sampled_from(["kept", "cleared"]),
)
def test_assignment_equals_a_slow_loop(images, stride, switch):
    boxes, labels = [[box for box, _ in image] for image in images], [[label for _, label in image] for image in images]
    found = _assign(_targets(*boxes, labels=labels), stride, switch, n_classes=3)
    positive, background, txywh, classes = _slow_assign(boxes, labels, stride, switch)
    assert np.array_equal(found.positive.numpy(), positive)
    assert np.array_equal(found.background.numpy(), background)
    assert np.array_equal(found.classes.numpy(), classes)
    np.testing.assert_allclose(found.txywh.numpy(), txywh, atol=2e-6)


@pytest.mark.parametrize(
    ("stride", "where", "txywh", "cleared"),
    [
        (32, (0, 3, 3), (0.90625, 0.125, -0.25681, 0.49840), {0, 1}),
        (16, (2, 6, 7), (0.8125, 0.25, 0.45067, 0.21909), {2}),
        (8, (2, 12, 15), (0.625, 0.5, 1.03170, 1.86272), set()),
    ],
)
def test_reference_box_is_assigned_as_in_the_table(stride, where, txywh, cleared):
    found = _assign(_targets([(100, 60, 50, 80)]), stride)
    anchor, row, column = where
    assert found.positive[0].nonzero().tolist() == [[anchor, row, column]]
    assert found.txywh[0, anchor, row, column].tolist() == pytest.approx(txywh, abs=5e-6)
    assert {a for a, j, i in (~found.background[0]).nonzero().tolist() if (j, i) == (row, column)} == cleared
    assert int((~found.background).sum()) == len(cleared)


@pytest.mark.parametrize(("stride", "ious"), [
    (32, (0.6377, 0.5687, 0.1891)), (16, (0.2487, 0.3147, 0.6063)), (8, (0.0394, 0.0789, 0.1033)),
])  # fmt: skip
def test_reference_box_has_the_shape_ious_of_the_table(stride, ious):
    found = _shape_iou(torch.tensor([[[50.0, 80.0]]]) / stride, torch.tensor(ANCHORS[stride]) / stride)[0, 0]
    assert found.tolist() == pytest.approx(ious, abs=5e-5)


@pytest.mark.parametrize(("stride", "cell", "ious"), [
    (32, (0, 0), (0.1854, 0.0894, 0.0297)), (16, (0, 0), (0.3071, 0.2427, 0.1260)), (8, (1, 1), (0.8947, 0.4867, 0.3717)),
])  # fmt: skip
def test_six_pixel_box_takes_anchor_zero_on_every_scale(stride, cell, ious):
    found = _assign(_targets([(10, 10, 6, 6)]), stride)
    assert found.positive[0].nonzero().tolist() == [[0, *cell]]
    shape = _shape_iou(torch.tensor([[[6.0, 6.0]]]) / stride, torch.tensor(ANCHORS[stride]) / stride)[0, 0]
    assert shape.tolist() == pytest.approx(ious, abs=5e-5)


def _terms(predictions: torch.Tensor, found: ScaleTargets, *how, **named) -> dict[str, torch.Tensor]:
    return scale_loss(scale_sums(predictions, found, *how, **named), found.positive.numel(), predictions.shape[-1] - 5)


def _zero_predictions(stride, n_images=1, n_classes=1):
    return torch.zeros(n_images, 3, 224 // stride, 224 // stride, 5 + n_classes)


# Computed with LoVT's released functions: L_x = L_y, L_w, L_h, L_conf, scale loss.
LOSSES = {
    32: (0.004715, 0.000449, 0.001690, 0.346574, 0.375496),
    16: (0.001179, 0.000345, 0.000082, 0.347163, 0.354125),
    8: (0.000295, 0.000453, 0.001475, 0.346868, 0.353161),
}


@pytest.mark.parametrize("stride", STRIDES)
def test_loss_of_zero_logits_is_the_tables(stride):
    lx, lw, lh, confidence, total = LOSSES[stride]
    terms = _terms(_zero_predictions(stride), _assign(_targets([(100, 60, 50, 80)]), stride))
    assert terms["xy"].item() == pytest.approx(2.5 * 2 * lx, abs=3e-6)
    # L_x = L_y = ln 2 / M, of the reference's own derivation.
    assert terms["xy"].item() == pytest.approx(5 * math.log(2) / (3 * (224 // stride) ** 2), abs=1e-7)
    assert terms["wh"].item() == pytest.approx(2.5 * (lw + lh), abs=3e-6)
    assert terms["confidence"].item() == pytest.approx(confidence, abs=5e-7)
    assert terms["class"].item() == 0
    assert sum(term.item() for term in terms.values()) == pytest.approx(total, abs=5e-7)


def test_the_three_scales_add_up_to_the_references_total():
    each = [_terms(_zero_predictions(stride), _assign(_targets([(100, 60, 50, 80)]), stride)) for stride in STRIDES]
    assert sum(term.item() for terms in each for term in terms.values()) == pytest.approx(1.082782, abs=5e-7)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("images", [([],), ([], [])])
def test_loss_without_boxes_is_half_log_two(stride, images):
    terms = _terms(_zero_predictions(stride, len(images)), _assign(_targets(*images), stride))
    assert sum(term.item() for term in terms.values()) == pytest.approx(0.5 * math.log(2), abs=1e-6)
    assert terms["xy"].item() == terms["wh"].item() == 0


def test_padding_changes_nothing():
    boxes = [(100, 60, 50, 80), (10, 10, 6, 6)]
    tight, padded = _targets(boxes), _targets(boxes, [(1, 1, 1, 1)] * 5)
    for stride in STRIDES:
        one, two = _assign(tight, stride), _assign(padded, stride)
        for field in ("positive", "background", "txywh", "classes"):
            assert torch.equal(getattr(one, field)[0], getattr(two, field)[0])


def test_last_of_two_boxes_with_one_cell_and_anchor_gives_the_place_and_both_give_their_class():
    """docs/protocols/lovt.md, quirk 25: the released target of the place is overwritten, that of the classes has both."""
    first, last = (100, 60, 50, 80), (101, 61, 50, 80)
    for order in ([first, last], [last, first]):
        found = _assign(_targets(order, labels=[[1, 2]]), 32, n_classes=4)
        alone = _assign(_targets(order[1:]), 32)
        assert torch.equal(found.txywh, alone.txywh)
        assert found.classes[found.positive].tolist() == [[False, True, True, False]]


def test_two_classes_in_one_place_are_both_trained():
    predictions = torch.zeros(1, 3, 7, 7, 8, requires_grad=True)
    found = _assign(_targets([(100, 60, 50, 80), (101, 61, 50, 80)], labels=[[2, 0]]), 32, n_classes=3)
    _terms(predictions, found)["class"].backward()
    assert predictions.grad[..., 5:][found.positive].sign().tolist() == [[-1, 1, -1]]  # towards classes 0 and 2, away from 1


def test_loss_of_one_class_does_not_depend_on_how_many_boxes_share_a_place():
    one, two = (_assign(_targets([(100, 60, 50, 80)] * n), 32) for n in (1, 2))
    predictions = torch.randn(1, 3, 7, 7, 6, generator=torch.Generator().manual_seed(0))
    for class_of_one in (False, True):
        alone, shared = (_terms(predictions, found, class_of_one) for found in (one, two))
        assert all(torch.equal(alone[name], shared[name]) for name in alone)


def test_positive_of_poor_shape_is_background_too_unless_cleared():
    targets = _targets([(100, 60, 50, 80)])
    kept, cleared = _assign(targets, 8, "kept"), _assign(targets, 8, "cleared")
    assert (kept.positive & kept.background).sum() == 1
    assert (cleared.positive & cleared.background).sum() == 0
    difference = _terms(_zero_predictions(8), kept)["confidence"] - _terms(_zero_predictions(8), cleared)["confidence"]
    assert difference.item() == pytest.approx(0.5 * math.log(2) / 2352, abs=1e-7)


def test_loss_equals_cross_entropy_on_probabilities_in_double_precision():
    torch.manual_seed(0)
    targets, predictions = _targets([(100, 60, 50, 80), (10, 10, 6, 6)], [(30, 40, 100, 90)]), 4 * torch.randn(2, 3, 14, 14, 6)
    found, n = _assign(targets, 16), 2 * 3 * 14 * 14
    mask, wide = found.positive.double(), predictions.double()
    p = wide.sigmoid()
    bce = F.binary_cross_entropy(p[..., :2], found.txywh[..., :2].double(), reduction="none")
    wh = (wide[..., 2:4] - found.txywh[..., 2:].double()).square()
    confidence = F.binary_cross_entropy(p[..., 4], mask, reduction="none")
    negative = -(1 - p[..., 4]).log().clamp(min=-100)
    terms = _terms(predictions, found)
    assert terms["xy"].item() == pytest.approx(float(2.5 * (bce * mask[..., None]).sum() / n), abs=1e-6)
    assert terms["wh"].item() == pytest.approx(float(2.5 * (wh * mask[..., None]).sum() / n), abs=1e-6)
    expected = ((confidence * mask).sum() + 0.5 * (negative * found.background).sum()) / n
    assert terms["confidence"].item() == pytest.approx(float(expected), abs=1e-6)


def test_saturated_confidence_costs_a_hundred_at_most():
    found = _assign(_targets([(100, 60, 50, 80)]), 32)
    predictions = _zero_predictions(32)
    predictions[..., 4] = -1e4
    assert _terms(predictions, found)["confidence"].item() == pytest.approx(100 / 147, rel=1e-6)


def _released_terms(predictions, found):
    """The documented loss of a scale as released: probabilities in float32, masked by products, means over all cells."""
    mask, background, bce, mse = found.positive.float(), found.background.float(), nn.BCELoss(), nn.MSELoss()
    xy = sum(bce(predictions[..., k].sigmoid() * mask, found.txywh[..., k] * mask) for k in (0, 1))
    wh = sum(mse(predictions[..., k] * mask, found.txywh[..., k] * mask) for k in (2, 3))
    p = predictions[..., 4].sigmoid()
    confidence = bce(p * mask, mask) + 0.5 * bce(p * background, background * 0)
    classes = bce(predictions[..., 5:].sigmoid() * mask[..., None], found.classes.float() * mask[..., None])
    return {"xy": 2.5 * xy, "wh": 2.5 * wh, "confidence": confidence, "class": classes}


@pytest.mark.parametrize("spread", [4.0, 30.0])
def test_loss_from_probabilities_is_the_released_one_with_its_gradient_at_any_logit(spread):
    drawn = spread * torch.randn(2, 3, 14, 14, 8, generator=torch.Generator().manual_seed(0))
    targets = _targets([(100, 60, 50, 80), (10, 10, 6, 6)], [(30, 40, 100, 90)], labels=[[2, 0], [1]])
    found = _assign(targets, 16, n_classes=3)
    ours, released = drawn.clone().requires_grad_(), drawn.clone().requires_grad_()
    terms, expected = _terms(ours, found, loss_at_extremes="from-probabilities"), _released_terms(released, found)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-6, atol=1e-7)
    sum(terms.values()).backward()
    sum(expected.values()).backward()
    torch.testing.assert_close(ours.grad, released.grad, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("form", "loss", "slope"), [("from-probabilities", 0.3401, 0.0), ("from-logits", 0.0680, 0.5 / 147)])
def test_a_background_logit_of_twenty_costs_what_the_reference_says(form, loss, slope):
    """docs/protocols/lovt.md, quirk 24: one such logit in the deepest map, all others certain of background."""
    predictions = torch.full((1, 3, 7, 7, 6), -50.0)
    predictions[0, 1, 2, 3, 4] = 20.0
    predictions.requires_grad_()
    found = _terms(predictions, _assign(_targets([]), 32), loss_at_extremes=form)["confidence"]
    found.backward()
    assert found.item() == pytest.approx(loss, abs=5e-5)
    assert predictions.grad[0, 1, 2, 3, 4].item() == pytest.approx(slope, rel=1e-6)


def test_both_forms_of_the_loss_agree_up_to_logits_of_eight():
    predictions = 16 * torch.rand(2, 3, 14, 14, 6, generator=torch.Generator().manual_seed(0)) - 8
    found = _assign(_targets([(100, 60, 50, 80), (10, 10, 6, 6)], [(30, 40, 100, 90)]), 16)
    one, other = (_terms(predictions, found, loss_at_extremes=form) for form in ("from-probabilities", "from-logits"))
    assert all(abs(one[name] - other[name]) < 1e-6 for name in one)


def test_a_centre_outside_the_frame_has_a_loss_in_both_forms():
    """Object-CXR boxes as released swap width and height, and may leave the frame."""
    found = _assign(_targets([(150, 150, 60, 200)]), 8)  # centre at y = 250 of 224
    assert found.txywh[..., 1].max() == pytest.approx(250 / 8 - 27)
    for form in ("from-probabilities", "from-logits"):
        assert all(value.isfinite() for value in _terms(_zero_predictions(8), found, loss_at_extremes=form).values())


def test_class_term_is_a_mean_over_cells_and_classes_of_positives():
    torch.manual_seed(0)
    predictions = torch.randn(1, 3, 7, 7, 8)
    found = _assign(_targets([(100, 60, 50, 80)], labels=[[2]]), 32, n_classes=3)
    logits = predictions[0, 0, 3, 3, 5:]
    expected = F.binary_cross_entropy(logits.sigmoid(), torch.tensor([0.0, 0.0, 1.0]), reduction="sum") / (147 * 3)
    assert _terms(predictions, found)["class"].item() == pytest.approx(expected.item(), abs=1e-7)


def test_gradient_reaches_only_what_is_trained():
    predictions = _zero_predictions(8).requires_grad_()
    found = _assign(_targets([(100, 60, 50, 80)]), 8)
    sum(_terms(predictions, found).values()).backward()
    trained = predictions.grad[..., :4].abs().sum(-1) > 0
    assert torch.equal(trained, found.positive)
    assert (predictions.grad[..., 5].abs().max()) == 0
