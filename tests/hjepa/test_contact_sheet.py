"""A contact sheet shows what a Loader gives: its crops, its boxes, its draws in words, and the masks of its keys."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from hjepa import contact_sheet
from hjepa.contact_sheet import MASKS, fitting_patch_size, gather, write
from hjepa.draws_in_words import in_words
from hjepa.mask_veil import show_over
from hjepa.pipeline.backend import BackendName
from hjepa.pipeline.draws import draw
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.mask_panel import CONTEXT, FIRST_TARGET, NEITHER, roles
from hjepa.pipeline.multicrop_masks import MultiCropMaskGenerator
from hjepa.pipeline.presets import PRESETS, preset
from hjepa.pipeline.presets.jepa import evaluation, multicrop
from hjepa.pipeline.recipe import Jitter, Recipe, View

SMALL = multicrop(global_crop_size=48, local_crop_size=32, num_local_crops=4)
BACKENDS: list[BackendName] = ["torchvision", "dali", "dali-ops"]


@pytest.mark.dali
@pytest.mark.parametrize("backend", BACKENDS)
def test_sheet_shows_the_loaders_crops_and_boxes(backend: BackendName, labelled: Path) -> None:
    sheet = gather(labelled, SMALL, backend=backend, count=3, device="cpu", seed=5, epoch=2)
    with Loader(labelled, SMALL, batch_size=3, backend=backend, device="cpu", seed=5, num_workers=1) as loader:
        loader.set_epoch(2)
        batch = next(iter(loader))
    assert [image.key for image in sheet.images] == list(batch.keys)
    assert {image.label for image in sheet.images} <= {"dark", "light"}
    mean, std = (np.array(values) for values in (SMALL.mean, SMALL.std))
    for number, image in enumerate(sheet.images):
        assert [crop.name for crop in image.crops] == ["global 0", "global 1", *(f"local {crop}" for crop in range(4))]
        boxes = [tuple(views[crop, number].tolist()) for views in batch.boxes.values() for crop in range(len(views))]
        assert [crop.box for crop in image.crops] == boxes
        with Image.open(labelled / image.key) as stored:
            assert np.array_equal(image.pixels, np.asarray(stored.convert("RGB")))
        for crop, tensor in zip(image.crops, batch.views(), strict=True):
            expected = tensor[number].numpy().transpose(1, 2, 0) * std + mean
            assert np.abs(crop.pixels / 255 - expected.clip(0, 1)).max() < 0.6 / 255


def test_masks_are_those_of_the_batchs_keys(labelled: Path) -> None:
    sheet = gather(labelled, SMALL, backend="torchvision", masks="cross_crop_prediction", patch_size=8, count=2, device="cpu")
    with Loader(labelled, SMALL, batch_size=2, backend="torchvision", device="cpu", num_workers=0) as loader:
        keys = next(iter(loader)).mask_keys
    generator = MultiCropMaskGenerator(48, 32, 2, 4, 8, masking_strategy="cross_crop_prediction", num_local_hierarchies=1)
    masks, local = generator.sample(keys), generator.sample_local(keys)
    for image in range(2):
        crops = sheet.images[image].crops
        for crop in range(2):
            for level in range(3):
                expected = roles(masks.context[crop, level, image], masks.targets[crop, level, image], (6, 6))
                assert np.array_equal(crops[crop].levels[level], expected)
            masked = roles(local.context[crop, 0, image], local.targets[crop, 0, image], (4, 4))
            assert np.array_equal(crops[2 + crop].levels[0], masked)
            assert (masked >= FIRST_TARGET).any()
            assert (crops[4 + crop].levels[0] == CONTEXT).all()  # the other half is read as a whole


@pytest.mark.parametrize("masks", MASKS)
def test_every_strategy_and_a_single_image_have_both_forms(masks: str, labelled: Path, tmp_path: Path) -> None:
    sheet = gather(labelled, SMALL, backend="torchvision", masks=masks, count=1, device="cpu")
    levels = [len(crop.levels) for crop in sheet.images[0].crops]
    expected = {"none": [0] * 6, "global_only": [3, 3, 0, 0, 0, 0]}
    assert levels == expected.get(masks, [3, 3, 1, 1, 1, 1])
    for name in ("sheet.png", "sheet.html"):
        write(sheet, tmp_path / "new" / name)
    with Image.open(tmp_path / "new" / "sheet.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 20
        assert picture.width == (1925 if masks != "none" else 1155)  # no wider than the widest row
    assert (masks != "none") == ("target 3" in (tmp_path / "new" / "sheet.html").read_text())


def test_crop_without_locals_and_names_of_ones_own_are_shown(labelled: Path, tmp_path: Path) -> None:
    plain = View(name="strong", count=1, size=30, area=(0.5, 1.0))
    named = Recipe(name="mine", source="here", views=(plain, replace(plain, name="faint $x$ $y$", size=21)))
    for recipe, masks in ((evaluation(48), "global_only"), (named, "none")):
        sheet = gather(labelled, recipe, backend="torchvision", masks=masks, count=2, device="cpu")
        write(sheet, tmp_path / "sheet.png")
        write(sheet, tmp_path / "sheet.html")
    assert [crop.name for crop in sheet.images[0].crops] == ["strong 0", "faint $x$ $y$ 0"]


def test_names_of_any_bytes_and_images_in_memory_are_shown(labelled: Path, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "data") + b"/<b>\xff$x$"
    os.makedirs(folder)
    shutil.copy(os.fsencode(sorted(labelled.rglob("*.jpg"))[0]), folder + b"/&\xfe.jpg")
    arrays = [np.full((40, 50, 3), level, dtype=np.uint8) for level in (0, 255)]
    for number, data in enumerate((tmp_path / "data", arrays)):
        sheet = gather(data, SMALL, backend="torchvision", count=2, device="cpu")
        for ending in ("png", "html"):
            write(sheet, tmp_path / f"{number}.{ending}")
    assert "<b>&lt;b&gt;?$x$/&amp;?.jpg</b>" in (tmp_path / "0.html").read_text()


def test_images_are_shown_whatever_the_share_of_bad_ones(labelled: Path, tmp_path: Path) -> None:
    for number, file in enumerate(sorted(labelled.rglob("*.jpg"))[:4]):
        content = file.read_bytes()
        (tmp_path / f"{number}.jpg").write_bytes(content if number % 2 else content[: len(content) // 2])
    sheet = gather(tmp_path, SMALL, backend="torchvision", count=4, device="cpu")
    assert {image.key for image in sheet.images} <= {"1.jpg", "3.jpg"}


def test_every_preset_with_global_crops_has_a_patch_size() -> None:
    sizes = {name: fitting_patch_size(preset(name)) for name in PRESETS if "global" in preset(name).names}
    assert sizes["hjepa"] == 16
    assert sizes["cifar10"] == 4
    with pytest.raises(ValueError, match="--patch-size"):
        fitting_patch_size(multicrop(global_crop_size=211))


def test_words_say_what_has_an_effect_and_nothing_else() -> None:
    quiet = View(name="global", count=1, size=8, area=(1, 1), ratio=(1, 1), flip=0, gray=0, blur=0)
    jitter = Jitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2, probability=1)
    loud = replace(quiet, flip=1, jitter=jitter, gray=1, blur=1, solarize=1)
    sizes, indices = np.array([[100, 100]]), np.array([0])
    for view, parts in ((quiet, 0), (loud, 8)):
        drawn = draw(Recipe(name="r", source="s", views=(view,)), 0, 0, indices, sizes).views["global"]
        box, place, *rest = in_words(drawn, 0, 0, (100, 100))
        assert (box, place) == ("100% of the image", "100x100 px at 0,0")
        assert len(rest) == parts
    names = [("brightness", "contrast", "saturation", "hue")[part] for part in drawn.order[0, 0].tolist()]
    assert rest[0] == "mirrored"
    assert [part.split()[0] for part in rest[1:5]] == names  # in the order in which they are applied
    assert rest[5] == "gray"
    assert rest[6] == f"blurred, sigma {drawn.sigma[0, 0]:.2f} px"
    assert rest[7] == "solarized"


def test_sheet_of_several_batches_is_that_of_one(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gather(labelled, SMALL, backend="torchvision", count=5, device="cpu")
    told = list[tuple[int, int]]()
    monkeypatch.setattr(contact_sheet, "PART", 2)
    parts = gather(labelled, SMALL, backend="torchvision", count=5, device="cpu", progress=lambda *now: told.append(now))
    assert told == [(2, 5), (4, 5), (5, 5)]
    for image, same in zip(whole.images, parts.images, strict=True):
        assert image.key == same.key
        for crop, again in zip(image.crops, same.crops, strict=True):
            assert np.array_equal(crop.pixels, again.pixels)
            assert all(map(np.array_equal, crop.levels, again.levels))


def test_context_is_shown_as_it_is_and_what_is_neither_is_hidden() -> None:
    pixels = np.tile(np.array([[0, 255], [255, 0]], dtype=np.uint8).repeat(4, 0).repeat(4, 1)[..., None], (4, 4, 3))
    shown = np.array([[CONTEXT, NEITHER]]).repeat(2, 0)
    figure = Figure(figsize=(4, 4), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, 1))
    show_over(axis, shown, pixels)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., 0].astype(int)
    context, neither = drawn[20:180, 20:180], drawn[20:180, 220:380]
    assert np.ptp(context) == 255
    assert np.ptp(neither) < 25


def test_masks_of_another_work_are_not_claimed(labelled: Path) -> None:
    sheet = gather(labelled, replace(SMALL, name="ijepa"), backend="torchvision", count=1, device="cpu")
    assert "masks: global_only, which are hjepa's, not ijepa's;" in sheet.title


def test_mistakes_are_named(labelled: Path, tmp_path: Path) -> None:
    nameless = Recipe(name="mine", source="here", views=(replace(SMALL.views[0], name="large"),))
    cases = [
        (SMALL, {"masks": "global_onyl"}, "did you mean global_only"),
        (nameless, {}, "none; use --masks none"),
        (evaluation(48), {"masks": "cross_crop_prediction"}, "use --masks global_only"),
        (SMALL, {"count": 0}, "count=0"),
    ]
    for recipe, options, message in cases:
        with pytest.raises(ValueError, match=message):
            gather(labelled, recipe, backend="torchvision", device="cpu", **options)  # type: ignore[arg-type]
    sheet = gather(labelled, SMALL, backend="torchvision", masks="none", count=1, device="cpu")
    with pytest.raises(ValueError, match=r"\.png or \.html"):
        write(sheet, tmp_path / "sheet.jpg")
    for name in ("full.png", "full.html"):
        (tmp_path / name).symlink_to("/dev/full")
        with pytest.raises(OSError, match=f"cannot write .*{name} .No space left on device.; free some space"):
            write(sheet, tmp_path / name)


@pytest.fixture
def browser() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if found is None:
        pytest.skip("needs a browser that runs without a window: apt install chromium")
    return found


def browse(browser: str, page: Path, *options: str) -> str:
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent / 'profile'}"]
    done = subprocess.run([*command, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


LIT = "[...document.querySelectorAll('.on')].map((lit) => lit.tagName + (lit.dataset.crop || lit.dataset.level)).sort().join()"
POINT = "document.querySelector('{}').dispatchEvent(new PointerEvent('pointerover', {{bubbles: true}}));"


@pytest.fixture(scope="module")
def shown(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sheet = gather(labelled, SMALL, backend="torchvision", count=2, device="cpu")
    page = tmp_path_factory.mktemp("page") / "sheet.html"
    write(sheet, page)
    return page


def test_page_needs_nothing_but_itself(shown: Path) -> None:
    text = shown.read_text()
    references = [part.split('"')[0] for attribute in ("href", "src") for part in text.split(f'{attribute}="')[1:]]
    assert len(references) > 2 * 6
    assert all(reference.startswith(("data:image/", "#")) for reference in references)
    assert "http" not in text
    identities = [part.split('"')[0] for part in text.split('id="')[1:]]
    assert len(identities) == len(set(identities))
    assert {reference[1:] for reference in references if reference[0] == "#"} <= set(identities)


def test_pointing_at_a_crop_lights_its_box_and_its_masks(shown: Path, browser: str, tmp_path: Path) -> None:
    # what is pointed at -> what is lit: in the source its box, and the level's blocks in it; beside it the crop, and the level
    cases = {
        '.crop[data-crop="1-0"]': "FIGURE1-0,g1-0",
        '.crop[data-crop="0-1"] .level[data-level="2"]': "DIV2,FIGURE0-1,g0-1,use2",
        '.crop[data-crop="0-4"]': "FIGURE0-4,g0-4",
        "h1": "",
    }
    for target, lit in cases.items():
        script = f"<script>{POINT.format(target)} document.title = 'lit:' + {LIT};</script></html>"
        page = tmp_path / "pointed.html"
        page.write_text(shown.read_text().replace("</html>", script))
        assert f"<title>lit:{lit}</title>" in browse(browser, page, "--dump-dom")


def test_page_is_dark_where_the_reader_wants_it_dark(shown: Path, browser: str, tmp_path: Path) -> None:
    corners = {}
    for scheme, number in (("dark", 0), ("light", 1)):
        file = tmp_path / f"{scheme}.png"
        options = (f"--blink-settings=preferredColorScheme={number}", "--window-size=1400,900", f"--screenshot={file}")
        browse(browser, shown, *options)
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        assert pixels.std() > 15  # something is shown
        corners[scheme] = tuple(pixels[3, 3].tolist())
    assert corners == {"dark": (0x14, 0x14, 0x16), "light": (0xFA, 0xFA, 0xFA)}


def test_page_is_no_wider_than_a_telephone(shown: Path, browser: str, tmp_path: Path) -> None:
    # a window of a browser without one is 500 pixels wide at least: the frame is as wide as a telephone
    script = "document.title = `over:${f.scrollWidth - f.clientWidth}`"
    measure = f"const f = this.contentDocument.documentElement; {script}"
    page = tmp_path / "phone.html"
    page.write_text(f'<iframe src="{shown.as_uri()}" style="width:360px;height:900px" onload="{measure}"></iframe>')
    assert "<title>over:0</title>" in browse(browser, page, "--allow-file-access-from-files", "--dump-dom")
