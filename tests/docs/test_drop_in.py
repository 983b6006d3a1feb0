"""Every line of hjepa's side in docs/drop-in/ runs, and gives batches."""

import itertools
import re
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import pytest
import timm.data
import torch

import hjepa
from hjepa.pipeline import adapters

PAGES = sorted((Path(__file__).parents[2] / "docs" / "drop-in").glob("*.md"))
SNIPPETS = [
    pytest.param(code, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL))
    if "hjepa" in code  # the others are the trainer's lines before the change
]


def test_every_trainer_has_its_page() -> None:
    pages = {"dino", "dinov2", "dinov3", "ijepa", "vjepa2", "lightly", "solo-learn", "timm", "pytorch", "README"}
    assert {page.stem for page in PAGES} == pages
    table = (PAGES[0].parent / "README.md").read_text()
    assert [name for name in adapters.ADAPTERS if f"`{name}`" not in table] == []


@pytest.mark.parametrize("code", SNIPPETS)
def test_snippets_run(code: str, labelled: Path) -> None:
    options = {"backend": "torchvision", "num_workers": 0, "device": "cpu"}

    opened: list[hjepa.Loader] = []

    def loader(*arguments: Any, **given: Any) -> hjepa.Loader:
        opened.append(hjepa.Loader(*arguments, **given | options))
        return opened[-1]

    model, trainer = SimpleNamespace(), SimpleNamespace(fit=lambda *_, **__: None)
    names: dict[str, Any] = {"torch": torch, "itertools": itertools, "start_iter": 12, "model": model, "trainer": trainer}
    names |= {"val_loader": None, "ckpt_path": None}
    names["hjepa"] = SimpleNamespace(**{name: getattr(hjepa, name) for name in hjepa.__all__} | {"Loader": loader})
    code = re.sub(r"batch_size=\d+", "batch_size=8", code).replace('"photos/"', repr(str(labelled)))
    try:
        exec(code, names)
        if "start_iter" in code:
            assert [made.epoch for made in opened] == [12 // len(opened[0])] != [0]
        loaders = [value for name, value in (names | vars(model)).items() if "loader" in name and value is not None]
        hooks = [hook for hook in loaders if isinstance(hook, FunctionType)]
        made_by_hooks = [hook(*[None] * hook.__code__.co_argcount) for hook in hooks]  # what is given is self
        assert loaders
        assert all(next(iter(made)) is not None for made in [*loaders, *made_by_hooks] if made not in hooks)
    finally:
        for made in opened:
            made.close()


def test_timms_page_makes_the_crops_of_its_own_transform() -> None:
    made: list[Any] = []
    names = {"hjepa": SimpleNamespace(Jitter=hjepa.Jitter, View=hjepa.View, Recipe=hjepa.Recipe)}
    names["hjepa"].Loader = lambda _, recipe, **options: made.append(recipe)
    (code,) = [snippet.values[0] for snippet in SNIPPETS if snippet.id and snippet.id.startswith("timm")]
    exec(str(code), names)  # type: ignore[arg-type]
    ((train,), (center,)) = (recipe.views for recipe in made)
    crop, flip, jitter, *rest = timm.data.create_transform(224, is_training=True, interpolation="bilinear").transforms
    assert (train.size, train.area, train.interpolation) == (crop.size[0], crop.scale, crop.interpolation.value)
    assert train.ratio == pytest.approx(crop.ratio)
    assert train.flip == flip.p
    factors = [(1 - x, 1 + x) for x in (train.jitter.brightness, train.jitter.contrast, train.jitter.saturation)]
    assert factors == [pytest.approx(factor) for factor in (jitter.brightness, jitter.contrast, jitter.saturation)]
    assert (train.jitter.hue, jitter.hue, train.jitter.probability) == (0, None, 1)
    assert (train.gray, train.blur, train.solarize, [type(part).__name__ for part in rest]) == (
        0,
        0,
        0,
        ["MaybeToTensor", "Normalize"],
    )
    resize, _, *_ = timm.data.create_transform(224).transforms
    assert center.area[0] == pytest.approx((224 / resize.size) ** 2)
