"""What `hjepa-train` does with what it was asked for: chooses the settings, says what is done with what, and trains."""

import errno
import shlex
import sys
import time
from pathlib import Path

import torch
from rich.console import Console

from hjepa import checkpoint
from hjepa.assembly import build_recipe, open_source
from hjepa.command_data import say_left_out
from hjepa.configs.load import asked, load_settings
from hjepa.configs.schema import Settings
from hjepa.configs.yaml_file import SettingsError
from hjepa.display import Display
from hjepa.distributed import Ranks
from hjepa.exits import command_line, not_empty
from hjepa.pipeline.backend import Engine, engine_of
from hjepa.pipeline.curriculum import Curriculum, recipe_at
from hjepa.pipeline.device import has_jpeg_engines, resolve_decoder, resolve_device
from hjepa.pipeline.open_source import name_of
from hjepa.pipeline.recipe import IMAGENET_MEAN, IMAGENET_STD, area_gap
from hjepa.pipeline.source import Source
from hjepa.recipe_table import summary
from hjepa.result_table import counted, places, result_rows
from hjepa.run_folder import (
    Resume,
    check_output,
    find_resume,
    folder_note,
    fresh_folder,
    mark_folder,
    release_folder,
    resume_notes,
)
from hjepa.run_lock import RunLock
from hjepa.schedules import early_end
from hjepa.start import INTERRUPTED

SMALL = {"hjepa": "small", "dino": "small_dino"}
"""Objective -> name of the shipped settings that train in minutes without a GPU."""
ENGINES: dict[Engine, str] = {
    "fused": "DALI decodes and hjepa's kernel makes every crop",
    "dali-ops": "DALI's operators",
    "torchvision": "the reference",
}
"""Each engine in words."""


def run(config: Path | None, overrides: list[str], flags: dict[str, object], display: Display) -> None:
    """Trains as asked, and says what is done with what, and where the results are."""
    settings, reason = choose_settings(config, overrides, flags)
    with Ranks(settings) as ranks, RunLock() as lock:
        if not ranks.is_first:
            display = Display(Console(quiet=True))
        state, wanted = ranks.share(find_resume(settings, lock) if ranks.is_first else None), settings.output_dir
        if state is None:
            settings = ranks.share(fresh_folder(settings) if ranks.is_first else settings)
        else:
            check_output(state, settings, asked(overrides, flags).get("output_dir"))
            settings = settings.model_copy(update={"output_dir": str(state.output)})
            checkpoint.check_settings(state.content, settings, state.path, ranks.world_size)
        joined = f" on each of {ranks.world_size} ranks" if ranks.world_size > 1 else ""
        display.say(f"engine: {_engine(settings, ranks)}; device: {_name(ranks.device)}{joined}{_decoder(settings, ranks)}")
        display.say(f"settings: {reason}")
        if state is None and (note := folder_note(settings, wanted)):
            display.say(note)
        source = _open_in_turn(settings, ranks, display)
        _introduce(settings, source, display)
        _train_or_explain(settings, source, display, state, ranks, lock)


def _open_in_turn(settings: Settings, ranks: Ranks, display: Display) -> Source:
    """The images; the first rank makes what is not there yet, the others find it."""
    if not ranks.is_first:
        ranks.wait()
    source = open_source(settings, display.show)
    if ranks.is_first:
        ranks.wait()
    display.clear()
    return source


def _train_or_explain(
    settings: Settings, source: Source, display: Display, state: Resume | None, ranks: Ranks, lock: RunLock
) -> None:
    try:
        _train(settings, source, display, state, ranks, lock)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise OSError(
            f"cannot write {error.filename or f'to {settings.output_dir} or {settings.log_folder}'} ({error.strerror}); "
            "free some space there or choose another --output-dir"
        ) from error


def _train(settings: Settings, source: Source, display: Display, state: Resume | None, ranks: Ranks, lock: RunLock) -> None:
    from hjepa.trainer import Trainer  # imports tensorboard and matplotlib, for which no mistake in the settings need wait

    if state is not None:
        for note in resume_notes(state, settings, ranks):
            display.say(note)
    start = time.perf_counter()
    # before the Trainer, which would take another run's log for an older one
    made = mark_folder(settings, lock, is_new=state is None) if ranks.is_first else []
    try:
        with Trainer(settings, source, display, None if state is None else state.content, ranks) as trainer:
            total = trainer.steps_per_epoch * settings.training.epochs
            if trainer.is_done:
                display.say("nothing is left to do: all of its epochs are done; more of them are another run, without --resume")
            result = trainer.run()
            rows = result_rows(result, settings, len(source.classes), total)
            rows |= {"time": f"{time.perf_counter() - start:.0f} s", **places(settings, result, trainer.picture)}
    finally:
        if ranks.is_first:
            release_folder(settings, lock, made)
    display.table("Finished" if result.finished else "Interrupted", rows)
    if not result.finished:
        display.say(f"to go on: {command_line()} --resume {shlex.quote(rows['checkpoint'])}")
        sys.exit(INTERRUPTED if result.signal == 2 else 0)


def choose_settings(config: Path | None, overrides: list[str], flags: dict[str, object]) -> tuple[Settings, str]:
    """The settings, and where they came from in words."""
    for name, option in {"data.data_path": "--data-path", "output_dir": "--output-dir"}.items():
        if (place := flags.get(name)) is not None:
            not_empty(option, str(place))
    given = asked(overrides, flags)  # before the settings can be loaded
    place = given.get("data.data_path")
    if place and not given.get("data.dataset") and (config is None or _asks_for_sample(config, given)):
        flags = flags | {"data.dataset": name_of(str(place))}
    if config is not None:
        return load_settings(config, overrides, flags), f"{config}"
    reasons = []
    if resolve_device(str(given.get("device") or "auto")).type == "cpu":
        reasons.append("the device is the CPU" if torch.cuda.is_available() else "there is no GPU")
    if not place:
        reasons.append("no data was given")
    if not reasons:
        return load_settings(None, overrides, flags), "the defaults"
    name = SMALL.get(str(given.get("objective")), "small")
    small = load_settings(Path(name), overrides, flags)
    return small, f"configs/{name}.yaml (small crops and a small ViT), because {' and '.join(reasons)}"


def _asks_for_sample(config: Path, given: dict[str, object]) -> bool:
    """Whether the file, by itself or with all else that was given, leaves the data set at the sample images."""
    others = {name: value for name, value in given.items() if name != "data.data_path"}
    for flags in ({}, others):
        try:
            return load_settings(config, flags=flags).data.dataset == "sample"
        except SettingsError:  # is said where all of it is loaded, if it is still one there
            continue
    return False


def _introduce(settings: Settings, source: Source, display: Display) -> None:
    labels = counted(len(source.classes), "class") if source.classes else "no labels"
    display.say(f"data: {counted(len(source), 'image')} in {source.name} ({labels})")
    say_left_out(source, display)
    plan = build_recipe(settings)
    recipe = recipe_at(plan, 0)
    crops = summary(recipe)
    if isinstance(plan, Curriculum) and plan.landmarks:
        later = (f"{summary(plan.at(epoch))} from epoch {epoch + 1} on" for epoch in plan.landmarks)
        crops += f" at first, {', '.join(later)}"
    if gap := area_gap(recipe):
        display.say(f"note: {gap}")
    if end := early_end(settings):
        display.say(f"note: {end}")
    if (recipe.mean, recipe.std) != (IMAGENET_MEAN, IMAGENET_STD):
        display.say(f"pixels are normalised by mean {recipe.mean}, deviation {recipe.std}")
    encoder = settings.model.encoder
    display.say(f"crops: {crops}; encoder: width {encoder.width}, depth {encoder.depth}, patch {encoder.patch_size}")
    display.say(f"output of {settings.logging.experiment_name}: {settings.output_dir}")


def _engine(settings: Settings, ranks: Ranks) -> str:
    engine = engine_of(settings.data.pipeline, ranks.device)
    missing = settings.data.pipeline == "dali" and engine == "dali-ops" and ranks.device.type == "cpu"
    hint = " (hjepa's own kernel is faster, but is not built for this Python: install hjepa again, with a C++ compiler)"
    return f"{engine}, {ENGINES[engine]}{hint if missing else ''}"


def _decoder(settings: Settings, ranks: Ranks) -> str:
    """Where images are decoded; a CPU decodes its own."""
    data, device = settings.data, ranks.device
    if device.type == "cpu" or engine_of(data.pipeline, device) == "torchvision":
        return ""
    if resolve_decoder(data.decoder, data.hw_decoder_load, device, data.pipeline) == "cpu":
        return ", for which the CPU decodes"
    return ", which decodes, too" + (", by its JPEG engines" if data.hw_decoder_load and has_jpeg_engines(device) else "")


def _name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else f"{device}"
