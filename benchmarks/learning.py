"""Does it learn? Accuracy of nearest neighbours before, during and after short runs, for every strategy, DINO, and broken runs.

    python benchmarks/learning.py [--data sample photographs] [--runs global_only dino ...] [--seeds 42 1 2] [--epochs 3]

Runs that the output file holds are not made again, so it can be stopped at any time; `learning_curves.py` draws it. Beside them
stands the accuracy of the raw pixels of the same crops. Two kinds of runs are broken on purpose, by patches of this script, to
show that the terms of the loss do something: with `mismatched` the teacher's view of each image is that of its neighbour in the
batch; with `shuffled` the predictor is asked for the places of another sample's blocks than it is compared at.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from photograph_tiles import make_tiles
from record import RESULTS, output_file, write
from rich.console import Console
from torch import Tensor, nn

import hjepa.trainer
from hjepa import sample_data
from hjepa.assembly import build_loader
from hjepa.configs.load import load_settings
from hjepa.configs.schema import Settings
from hjepa.display import Display
from hjepa.evaluate import knn_accuracy
from hjepa.model_assembly import Model
from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.index import cache_folder
from hjepa.pipeline.source import Source
from hjepa.trainer import Trainer


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One kind of run: shipped settings, changes to them, and what is broken."""

    config: str = "small"
    overrides: tuple[str, ...] = ()
    broken: Literal["nothing", "pairs", "masks"] = "nothing"


RUNS = {
    "global_only": Run(),
    "global_with_local_context": Run(overrides=("masking.strategy=global_with_local_context",)),
    "cross_crop_prediction": Run(overrides=("masking.strategy=cross_crop_prediction",)),
    "dino": Run(config="small_dino"),
    "global_only_mismatched": Run(broken="pairs"),
    "global_only_shuffled": Run(broken="masks"),
    "dino_mismatched": Run(config="small_dino", broken="pairs"),
}
DATA = {"sample": sample_data.default_folder, "photographs": lambda: cache_folder() / "photograph-tiles"}


def main() -> None:
    """Makes the runs that are missing, one after the other, and writes the file after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--evaluate-every", type=int, default=1, help="epochs between two evaluations, beside first and last")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=output_file, default=RESULTS / "learning.json")
    parser.add_argument("--set", nargs="+", default=[], help="any setting, such as data.pipeline=torchvision")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found: list[dict[str, Any]] = json.loads(arguments.output.read_text()) if arguments.output.exists() else []
    wanted = [(data, name, seed) for data in arguments.data for seed in arguments.seeds for name in arguments.runs]
    with Display(Console(quiet=True)) as display:
        for data, name, seed in wanted:
            key = {"data": data, "run": name, "seed": seed, "epochs": arguments.epochs}
            if any(key.items() <= each.items() for each in found):
                continue
            beside = [f"data.num_workers={arguments.threads}", f"evaluation.eval_frequency={arguments.evaluate_every}"]
            overrides = [*beside, *arguments.set]
            found.append(key | measure(RUNS[name], data, seed, arguments.epochs, overrides, display))
            write(arguments.output, found)
            print(json.dumps({**key, **{name: found[-1][name] for name in ("knn", "found_again", "rankme")}}), flush=True)


def measure(run: Run, data: str, seed: int, epochs: int, overrides: list[str], display: Display) -> dict[str, Any]:
    """Trains once: accuracies in percent and effective ranks by epoch, the loss by step, and what the raw pixels are worth."""
    folder = DATA[data]()
    source = open_folder(sample_data.make(folder) if data == "sample" else make_tiles(folder))
    with tempfile.TemporaryDirectory() as output:
        settings = _settings(run, seed, epochs, folder, [*overrides, f"output_dir={output}"])
        start = time.perf_counter()
        with Trainer(settings, source, display) as trainer, broken(trainer.model, run.broken):
            untrained = found_again(trainer.model, settings, source)
            if not trainer.run().finished:
                raise SystemExit("interrupted; the runs that were finished are in the file")
            trained = found_again(trainer.model, settings, source)
        lines = [json.loads(line) for line in settings.metrics_file.read_text().splitlines()]
        pixels = raw_pixel_accuracy(settings, source)
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    steps = [line for line in lines if line["kind"] == "train"]
    return {
        "images": len(source),
        "classes": len(source.classes),
        "raw_pixels": round(100 * pixels, 1),
        "knn": {line["epoch"]: round(100 * line["knn_accuracy"], 1) for line in evaluations},
        "found_again": {0: round(100 * untrained, 1), epochs: round(100 * trained, 1)},
        "rankme": {line["epoch"]: round(line["rankme"], 1) for line in evaluations},
        "loss": {line["step"]: round(line["loss"], 4) for line in steps},
        "baseline_ratio_level_0": {
            line["step"]: round(line["baseline_ratio_level_0"], 4) for line in steps if "baseline_ratio_level_0" in line
        },
        "seconds": round(time.perf_counter() - start),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s) of torch {torch.__version__}",
        "date": time.strftime("%Y-%m-%d"),
    }


@torch.no_grad()
def found_again(model: Model, settings: Settings, source: Source) -> float:
    """Share of the images whose second global crop, as trained on, is the nearest to the first one among all second crops."""
    with build_loader(settings, source, "train") as loader:
        pairs = [(model.features(batch.globals[0]), model.features(batch.globals[1])) for batch in loader]
    first, second = (F.normalize(torch.cat(features), dim=1) for features in zip(*pairs, strict=True))
    return float(((first @ second.T).argmax(1) == torch.arange(len(first))).float().mean())


@torch.no_grad()
def raw_pixel_accuracy(settings: Settings, source: Source) -> float:
    """Accuracy of nearest neighbours among the pixels of the crops that the encoder is evaluated on."""
    with build_loader(settings, source, "evaluate") as loader:
        pixels, labels = zip(*((batch.globals[0].flatten(1), batch.labels) for batch in loader), strict=True)
    knn = settings.evaluation.knn
    return knn_accuracy(torch.cat(pixels), torch.cat(labels), knn.k, knn.temperature)


@contextmanager
def broken(model: Model, what: str) -> Iterator[None]:
    """Breaks the loss while batches are trained on, and nothing else: evaluation reads the teacher, too."""
    real, training = hjepa.trainer.backward, False

    def backward(*arguments: Any, **options: Any) -> Any:
        nonlocal training
        training = True
        try:
            return real(*arguments, **options)
        finally:
            training = False

    def next_image(_: nn.Module, inputs: tuple[Tensor], tokens: Tensor) -> Tensor:
        num_crops = 2  # global crops come crop-major, and an image's neighbour is the next one within each of them
        return tokens.unflatten(0, (num_crops, -1)).roll(1, 1).flatten(0, 1) if training else tokens

    def next_blocks(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        context, index, valid, asked, *rest = inputs
        num_levels = model.settings.num_levels
        rolled = asked.unflatten(0, (2, -1, num_levels)).roll(1, 1).flatten(0, 2)
        return (context, index, valid, rolled, *rest) if training else inputs

    hook = None
    if what == "pairs":
        hook = model.teacher.register_forward_hook(next_image)
    elif what == "masks":
        hook = model.predictor.register_forward_pre_hook(next_blocks)
    hjepa.trainer.backward = backward
    try:
        yield
    finally:
        hjepa.trainer.backward = real
        if hook is not None:
            hook.remove()


def _settings(run: Run, seed: int, epochs: int, folder: Path, overrides: list[str]) -> Settings:
    place = [f"data.data_path={folder}", "data.dataset=imagefolder", "device=cpu", f"seed={seed}"]
    length = [f"training.epochs={epochs}", "checkpoint.keep_best_n=1"]
    return load_settings(Path(run.config), [*run.overrides, *place, *length, *overrides])


if __name__ == "__main__":
    main()
