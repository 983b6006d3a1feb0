"""What TAB offers beyond options: recipes, shipped settings and names of settings; where none fits, the shell offers files."""

from collections.abc import Iterator
from importlib import resources

from hjepa.pipeline.presets import PRESETS


def recipe_names(incomplete: str) -> list[str]:
    """The presets that begin so."""
    return [name for name in PRESETS if name.startswith(incomplete)]


def config_names(incomplete: str) -> list[str]:
    """The shipped settings whose names begin so."""
    names = sorted(file.name for file in resources.files("hjepa.configs").iterdir())
    return [name.removesuffix(".yaml") for name in names if name.endswith(".yaml") and name.startswith(incomplete)]


def setting_names(incomplete: str) -> Iterator[tuple[str, str]]:
    """The settings that begin so, with the sign before a value, and what each is."""
    from hjepa.configs.names import DESCRIPTIONS, LEAVES  # here: the other words need not wait for all settings

    return ((f"{name}=", DESCRIPTIONS[name]) for name in sorted(LEAVES) if name.startswith(incomplete))
