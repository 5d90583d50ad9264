"""Policies against maps worked by hand, and against the statistics that they promise."""

from __future__ import annotations

import math
import weakref

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from facex_tune import parts
from facex_tune.augment import _operations
from facex_tune.augment._affine import Ranges, random_maps, resample
from facex_tune.augment._mixing import Mixing
from facex_tune.augment._operations import OPERATIONS
from facex_tune.data.sources import synthetic
from facex_tune.inspection.augment_sheets import sheet
from facex_tune.testing import no_host_waits

CPU = torch.device("cpu")
N = 4000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def faces(n: int = 8, side: int = 48) -> Tensor:
    return torch.rand(n, 1, side, side, generator=generator(1))


def half_white(n: int) -> Tensor:
    """White on the left, black on the right: mirrored faces are told at a glance."""
    given = torch.zeros(n, 1, 48, 48)
    given[..., :24] = 1.0
    return given


def is_mirrored(made_N1HW: Tensor) -> Tensor:
    return made_N1HW[..., :24].mean((1, 2, 3)) < made_N1HW[..., 24:].mean((1, 2, 3))


def close_to_half(share: float) -> bool:
    """Within five standard deviations of N fair draws."""
    return abs(share - 0.5) < 5 * 0.5 / math.sqrt(N)


def theta(**ranges: float) -> Tensor:
    return random_maps(N, Ranges(**{"flip": False, **ranges}), generator(), CPU)


def uniform_within(drawn_N: Tensor, limit: float) -> bool:
    """Evenly in ± limit: inside, near both ends, and centred."""
    inside = bool((drawn_N.abs() <= limit * (1 + 1e-5)).all())
    reaches = float(drawn_N.max()) > 0.98 * limit and float(drawn_N.min()) < -0.98 * limit
    return inside and reaches and abs(float(drawn_N.mean())) < 5 * limit / math.sqrt(3 * N)


# Affine maps


def test_no_range_is_the_identity() -> None:
    given = faces()
    # grid coordinates are rounded to float32, some 1e-6 of a pixel's difference
    assert torch.allclose(resample(given, Ranges(flip=False), generator()), given, atol=1e-4)


def test_a_tiny_range_moves_almost_nothing() -> None:
    """A hundredth of a pixel at the corner moves a face of noise by a hundredth of its contrast at most."""
    tiny = Ranges(degrees=0.01, zoom=1e-4, shift=1e-4, shear=1e-4, flip=False)
    made = resample(faces(), tiny, generator())
    assert not torch.equal(made, faces())
    assert torch.allclose(made, faces(), atol=0.05)


def test_rotation_keeps_lengths_and_angles_and_is_even() -> None:
    linear_N22 = theta(degrees=20)[:, :, :2]
    assert torch.allclose(linear_N22 @ linear_N22.mT, torch.eye(2).expand(N, 2, 2), atol=1e-5)
    assert torch.allclose(linear_N22.det(), torch.ones(N), atol=1e-5)
    assert uniform_within(torch.atan2(linear_N22[:, 1, 0], linear_N22[:, 0, 0]).rad2deg(), 20)


def test_zoom_is_the_same_in_both_axes() -> None:
    linear_N22 = theta(zoom=0.15)[:, :, :2]
    assert torch.equal(linear_N22[:, 0, 0], linear_N22[:, 1, 1])
    assert not linear_N22[:, 0, 1].any()
    assert uniform_within(linear_N22[:, 0, 0] - 1, 0.15)


def test_shift_is_a_share_of_the_side_in_each_axis_by_itself() -> None:
    shift_N2 = theta(shift=0.2)[:, :, 2]
    assert uniform_within(shift_N2[:, 0], 0.4), "grid coordinates span 2"
    assert uniform_within(shift_N2[:, 1], 0.4)
    correlation = float(torch.corrcoef(shift_N2.T)[0, 1])
    assert abs(correlation) < 5 / math.sqrt(N)


def test_a_shift_moves_the_face_by_that_many_pixels() -> None:
    map_N23 = theta(shift=0.25)[:1]
    pixels = float(map_N23[0, 0, 2]) * 24
    ramp = torch.linspace(0, 1, 48).expand(1, 1, 48, 48)
    made = resample(ramp, Ranges(shift=0.25, flip=False), torch.Generator().manual_seed(0))
    one = random_maps(1, Ranges(shift=0.25, flip=False), generator(), CPU)
    pixels = float(one[0, 0, 2]) * 24
    middle = float(made[0, 0, 24, 24] - ramp[0, 0, 24, 24]) * 47
    assert middle == pytest.approx(pixels, abs=1e-3)


def test_shear_leans_columns_and_keeps_rows_and_area() -> None:
    linear_N22 = theta(shear=0.15)[:, :, :2]
    assert uniform_within(linear_N22[:, 0, 1], 0.15)
    assert torch.equal(linear_N22[:, :, 0], torch.tensor([1.0, 0.0]).expand(N, 2))
    assert torch.allclose(linear_N22.det(), torch.ones(N))


def test_beyond_the_edge_stands_the_nearest_pixel() -> None:
    white = torch.ones(16, 1, 48, 48)
    made = resample(white, Ranges(degrees=30, zoom=0.3, shift=0.3, shear=0.3), generator())
    assert torch.allclose(made, white)


def test_a_mirrored_face_is_its_mirror_image() -> None:
    given = faces(64)
    made = resample(given, Ranges(), generator())
    mirrored_N = random_maps(64, Ranges(), generator(), CPU)[:, 0, 0] < 0
    assert 10 < int(mirrored_N.sum()) < 54
    expected = torch.where(mirrored_N[:, None, None, None], given.flip(3), given)
    assert torch.allclose(made, expected, atol=1e-4)


# The policies


@pytest.mark.parametrize("strength", [0.1, 1.0])
def test_facex_mirrors_every_second_face(strength: float) -> None:
    made = parts.augment("facex").build({"strength": strength})(half_white(N), generator())
    assert close_to_half(float(is_mirrored(made).float().mean()))


def test_facex_is_gentler_when_weaker() -> None:
    given = faces(256)
    moved = []
    for strength in (0.1, 0.7, 1.5):
        made = parts.augment("facex").build({"strength": strength})(half_white(256), generator())
        unmirrored = torch.where(is_mirrored(made)[:, None, None, None], made.flip(3), made)
        moved.append(float((unmirrored - half_white(256)).abs().mean()))
    assert 0 < moved[0] < moved[1] < moved[2]
    assert len(given) == 256


def test_facex_at_full_strength_is_the_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Ranges] = []
    monkeypatch.setattr(
        "facex_tune.augment._affine.resample", lambda given, ranges, generator: (seen.append(ranges), given)[1]
    )
    parts.augment("facex").build({"strength": 1.0})(faces(), generator())
    assert seen == [Ranges(degrees=20, zoom=0.15, shift=0.2, shear=0.15, flip=True)]


def test_flip_shift_mirrors_every_second_face() -> None:
    made = parts.augment("flip_shift").build({"pixels": 4})(half_white(N), generator())
    assert close_to_half(float(is_mirrored(made).float().mean()))


@pytest.mark.parametrize("pixels", [1, 8])
def test_flip_shift_moves_by_whole_pixels_up_to_its_knob(pixels: int) -> None:
    """A face whose pixels tell their own row and column."""
    n = 2000
    rows, columns = torch.arange(48.0)[:, None].expand(48, 48), torch.arange(48.0).expand(48, 48)
    build = parts.augment("flip_shift").build({"pixels": pixels})
    down = build(rows.expand(n, 1, 48, 48), generator())[:, 0, 24, 24] - 24
    across_NW = build(columns.expand(n, 1, 48, 48), generator())[:, 0, 24, 16:33]
    mirrored_N = across_NW[:, 0] > across_NW[:, -1]
    assert set(down.tolist()) == set(range(-pixels, pixels + 1))
    assert set((across_NW[~mirrored_N, 8] - 24).tolist()) == set(range(-pixels, pixels + 1))
    assert set((across_NW[mirrored_N, 8] - 23).tolist()) == set(range(-pixels, pixels + 1))
    assert bool((across_NW.diff(dim=1).abs() == 1).all()), "neighbours stay neighbours"


def test_no_augmentation_is_the_face_itself() -> None:
    assert torch.equal(parts.augment("none").build({})(faces(), generator()), faces())


def test_affine_hands_each_knob_to_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Ranges] = []
    monkeypatch.setattr(
        "facex_tune.augment._affine.resample", lambda given, ranges, generator: (seen.append(ranges), given)[1]
    )
    knobs = {"degrees": 1.0, "zoom": 0.2, "shift": 0.03, "shear": 0.04, "flip": False}
    parts.augment("affine").build(knobs)(faces(), generator())
    assert seen == [Ranges(degrees=1.0, zoom=0.2, shift=0.03, shear=0.04, flip=False)]


# Operations, one at a time


def operated(name: str, magnitude: float, given: Tensor) -> Tensor:
    n = len(given)
    return _operations.apply(given, torch.full((n,), OPERATIONS.index(name)), torch.full((n,), magnitude))


def smooth_faces(n: int = 4) -> Tensor:
    """Whole greys within .3 to .6, so that nothing here is clipped."""
    return ((0.3 + 0.3 * functional.avg_pool2d(faces(n, 52), 5, 1)) * 255).round() / 255


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_of_no_magnitude_changes_nothing(name: str) -> None:
    given = smooth_faces()
    if name != "autocontrast":
        assert torch.allclose(operated(name, 0.0, given), given, atol=1e-4)


def test_identity_is_exact() -> None:
    assert torch.equal(operated("identity", 1.0, faces()), faces())


@pytest.mark.parametrize("magnitude", [-1.0, 0.5])
def test_tones_are_blends(magnitude: float) -> None:
    given = smooth_faces()
    assert torch.allclose(operated("brightness", magnitude, given), (given * (1 + 0.4 * magnitude)).clamp(0, 1))
    mean = given.mean((2, 3), keepdim=True)
    assert torch.allclose(operated("contrast", magnitude, given), mean + (given - mean) * (1 + 0.5 * magnitude))
    middle = given[:, :, 1:-1, 1:-1]
    around = functional.avg_pool2d(given, 3, 1) * 9
    blurred = (around + 4 * middle) / 13
    expected = blurred + (middle - blurred) * (1 + 0.5 * magnitude)
    assert torch.allclose(operated("sharpness", magnitude, given)[:, :, 1:-1, 1:-1], expected, atol=1e-5)


def test_posterize_leaves_so_many_greys() -> None:
    ramp = (torch.arange(2304) % 256).reshape(1, 1, 48, 48) / 255
    assert len(operated("posterize", 1.0, ramp).unique()) == 32, "three of eight bits off"
    assert len(operated("posterize", -1 / 3, ramp).unique()) == 128


def test_autocontrast_goes_from_black_to_white() -> None:
    made = operated("autocontrast", 0.0, smooth_faces())
    assert torch.allclose(made.amin((2, 3)), torch.zeros(4, 1))
    assert torch.allclose(made.amax((2, 3)), torch.ones(4, 1))
    grey = torch.full((1, 1, 48, 48), 0.4)
    assert torch.equal(operated("autocontrast", 0.0, grey), grey)


@pytest.mark.parametrize(("name", "axis"), [("translate_x", 3), ("translate_y", 2)])
def test_translations_move_by_a_share_of_the_side(name: str, axis: int) -> None:
    given = torch.linspace(0, 1, 48).expand(1, 1, 48, 48)
    given = given if axis == 3 else given.mT
    moved = operated(name, 0.5, given) - given
    middle = float(moved[0, 0, 24, 24]) * 47
    assert middle == pytest.approx(0.1 * 48, abs=1e-3)


@pytest.mark.parametrize("name", ["shear_x", "shear_y"])
def test_shears_lean_one_axis_alone(name: str) -> None:
    ramp = torch.linspace(0, 1, 48).expand(1, 1, 48, 48)
    across = ramp if name == "shear_x" else ramp.mT  # changes along the axis that leans
    assert torch.allclose(operated(name, 1.0, across.mT), across.mT, atol=1e-5)
    leaning = (operated(name, 1.0, across) - across)[0, 0]
    near, far = (leaning[34, 24], leaning[14, 24]) if name == "shear_x" else (leaning[24, 34], leaning[24, 14])
    assert float(near - far) * 47 == pytest.approx(20 * 0.3, abs=0.05)


def test_rotation_turns_by_thirty_degrees_at_most() -> None:
    spot = torch.zeros(1, 1, 48, 48)
    spot[0, 0, 23:25, 40:42] = 1.0  # 16.5 pixels to the right of the middle
    made = operated("rotate", 1.0, spot)[0, 0]
    rows, columns = torch.arange(48.0) - 23.5, torch.arange(48.0) - 23.5
    down, across = float((made.sum(1) * rows).sum() / made.sum()), float((made.sum(0) * columns).sum() / made.sum())
    assert math.hypot(down, across) == pytest.approx(17, abs=0.2)
    assert abs(math.degrees(math.atan2(down, across))) == pytest.approx(30, abs=1)


def test_each_face_feels_its_own_operation_alone() -> None:
    """All at once is the same as one by one."""
    n = len(OPERATIONS)
    given = smooth_faces(n)
    together = _operations.apply(given, torch.arange(n), torch.full((n,), 0.7))
    alone = torch.cat([operated(name, 0.7, given[place : place + 1]) for place, name in enumerate(OPERATIONS)])
    assert torch.allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("name", ["trivialaugment", "randaugment"])
def test_random_operations_cover_the_list_and_mirror_when_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def noted(given: Tensor, operation_N: Tensor, magnitude_N: Tensor) -> Tensor:
        seen.append((operation_N, magnitude_N))
        return given

    monkeypatch.setattr(_operations, "apply", noted)
    usual = {knob: space.default for knob, space in parts.augment(name).SPACE.items()}
    mirrored = parts.augment(name).build(usual)(half_white(N), generator())
    assert close_to_half(float(is_mirrored(mirrored).float().mean()))
    assert not is_mirrored(parts.augment(name).build(usual | {"flip": False})(half_white(N), generator())).any()
    assert len(seen) == (4 if name == "randaugment" else 2), "two operations in a row, or one"
    operation_N, magnitude_N = seen[0]
    if name == "randaugment":
        assert not (operation_N == seen[1][0]).any(), "no operation comes twice on a face"
    counts = torch.bincount(operation_N, minlength=len(OPERATIONS))
    expected = N / len(OPERATIONS)
    assert float((counts - expected).abs().max()) < 5 * math.sqrt(expected)
    assert close_to_half(float((magnitude_N > 0).float().mean()) + (1 / 62 if name == "trivialaugment" else 0))
    values = set(magnitude_N.abs().mul(30).round().int().tolist())
    assert values == ({15} if name == "randaugment" else set(range(31)))


# What combines with any policy


def targets(n: int) -> Tensor:
    return functional.one_hot(torch.arange(n) % 7, 7).float()


def test_nothing_asked_is_nothing_done_and_nothing_drawn() -> None:
    source, given, wanted = generator(), faces(), targets(8)
    made, labels = Mixing()(given, wanted, source)
    assert made is given
    assert labels is wanted
    assert torch.equal(source.get_state(), generator().get_state())


@pytest.mark.parametrize("mixing", [Mixing(mixup=0.4), Mixing(cutmix=1.0), Mixing(mixup=1.0, cutmix=1.0)])
def test_labels_are_mixed_as_faces_are(mixing: Mixing) -> None:
    """A face painted in the share of class 0 must show, on average, the share of class 0 in its target."""
    n = 512
    share_N2 = functional.one_hot(torch.arange(n) % 2, 2).float()
    given = share_N2[:, 0, None, None, None].expand(n, 1, 48, 48)
    made, mixed = mixing(given, share_N2, generator())
    assert torch.allclose(made.mean((1, 2, 3)), mixed[:, 0], atol=1e-5)
    assert torch.allclose(mixed.sum(1), torch.ones(n))
    assert 0.1 < float((mixed.amax(1) < 0.99).float().mean()) < 0.9
    greys = [len(face.unique()) for face in made]
    if mixing.cutmix == 0:
        assert max(greys) == 1, "mixup blends whole faces"
    elif mixing.mixup == 0:
        assert bool(((made == 0) | (made == 1)).all()), "cutmix copies pixels"
        assert max(greys) == 2
    else:
        assert set(greys) == {1, 2}, "either, by face"


def test_a_table_of_draws_goes_with_its_mixing() -> None:
    """A search tries hundreds of strengths in one process, and a device's memory is small."""
    mixing = Mixing(mixup=0.3)
    mixing(torch.rand(4, 1, 48, 48), torch.rand(4, 7), generator())
    table = weakref.ref(mixing._tables[0.3])
    del mixing
    assert table() is None


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0])
def test_beta_draws_have_its_mean_and_variance(alpha: float) -> None:
    drawn = Mixing()._beta(alpha, 200_000, generator())
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


def test_erasing_takes_a_box_from_as_many_faces_as_asked() -> None:
    given = torch.full((N, 1, 48, 48), 2.0)  # a value that no random pixel has
    made, labels = Mixing(erasing=0.5)(given, targets(N), generator())
    share_N = (made != 2.0).float().mean((1, 2, 3))
    assert close_to_half(float((share_N > 0).float().mean()))
    assert float(share_N.max()) <= 0.27, "a quarter, and a pixel more each way"
    assert torch.equal(labels, targets(N))
    first = (made[int(share_N.argmax()), 0] != 2.0).float()
    assert torch.equal(first, first.amax(1, keepdim=True) * first.amax(0, keepdim=True)), "a rectangle"


def test_noise_is_of_a_strength_of_its_own_for_every_face() -> None:
    given = torch.full((N, 1, 16, 16), 0.5)
    made, labels = Mixing(noise=0.1)(given, targets(N), generator())
    strength_N = (made - given).std((1, 2, 3))
    assert 0.09 < float(strength_N.max()) < 0.12
    assert float(strength_N.min()) < 0.001
    assert float(strength_N.mean()) == pytest.approx(0.05, abs=0.003)
    assert torch.equal(labels, targets(N))


@pytest.mark.parametrize("mixing", [Mixing(0.4, 1.0, 0.5, 0.1), Mixing(mixup=2.0), Mixing(cutmix=0.2)])
def test_mixing_never_waits_and_repeats_from_its_generator(mixing: Mixing) -> None:
    mixing(faces(), targets(8), generator())  # the first fills the table of draws
    given, wanted = faces(), targets(8)
    with no_host_waits():
        made, mixed = mixing(given, wanted, generator(3))
    again, mixed_again = mixing(faces(), targets(8), generator(3))
    assert torch.equal(made, again)
    assert torch.equal(mixed, mixed_again)
    assert 0 <= float(made.min()) <= float(made.max()) <= 1


def test_a_sheet_shows_each_face_beside_what_becomes_of_it() -> None:
    images = synthetic.generate(3, seed=1).images_NHW
    picture = sheet("flip_shift", {"pixels": 2}, images_NHW=images, rows=3, draws=4, mixing=Mixing(noise=0.05))
    assert picture.shape == (3 * 50, 5 * 50 + 2)
    assert (picture[:48, :48] == images[0]).all()
    assert not (picture[:48, 52:100] == images[0]).all()
    assert (picture[:, 48:52] == 255).all()
