"""The reference backend: PIL and torchvision, one image and one crop at a time, exactly as the recipe says.

Slow and obvious on purpose: the other backends are held against it. With num_workers > 0 each worker process of a torch
DataLoader renders whole batches; with 0 a thread of this process does.
"""

import gc
import multiprocessing
from collections.abc import Iterator
from contextlib import closing, nullcontext

import torch
import torchvision.transforms.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info
from torchvision.transforms import InterpolationMode

from hjepa.pipeline.ahead import Ahead
from hjepa.pipeline.backend import BackendSettings, BadBatchError, Crops, Request, check_size
from hjepa.pipeline.draws import Draws, ViewDraws
from hjepa.pipeline.forks import rendering
from hjepa.pipeline.header import explain, is_reducible, orientation_of, upright
from hjepa.pipeline.pixels import to_rgb
from hjepa.pipeline.recipe import Recipe, View
from hjepa.pipeline.source import open_image

# B images, V crops of one name, S pixels
FILTERS = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}


class TorchvisionBackend:
    """Renders with PIL and torchvision on the CPU, then moves the batch to the device."""

    def __init__(self, settings: BackendSettings) -> None:
        self._settings = settings

    def render(self, requests: Iterator[Request]) -> Iterator[Crops]:
        """See Backend.render."""
        settings = self._settings
        if settings.num_workers:
            batches = DataLoader(
                _Rendered(settings),
                sampler=_Requests(requests),
                batch_size=None,
                num_workers=settings.num_workers,
                prefetch_factor=max(1, settings.prefetch // settings.num_workers),
                pin_memory=settings.pin_memory and settings.device.type == "cuda",
                generator=torch.Generator(),  # not torch's own, from which a user's dropout draws
                multiprocessing_context=_start_method(),
                worker_init_fn=_keep_what_is_the_parents,
            )
            with torch.device("cpu"):  # whatever torch's default is, which workers have from here, and the seed that is drawn
                rendered = iter(batches)
            yield from map(self._to_device, rendered)
        else:
            with closing(Ahead(map(_Rendered(settings).__getitem__, requests), settings.prefetch)) as ahead:
                yield from map(self._to_device, ahead)

    def close(self) -> None:
        """See Backend.close; nothing is kept."""

    def _to_device(self, crops: Crops | Exception) -> Crops:
        if isinstance(crops, Exception):
            try:
                raise crops
            finally:
                del crops  # else the error holds this frame, which holds it, and both the workers, whom a new one collects
        return {name: tensor.to(self._settings.device, non_blocking=True) for name, tensor in crops.items()}


def _start_method() -> str | None:
    """Forked, unless the program chose otherwise: Python 3.14's own way loads torch in each worker, and needs a main guard."""
    return "fork" if multiprocessing.get_start_method(allow_none=True) is None else None


def _keep_what_is_the_parents(worker: int) -> None:
    """A forked worker has none of the parent's threads: what these work for, it must not collect as garbage."""
    gc.freeze()


class _Requests(Sampler[Request]):
    """Requests in the place where a DataLoader expects indices, so that a worker is handed a whole batch."""

    def __init__(self, requests: Iterator[Request]) -> None:
        self._requests = requests

    def __iter__(self) -> Iterator[Request]:
        return self._requests


class _Rendered(Dataset[Crops | Exception]):
    """Request -> crops. Errors are returned, not raised: a worker would wrap them in a traceback's text."""

    def __init__(self, settings: BackendSettings) -> None:
        self._settings = settings

    def __getitem__(self, request: Request) -> Crops | Exception:
        try:
            crops = render_batch(request, self._settings.recipe, self._settings.dtype)
        except (BadBatchError, OSError, MemoryError) as error:  # OSError: of no image, which has it as its reason
            return error
        return crops if get_worker_info() is None else _shared(crops)


def _shared(crops: Crops) -> Crops | RuntimeError:
    """A worker's crops, where the parent sees them. Torch's queue would share them, too, but drops what it has no room for, and
    the parent waits for it for ever."""
    try:
        return {name: tensor.share_memory_() for name, tensor in crops.items()}  # type: ignore[no-untyped-call]  # torch's
    except RuntimeError as error:
        return RuntimeError(
            f"a worker cannot hand over its batch ({error}); give the container more shared memory (--shm-size 8g), use fewer "
            "workers or smaller batches, or num_workers=0 or backend='dali' (--pipeline dali), which share nothing"
        )


def render_batch(request: Request, recipe: Recipe, dtype: torch.dtype) -> Crops:
    """All crops of a batch, on the CPU, contiguous. Raises BadBatchError, which names all bad images."""
    crops = {}
    for group in recipe.groups():
        name, size = group[0].name, group[0].size
        crops[name] = torch.empty(recipe.count(name), len(request.encoded), 3, size, size, dtype=dtype, device="cpu")
    reasons: dict[tuple[int, int], str] = {}
    for number in range(len(request.encoded)):
        with rendering():
            decoded = _decode(request, number, recipe)
            if isinstance(decoded, str):
                reasons[0, number] = decoded
                continue
            image, reduction = decoded
            for name, stacked in render_image(image, recipe, request.draws, number, reduction).items():
                crops[name][:, number] = stacked
    if reasons:
        raise BadBatchError(reasons)
    return crops


def render_image(image: Image.Image, recipe: Recipe, draws: Draws, number: int, reduction: int = 1) -> dict[str, Tensor]:
    """All crops of image `number` of the draws, whose sides were divided by `reduction`; float32 [V, 3, S, S] by name."""
    crops = {}
    # torchvision makes tensors of images where torch's default is. Without a need the context would take 5 % of small crops.
    on_cpu = nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")
    for group in recipe.groups():
        drawn = draws.views[group[0].name]
        places = [(number, view) for view in range(drawn.flip.shape[1])]
        with on_cpu:
            crops[group[0].name] = torch.stack([_render_view(image, group[0], recipe, drawn, at, reduction) for at in places])
    return crops


def _decode(request: Request, number: int, recipe: Recipe) -> tuple[Image.Image, int] | str:
    """The RGB image, and what its sides were divided by; or why there is none."""
    turns = recipe.orientation == "exif"
    try:
        with open_image(request.encoded, number) as image:
            whole = image.size if turns and orientation_of(image) >= 5 else image.size[::-1]  # height, width
            reduction = int(request.draws.reduction[number])
            if reduction > 1 and not is_reducible(image):
                reduction = 1
            if reduction > 1:
                image.draft(None, (image.width // reduction, image.height // reduction))
            rgb = to_rgb(upright(image) if turns else image)
    except Exception as error:  # PIL's decoders raise OSError, SyntaxError, ValueError and more for bad data
        return explain(error)
    found = whole if reduction > 1 else (rgb.height, rgb.width)
    return check_size(found, tuple(request.sizes[number].tolist())) or (rgb, reduction)


def _render_view(
    image: Image.Image, view: View, recipe: Recipe, draws: ViewDraws, at: tuple[int, int], reduction: int
) -> Tensor:
    crop = recolour(_crop(image, view, draws, at, reduction), view, draws, at)
    # F.to_tensor, but whatever torch's default type is; not contiguous, all that follows would take half as long again
    levels = F.pil_to_tensor(crop).contiguous().to(torch.float32).div_(255)
    normalized: Tensor = F.normalize(levels, list(recipe.mean), list(recipe.std), inplace=True)
    return normalized


def recolour(crop: Image.Image, view: View, draws: ViewDraws, at: tuple[int, int]) -> Image.Image:
    """A crop, or a whole image of any size, with all that was drawn but the box and the flip."""
    crop = _jitter(crop, draws, at)
    crop = _grayscale(crop, draws, at)
    crop = _blur(crop, view, draws, at)
    return _solarize(crop, view, draws, at)


def _crop(image: Image.Image, view: View, draws: ViewDraws, at: tuple[int, int], reduction: int) -> Image.Image:
    top, left, height, width = (draws.box[at] // reduction).tolist()
    size = [view.size, view.size]
    crop: Image.Image = F.resized_crop(image, top, left, height, width, size, FILTERS[view.interpolation], antialias=True)
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draws.flip[at] else crop


def _jitter(crop: Image.Image, draws: ViewDraws, at: tuple[int, int]) -> Image.Image:
    parts = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    neutral = (1.0, 1.0, 1.0, 0.0)
    for part in draws.order[at].tolist():
        factor = float(draws.jitter[at][part])
        if factor != neutral[part]:  # PIL's way to HSV and back would change pixels even at hue 0
            crop = parts[part](crop, factor)
    return crop


def _grayscale(crop: Image.Image, draws: ViewDraws, at: tuple[int, int]) -> Image.Image:
    return F.rgb_to_grayscale(crop, num_output_channels=3) if draws.gray[at] else crop


def _blur(crop: Image.Image, view: View, draws: ViewDraws, at: tuple[int, int]) -> Image.Image:
    sigma = float(draws.sigma[at])
    return F.gaussian_blur(crop, [view.blur_window, view.blur_window], [sigma, sigma]) if sigma > 0 else crop


def _solarize(crop: Image.Image, view: View, draws: ViewDraws, at: tuple[int, int]) -> Image.Image:
    return F.solarize(crop, view.solarize_threshold) if draws.solarize[at] else crop
