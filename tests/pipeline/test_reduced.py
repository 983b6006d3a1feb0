"""Decoding at a reduced scale: which images, with which boxes, to which pixels."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hjepa.kernels.fused_crops import MissingKernelError
from hjepa.pipeline.backend import BackendSettings, open_backend
from hjepa.pipeline.backends.torchvision import render_image
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.draws import LEAST_KEPT, draw
from hjepa.pipeline.header import is_reducible, open_content
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.quarantine import BadImageError
from hjepa.pipeline.recipe import Recipe, View

fused = pytest.mark.fused
WHOLE = Recipe(
    name="test",
    source="",
    views=(
        View(name="global", count=2, size=32, area=(0.4, 1.0), blur=0, gray=0),
        View(name="local", count=2, size=16, area=(0.1, 0.4), blur=0, gray=0),
    ),
)
REDUCED = replace(WHOLE, decoding="reduced")
SIZES = np.array([[60, 80], [300, 200], [201, 403], [799, 801]] * 50, dtype=np.int32)


def saved(pixels: np.ndarray, kind: str = "JPEG", mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def smooth(height: int, width: int) -> np.ndarray:
    """[height, width, 3]: waves, so that what is off by a pixel shows."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + shift) * np.cos(y / 7 - shift) for shift in range(3)]
    return (127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def turned(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


REDUCIBLE = {
    "4:2:0": {},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0},
    "gray": {"mode": "L"},
    "restarts": {"restart_marker_blocks": 3},
    "progressive": {"progressive": True},
    **{f"turned {number}": {"exif": turned(number)} for number in range(1, 9)},
}
OTHER = {
    "RGB": {"keep_rgb": True},
    "CMYK": {"mode": "CMYK"},
    "PNG": {"kind": "PNG"},
    "WebP": {"kind": "WEBP"},
    "BMP": {"kind": "BMP"},
    "TIFF": {"kind": "TIFF"},
}


def test_without_it_nothing_is_reduced() -> None:
    assert set(draw(WHOLE, 0, 0, np.arange(len(SIZES)), SIZES).reduction.tolist()) == {1}
    assert "decoding" not in WHOLE.to_dict()  # so that states of earlier versions are this recipe's
    assert REDUCED.to_dict()["decoding"] == "reduced"


def test_boxes_are_whole_pixels_of_the_reduced_image_nearest_to_those_drawn() -> None:
    indices = np.arange(len(SIZES))
    plain, reduced = draw(WHOLE, 0, 0, indices, SIZES), draw(REDUCED, 0, 0, indices, SIZES)
    by = reduced.reduction[:, None, None]
    assert set(reduced.reduction.tolist()) == {1, 2, 4}
    kept = []
    for view in WHOLE.views:
        drawn, box = plain.views[view.name], reduced.views[view.name].box
        np.testing.assert_array_equal(box % by, 0)
        np.testing.assert_array_equal(box[reduced.reduction == 1], drawn.box[reduced.reduction == 1])
        ends, drawn_ends = box[..., :2] + box[..., 2:], drawn.box[..., :2] + drawn.box[..., 2:]
        assert (box[..., :2] >= 0).all()
        assert (ends <= SIZES[:, None]).all()
        assert (abs(box[..., :2] - drawn.box[..., :2]) <= by / 2).all()
        assert (abs(ends - drawn_ends) < by).all()
        last = ends == SIZES[:, None] // by * by  # of an image that is no multiple the last pixels are left out
        assert (last | (abs(ends - drawn_ends) <= by / 2)).all()
        kept.append((drawn.box[..., 2:] / view.size).min(axis=(1, 2)))
        np.testing.assert_array_equal(drawn.flip, reduced.views[view.name].flip)
        np.testing.assert_array_equal(drawn.jitter, reduced.views[view.name].jitter)
    least = np.minimum(*kept)
    np.testing.assert_array_equal(
        reduced.reduction, np.where(least >= 4 * LEAST_KEPT, 4, np.where(least >= 2 * LEAST_KEPT, 2, 1))
    )


def test_an_image_is_reduced_as_far_as_a_crops_every_pixel_has_1_4_of_its_own_left() -> None:
    whole = replace(REDUCED, views=(View(name="global", count=1, size=50, crop="center", area=(1, 1)),))
    sizes = np.repeat([[139], [140], [279], [280]], 2, axis=1).astype(np.int32)
    assert draw(whole, 0, 0, np.arange(4), sizes).reduction.tolist() == [1, 2, 2, 4]


def test_box_of_an_image_with_a_side_near_2_31_stays_whole() -> None:
    whole = replace(REDUCED, views=(View(name="global", count=1, size=1, area=(1, 1), ratio=(2**31 - 1,) * 2),))
    drawn = draw(whole, 0, 0, np.arange(1), np.array([[1, 2**31 - 1]], dtype=np.int32))
    assert drawn.views["global"].box.tolist() == [[[0, 0, 1, 2**31 - 1]]]


def test_a_box_never_vanishes() -> None:
    tiny = replace(REDUCED, views=(View(name="global", count=4, size=1, area=(1e-4, 1.0)),))
    sizes = np.stack(np.mgrid[1:60, 1:60], axis=-1).reshape(-1, 2).astype(np.int32)
    drawn = draw(tiny, 0, 0, np.arange(len(sizes)), sizes)
    box = drawn.views["global"].box
    assert (drawn.reduction > 1).any()
    assert (box[..., :2] >= 0).all()
    assert (box[..., 2:] >= drawn.reduction[:, None, None]).all()
    assert (box[..., :2] + box[..., 2:] <= sizes[:, None]).all()


def test_crops_that_share_boxes_are_all_asked() -> None:
    large = View(name="teacher", count=1, size=128, area=(0.4, 1.0), same_box_as="global")
    recipe = replace(REDUCED, views=(replace(WHOLE.views[0], count=1), large))
    sizes = np.full((20, 2), 300, dtype=np.int32)
    assert (draw(replace(recipe, views=recipe.views[:1]), 0, 0, np.arange(20), sizes).reduction > 1).any()
    assert set(draw(recipe, 0, 0, np.arange(20), sizes).reduction.tolist()) == {1}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """One of each kind."""
    kinds = {**REDUCIBLE, **OTHER}
    for name, options in kinds.items():
        Path(tmp_path, f"{name.replace(':', '')}.jpg").write_bytes(saved(smooth(251, 347), **options))
    return tmp_path


def batch_of(source: Any, recipe: Recipe, backend: Any, batch_size: int = 20) -> Batch:
    with Loader(source, recipe, batch_size=batch_size, backend=backend, device="cpu", num_workers=1) as loader:
        return next(iter(loader))


@fused
@pytest.mark.parametrize("from_files", [True, False])
@pytest.mark.parametrize("turns", [False, True])
def test_every_backend_reduces_the_same_images_to_the_same_pixels(
    images: Path, turns: bool, from_files: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    jpeg = pytest.importorskip("hjepa.kernels._jpeg")
    found: list[np.ndarray] = []
    original = jpeg.reductions
    monkeypatch.setattr(jpeg, "reductions", lambda *images: found.append(original(*images)) or found[-1])
    recipe = replace(REDUCED, orientation="exif" if turns else "ignore")
    names = sorted(path.stem for path in images.iterdir())
    source = images if from_files else [path.read_bytes() for path in sorted(images.iterdir())]
    ours = batch_of(source, recipe, "fused")
    theirs = batch_of(source, recipe, "torchvision")
    assert ours.keys == theirs.keys
    for name in ("global", "local"):
        np.testing.assert_array_equal(ours.boxes[name], theirs.boxes[name])
        levels = 255 * 0.22 * (ours.crops[name] - theirs.crops[name]).abs()
        assert levels.max() < 10
        assert levels.mean() < 0.1
    native = {name.replace(":", "") for name in REDUCIBLE}
    is_native = np.array([names[index] in native for index in ours.indices.tolist()])
    asked = ours.draws.reduction
    np.testing.assert_array_equal(found[0], np.where(is_native, asked, 1))
    assert {2, 4} <= set(asked[is_native].tolist())
    assert asked[~is_native].max() > 1


def test_what_the_decoder_takes_is_known_from_the_header() -> None:
    jpeg = pytest.importorskip("hjepa.kernels._jpeg", reason="hjepa's JPEG decoder was not built: there was no C++ compiler")
    pixels = smooth(40, 50)
    for options in (*REDUCIBLE.values(), *OTHER.values()):
        content = saved(pixels, **options)
        with open_content(content) as image:
            assert is_reducible(image) == (jpeg.decode(content, 40, 50, reduction=2) is not None), options


def test_levels_are_nearly_those_of_the_whole_image(photographs: Path) -> None:
    gaps: dict[int, list[np.ndarray]] = {2: [], 4: []}
    recipe = replace(REDUCED, mean=(0, 0, 0), std=(1, 1, 1), views=(replace(REDUCED.views[0], area=(0.1, 1.0), jitter=None),))
    for number, path in enumerate(sorted(photographs.glob("*.jpg"))):
        with Image.open(path) as whole, Image.open(path) as reduced:
            draws = draw(recipe, 0, 0, np.array([number]), np.array([[whole.height, whole.width]]))
            by = int(draws.reduction[0])
            if by > 1:
                reduced.draft(None, (whole.width // by, whole.height // by))
                crops = [
                    render_image(image.convert("RGB"), recipe, draws, 0, scale) for image, scale in ((whole, 1), (reduced, by))
                ]
                gaps[by].append(255 * (crops[0]["global"] - crops[1]["global"]).abs().numpy())
    for found in gaps.values():
        assert len(found) > 3
        assert 0 < np.mean(np.stack(found)) < 0.7
        assert np.percentile(np.stack(found), 99) <= 5


@fused
def test_a_file_cannot_ask_for_itself(tmp_path: Path) -> None:
    """The mark is this process's; a segment of another one's is what it always was, nothing."""
    content = saved(smooth(301, 403))
    jpeg = pytest.importorskip("hjepa.kernels._jpeg")
    segment = jpeg.segment(4)
    other = segment[:4] + bytes(byte ^ 1 for byte in segment[4:-1]) + segment[-1:]
    plain, marked = (batch_of([content[:2] + put + content[2:]] * 4, WHOLE, "fused", batch_size=4) for put in (b"", other))
    assert torch.equal(plain.globals, marked.globals)


@fused
@pytest.mark.parametrize("cut", [1, 2, 3, 10, 18, 1000])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"kind": "TIFF"}], ids=str)
def test_files_that_were_cut_off_are_refused_as_ever(options: dict[str, Any], cut: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (251, 347, 3), dtype=np.uint8)
    content = saved(noise, **options)
    for recipe in (WHOLE, REDUCED):
        with (
            Loader(
                [content[:-cut], content], recipe, batch_size=2, backend="fused", device="cpu", num_workers=1, on_error="raise"
            ) as loader,
            pytest.raises(BadImageError),
        ):
            next(iter(loader))


def reducing(device: str) -> BackendSettings:
    return BackendSettings(
        recipe=REDUCED,
        batch_size=4,
        device=torch.device(device),
        num_workers=1,
        prefetch=1,
        pin_memory=False,
        dtype=torch.float32,
    )


@pytest.mark.dali
@pytest.mark.parametrize(("backend", "device"), [("dali-ops", "cpu"), ("fused", "cuda"), ("dali-ops", "cuda")])
def test_who_cannot_reduce_says_so(backend: Any, device: str) -> None:
    with pytest.raises(
        ValueError, match=rf"decoding='reduced' is for a CPU .* not for '{backend}' on {device}; use decoding='full'$"
    ):
        open_backend(backend, reducing(device))


def test_where_dali_cannot_reduce_for_want_of_the_kernel_the_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> list[str]:
        raise MissingKernelError

    monkeypatch.setattr("hjepa.pipeline.backend.builds", missing)
    with pytest.raises(
        ValueError, match=r"not for 'dali-ops' on cpu; use decoding='full', or install hjepa again, with a C\+\+"
    ):
        open_backend("dali", reducing("cpu"))


@pytest.mark.fused
def test_without_the_decoder_nothing_is_said_to_be_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hjepa.pipeline.backends.dali_jpeg.decoder_file", lambda: None)
    with pytest.raises(ValueError, match="decoding='reduced' needs hjepa's JPEG decoder, which takes no part"):
        open_backend("fused", reducing("cpu"))


def test_a_state_of_the_other_decoding_is_refused(photographs: Path) -> None:
    with Loader(photographs, REDUCED, batch_size=8, backend="torchvision", device="cpu") as loader:
        state = loader.state_dict()
    with (
        Loader(photographs, WHOLE, batch_size=8, backend="torchvision", device="cpu") as loader,
        pytest.raises(ValueError, match=r"recipe\.decoding was 'reduced', now 'full'"),
    ):
        loader.load_state_dict(state)
