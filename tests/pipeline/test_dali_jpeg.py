"""DALI decodes with hjepa's decoder where hjepa builds the pipeline, and every picture is what it was without it."""

import ctypes
import io
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.kernels.jpegs import Pixels, encode

pytestmark = pytest.mark.dali
jpeg = pytest.importorskip("hjepa.kernels._jpeg", reason="hjepa's JPEG decoder was not built: there was no C++ compiler")


def saved(pixels: Pixels, kind: str, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def turned(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


PIXELS = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
NATIVE = {
    "4:2:0": encode(PIXELS),
    "4:4:4": encode(PIXELS, subsampling=0),
    "gray": encode(PIXELS[..., 0]),
    "restarts": encode(PIXELS, restart_marker_blocks=3),
    "progressive": encode(PIXELS, progressive=True),
    **{f"turned {number}": encode(PIXELS, exif=turned(number)) for number in range(1, 9)},
}
OTHER = {
    "CMYK": saved(PIXELS, "JPEG", "CMYK"),
    "PNG": saved(PIXELS, "PNG"),
    "WebP": saved(PIXELS, "WEBP"),
}


def pipeline(build: Callable[[Any], None], files: list[bytes], **options: Any) -> Any:
    import nvidia.dali.fn as fn
    from nvidia.dali import types
    from nvidia.dali.pipeline import Pipeline

    pipe = Pipeline(batch_size=len(files), num_threads=2, device_id=None, exec_dynamic=True)
    with pipe:
        arrays = [np.frombuffer(file, dtype=np.uint8) for file in files]
        encoded = fn.external_source(lambda: arrays, batch=True)
        pipe.set_outputs(fn.decoders.image(encoded, device="cpu", output_type=types.RGB, **options))
    build(pipe)
    return pipe


def decoded(build: Callable[[Any], None], files: list[bytes], **options: Any) -> list[Pixels]:
    (images,) = pipeline(build, files, **options).run()
    return [np.array(images[place]) for place in range(len(files))]


def test_every_kind_of_file_is_what_it_was_and_the_decoder_has_decoded_its_own() -> None:
    from hjepa.pipeline.backends import dali_jpeg

    for name, file in {**NATIVE, **OTHER}.items():
        (expected,) = decoded(lambda pipe: pipe.build(), [file])
        before = jpeg.num_decoded()
        (found,) = decoded(dali_jpeg.build, [file])
        assert (jpeg.num_decoded() > before) == (name in NATIVE), name
        np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}], ids=str)
def test_images_of_every_height_are_turned(options: dict[str, Any]) -> None:
    from hjepa.pipeline.backends import dali_jpeg

    sizes = [(height, width) for height in range(1, 50, 3) for width in (5, 33)]
    for number in range(2, 9):
        files = [encode(PIXELS[:height, :width], exif=turned(number), **options) for height, width in sizes]
        before = jpeg.num_decoded()
        for found, file in zip(decoded(dali_jpeg.build, files), files, strict=True):
            with Image.open(io.BytesIO(file)) as image:
                np.testing.assert_array_equal(found, ImageOps.exif_transpose(image))
        assert jpeg.num_decoded() >= before + len(files)


def test_a_pipeline_that_others_build_decodes_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is set while a pipeline is built, and never in os.environ, which another thread may be going through."""
    from hjepa.pipeline.backends import dali_jpeg

    getenv = ctypes.CDLL(None).getenv
    getenv.argtypes, getenv.restype = [ctypes.c_char_p], ctypes.c_char_p

    def value() -> str:
        return (getenv(dali_jpeg.VARIABLE.encode()) or b"").decode()

    def build(pipe: Any) -> None:
        real = pipe.build
        pipe.build = lambda: (seen.append((value(), os.environ.get(dali_jpeg.VARIABLE))), real())
        dali_jpeg.build(pipe)
        del pipe.build  # which holds the pipe

    for before in (None, "/nowhere"):
        if before:
            monkeypatch.setenv(dali_jpeg.VARIABLE, before)
        else:
            monkeypatch.delenv(dali_jpeg.VARIABLE, raising=False)
        seen: list[tuple[str, str | None]] = []
        own = pipeline(build, list(NATIVE.values()))
        assert seen[0][0].split(":")[0] != before
        assert seen[0][1] == before
        assert value() == (before or "")
        own.run()
    del own  # which decodes ahead
    monkeypatch.delenv(dali_jpeg.VARIABLE)
    before_others = jpeg.num_decoded()
    decoded(lambda pipe: pipe.build(), list(NATIVE.values()))
    assert jpeg.num_decoded() == before_others


def test_decoding_that_is_not_to_be_exact_is_left() -> None:
    from hjepa.pipeline.backends import dali_jpeg

    before = jpeg.num_decoded()
    expected = decoded(lambda pipe: pipe.build(), [NATIVE["4:2:0"]], use_fast_idct=True)
    np.testing.assert_array_equal(decoded(dali_jpeg.build, [NATIVE["4:2:0"]], use_fast_idct=True), expected)
    assert jpeg.num_decoded() == before
    assert (expected[0] != decoded(dali_jpeg.build, [NATIVE["4:2:0"]])[0]).any()


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.98])
def test_a_truncated_file_ends_as_it_did(kept: float) -> None:
    from hjepa.pipeline.backends import dali_jpeg

    file = encode(PIXELS)
    outcomes = []
    for build in (lambda pipe: pipe.build(), dali_jpeg.build):
        try:
            outcomes.append(decoded(build, [file[: int(kept * len(file))]])[0].tolist())
        except RuntimeError as error:
            outcomes.append([line for line in str(error).splitlines() if "decode" in line and "fn." not in line])
    assert outcomes[0] == outcomes[1]


def test_where_the_decoder_was_not_built_pipelines_are_built_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from hjepa.pipeline.backends import dali_jpeg

    assert dali_jpeg.takes_part()
    monkeypatch.setattr(dali_jpeg, "decoder_file", lambda: None)
    assert not dali_jpeg.takes_part()
    before = jpeg.num_decoded()
    assert len(decoded(dali_jpeg.build, list(NATIVE.values()))) == len(NATIVE)
    assert jpeg.num_decoded() == before


def test_without_a_folder_to_write_to_pipelines_are_built_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from hjepa.pipeline.backends import dali_jpeg

    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    before = jpeg.num_decoded()
    with pytest.warns(UserWarning, match="set TMPDIR to a writable one"):
        found = decoded(dali_jpeg.build, list(NATIVE.values()))
    assert len(found) == len(NATIVE)
    assert jpeg.num_decoded() == before


def test_pipeline_that_another_thread_builds_holds_up_no_forked_process() -> None:
    from hjepa.pipeline.backends import dali_jpeg

    with dali_jpeg._extended():
        child = os.fork()
        if not child:
            signal.alarm(5)
            with dali_jpeg._extended():
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
