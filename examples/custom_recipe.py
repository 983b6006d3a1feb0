"""A recipe of one's own: three kinds of crops, written to YAML and read again, and a ramp over the epochs.

python examples/custom_recipe.py [--images photos/] [--output runs/mine.yaml]
"""

import argparse
from pathlib import Path

import hjepa
from hjepa import sample_data
from hjepa.configs.recipe_file import recipe_to_yaml

MILD = hjepa.Jitter(brightness=0.2, contrast=0.2, saturation=0.1, hue=0.05)
RECIPE = hjepa.Recipe(
    name="mine",
    source="examples/custom_recipe.py",
    views=(
        hjepa.View(name="global", count=2, size=96, area=(0.4, 1.0), jitter=MILD, gray=0.0, blur=0.1),
        hjepa.View(name="local", count=4, size=48, area=(0.05, 0.4), jitter=MILD, gray=0.0, blur=0.5),
        # The boxes of the global crops again, larger, in their own colours: for a teacher that sees finer.
        hjepa.View(name="fine", count=2, size=128, area=(0.4, 1.0), gray=0.0, blur=0.0, same_box_as="global"),
    ),
)


def main() -> None:
    """Writes, reads and uses it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, help="folder of images; 64 that hjepa makes without")
    parser.add_argument("--output", type=Path, default=Path("runs/mine.yaml"), help="file for the recipe")
    arguments = parser.parse_args()
    images = arguments.images or sample_data.make(sample_data.default_folder(64), 64)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(recipe_to_yaml(RECIPE), encoding="utf-8")
    recipe = hjepa.load_recipe(arguments.output)
    print(f"{arguments.output} is the same recipe: {recipe == RECIPE}")
    with hjepa.Loader(images, recipe, batch_size=16) as loader:
        batch = next(iter(loader))
    for name, crops in batch.crops.items():
        print(f"  {name}: {tuple(crops.shape)}")
    print(f"  boxes of global and fine crops agree: {bool((batch.boxes['global'] == batch.boxes['fine']).all())}")
    growing = hjepa.Curriculum(recipe=recipe, ramps={"local.count": hjepa.Ramp(start=2, end=6, epochs=2)})
    with hjepa.Loader(images, growing, batch_size=16, epochs=3) as loader:
        for epoch in range(3):
            shapes = {tuple(batch.crops["local"].shape) for batch in loader}
            print(f"epoch {epoch}: local crops {shapes}")


if __name__ == "__main__":
    main()
