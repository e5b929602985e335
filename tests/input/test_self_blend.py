"""Self-blended fakes: what is changed, where, how often; and minibatches of reals and their fakes."""

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from scipy import ndimage, stats

from roga_domainbed.errors import RogaError
from roga_domainbed.input.augmentation import draws, self_blend
from roga_domainbed.input.augmentation.self_blend import self_blended
from roga_domainbed.input.augmentation.spec import AUGMENTATIONS
from roga_domainbed.input.minibatches import IndexSampler
from roga_domainbed.input.pairs import pairs, reals_of
from roga_domainbed.seeds import generator

SIDE = 64


def face(seed=0, side=SIDE):
    """A smooth image with some noise, (3, side, side) uint8."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.zoom(rng.uniform(40, 215, (3, 8, 8)), (1, side / 8, side / 8), order=1)
    return torch.from_numpy((smooth + rng.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8))


def made(n, real=None):
    real = face() if real is None else real
    return [self_blended(real, generator(0, "blend", j)) for j in range(n)]


def masks(n, side=SIDE):
    still = np.ones(2, np.float32), np.zeros(2, np.float32)
    return [self_blend._mask(side, *still, generator(0, "mask", j)) for j in range(n)]


def test_outside_of_the_face_the_fake_is_its_real_bit_by_bit_and_inside_it_differs():
    differs = np.stack([(fake != real).any(dim=0).numpy() for real, fake in made(100)])
    border = np.ones((SIDE, SIDE), bool)
    # hairline 0.40 − 0.85 · 0.29, cheek 0.46 − 1.1 · 0.29; moved by 0.03, softened by 0.06; the chin may be cut off
    border[3:, 2:-2] = False
    assert not differs[:, border].any()
    middle = differs[:, 24:48, 24:40].mean(axis=(1, 2))
    assert (middle > 0.2).mean() > 0.9


def test_the_real_beside_a_fake_is_the_image_itself_half_of_the_time():
    real = face()
    same = sum(torch.equal(target, real) for target, _ in made(400))
    assert stats.binomtest(same, 400, 0.5).pvalue > 0.001


def test_a_fake_is_the_blend_of_source_and_target_by_the_mask(monkeypatch):
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[10:20, 10:20], mask[30:40, 30:40] = 1.0, 0.25
    monkeypatch.setattr(self_blend, "_mask", lambda *_: mask)
    monkeypatch.setattr(self_blend, "_moved", lambda image, *_: image)
    monkeypatch.setattr(self_blend, "_sharpness_changed", lambda image, _: image)
    monkeypatch.setattr(self_blend, "_recoloured", lambda image, _: image + 40)
    real = torch.full((3, SIDE, SIDE), 100, dtype=torch.uint8)
    seen = set()
    for target, fake in made(20, real):
        base, source = int(target[0, 0, 0]), int(fake[0, 15, 15])
        assert (base, source) in {(100, 140), (140, 100)}
        assert (fake[:, 30:40, 30:40] == base + (source - base) // 4).all()
        assert int((fake != target).sum()) == 3 * 200
        seen.add(base)
    assert seen == {100, 140}


def test_masks_have_the_papers_ratios_and_end_before_the_edges_above_and_beside():
    found = masks(600)
    top, counts = np.unique([round(float(mask.max()), 5) for mask in found], return_counts=True)
    assert top.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert stats.chisquare(counts, [100, 100, 100, 300]).pvalue > 0.001
    for mask in found:
        assert mask.min() == 0
        assert mask[0].max() == mask[:, [0, -1]].max() == 0


def test_an_oval_is_a_face_high_from_hairline_or_brows_to_the_chin():
    place = (np.arange(400) + 0.5) / 400
    heights, widths = [], []
    for j in range(300):
        inside = self_blend._oval(place[None, :], place[:, None], generator(0, "oval", j))
        heights.append(inside.any(axis=1).mean())
        widths.append(inside.any(axis=0).mean())
    # in distances from eyes to mouth, 0.26 to 0.29 of a side: 1.75 + 0.85, or 1.75 + 0.4; and 2.2 across
    ratio = np.array(heights) / widths
    low = np.abs(ratio - 2.15 / 2.2) < 0.02
    assert np.all(low | (np.abs(ratio - 2.6 / 2.2) < 0.02))
    assert stats.binomtest(int(low.sum()), 300, 0.25).pvalue > 0.001
    assert 0.26 * 2.2 - 0.005 < min(widths) < max(widths) < 0.29 * 2.2 + 0.005


def test_a_moved_image_is_torchvisions():
    image = face().float()
    moved = self_blend._moved(image.numpy(), np.float32([1, 1]), np.float32([2 / SIDE, -3 / SIDE]))
    assert np.allclose(moved[:, 5:-5, 5:-5], image.roll((2, -3), (2, 1))[:, 5:-5, 5:-5], atol=0.05)
    moved = self_blend._moved(image.numpy(), np.float32([1.05, 1.05]), np.float32([4 / SIDE, 1 / SIDE]))
    theirs = TF.affine(image, 0, [4, 1], 1.05, [0, 0], TF.InterpolationMode.BILINEAR)
    assert np.abs(moved - theirs.numpy())[:, 6:-6, 6:-6].max() < 0.1


def test_the_changed_copy_is_shrunk_by_two_or_four_or_sharpened_by_a_kernel_of_nine():
    image = face().numpy().astype(np.float32)
    sharpened, steps = 0, set()
    for j in range(40):
        found, rng = self_blend._sharpness_changed(image, generator(0, "s", j)), generator(0, "s", j)
        if rng.random() < 0.5:
            step = int(rng.choice([2, 4]))
            steps.add(step)
            # bilinear enlarging of every step-th pixel, worked for one pixel: its centre lies between two of them
            at = (31 + 0.5) / step - 0.5
            first, share = int(at), at - int(at)
            rows = [image[0, step * first, ::step], image[0, step * (first + 1), ::step]]
            row = (1 - share) * rows[0] + share * rows[1]
            assert found[0, 31, 31] == pytest.approx(
                (1 - share) * row[first] + share * row[first + 1], abs=1e-3
            )
        else:
            share, lightness = rng.uniform(0.2, 0.5), rng.uniform(0.5, 1.0)
            kernel = share * np.array([[-1, -1, -1], [-1, 8 + lightness, -1], [-1, -1, -1]])
            kernel[1, 1] += 1 - share
            theirs = np.stack([ndimage.convolve(plane, kernel) for plane in image]).clip(0, 255)
            assert np.abs(found - theirs).max() < 0.01
            sharpened += 1
    assert steps == {2, 4}
    assert 8 < sharpened < 32


def test_colours_are_shifted_each_on_its_own_in_three_of_ten_and_exposed_always():
    grey = np.full((3, 8, 8), 128, np.float32)
    found = [self_blend._recoloured(grey, generator(0, "c", j))[:, 0, 0] for j in range(400)]
    coloured = sum(bool(np.ptp(colour) > 0.5) for colour in found)
    assert stats.binomtest(coloured, 400, 0.3).pvalue > 0.001
    # (128 ± 20) · (1 ± 0.1) ± 25.5
    assert 108 * 0.9 - 25.5 <= np.min(found) < np.max(found) <= 148 * 1.1 + 25.5


def test_reals_are_drawn_alone_half_a_minibatch_of_them():
    labels = np.array([0, 1, 0, 1, 1, 0, 0])
    reals = reals_of(IndexSampler([1, 2, 3, 5], 7, np.ones(4)), labels, 0)
    assert reals.indices.tolist() == [2, 5]
    assert reals.batch_size == 4
    with pytest.raises(
        RogaError, match="'sbi' makes fakes of reals, and environment 3 has no real to train on"
    ):
        reals_of(IndexSampler([1, 3], 4), labels, 3)


def test_pairs_are_reals_and_then_their_fakes_which_share_what_follows():
    n = 32
    images = [face(j).permute(1, 2, 0).contiguous() for j in range(n)]
    drawn = draws.draw(AUGMENTATIONS["sbi"], generator(0, "d"), np.full((n, 2), SIDE))
    x, y, both = pairs(images, n - 1, drawn, SIDE, [generator(0, "p", j) for j in range(n)])
    assert x.shape == (2 * n - 1, 3, SIDE, SIDE)
    assert y.tolist() == [0] * n + [1] * (n - 1)
    plain = np.flatnonzero(drawn.jpeg[:-1] == 0)
    exposed = np.flatnonzero((drawn.exposure != (1, 0)).any(axis=1) | drawn.tint.any(axis=1))
    assert len(set(plain) & set(exposed)) >= 4
    for j in plain:
        assert torch.equal(x[j, :, :6], x[n + j, :, :6])  # above the hairline
        assert not torch.equal(x[j], x[n + j])
    assert np.array_equal(both.jpeg[n:], drawn.jpeg[:-1])
    assert np.array_equal(both.tint[n:], drawn.tint[:-1])


def test_sbis_later_steps_have_its_chances_and_ranges():
    d = draws.draw(AUGMENTATIONS["sbi"], generator(0, "many"), np.full((4000, 2), SIDE))
    exposed = (d.exposure != (1, 0)).any(axis=1)
    for flags, chance in ((d.flip, 0.5), (d.tint.any(axis=1), 0.3), (exposed, 0.3), (d.jpeg > 0, 0.5)):
        assert stats.binomtest(int(flags.sum()), len(flags), chance).pvalue > 0.001
    for values, limit in (
        (d.tint[d.tint.any(axis=1)].ravel(), 20),
        ((d.exposure[exposed] - (1, 0)).ravel(), 0.3),
    ):
        assert stats.kstest(values, stats.uniform(-limit, 2 * limit).cdf).pvalue > 0.001
    assert (d.jpeg[d.jpeg > 0].min(), d.jpeg.max()) == (40, 100)
