"""Advice for the three complaints of documents B and D (out of memory, too slow, poor results), with this run's own figures.

Where the documents are wrong it is put right: more threads, not fewer, and memory by arithmetic instead of "1.6 times".
"""

from dataclasses import replace

from hjepa.pipeline.recipe import Recipe

MIB = 1 << 20
FEWER_LOCALS, SMALLER_LOCALS = 4, 64
"""What document B goes down to."""


def advise(recipe: Recipe, batch_size: int, cores: int) -> dict[str, tuple[str, ...]]:
    """Complaint -> what to try, in order."""
    all_cores = "the one core" if cores == 1 else f"all {cores} cores"
    return {
        "out of memory": (*_memory(recipe, batch_size), "gradients of several small batches: training.accumulation_steps=2"),
        "too slow": (
            "see what bounds the run, above, before anything else",
            f"data.num_workers=auto takes {all_cores}; they are threads, of which more than cores gain nothing "
            "(hjepa tune tries fewer)",
            "fewer local crops, where crops or the model are the bound",
            "data.pipeline=dali; torchvision is the reference, not the fast way",
        ),
        "poor results": (
            "look at the crops: hjepa view shows whether they still show the object, and what the colours became",
            "watch RankMe and the deviation of the features: hjepa eval says when they collapsed",
            "train longer; 50 epochs are few, 300 are usual",
            "training.lr: raise it with the global batch, and keep a warm-up",
            "another masking.strategy: global_only first, then global_with_local_context, then cross_crop_prediction",
        ),
    }


def batch_mib(recipe: Recipe, batch_size: int) -> float:
    """Memory of one batch's crops as float32."""
    return sum(batch_size * view.count * 3 * view.size**2 * 4 for view in recipe.views) / MIB


def _memory(recipe: Recipe, batch_size: int) -> list[str]:
    """The ladder of document B as far as it goes down from here, each step with what it leaves of the pixels.

    What a model keeps for the backward pass goes by its tokens, hence by pixels, too.
    """
    now = batch_mib(recipe, batch_size)
    steps = []
    count = recipe.count("local")
    if count > FEWER_LOCALS and sum(view.name == "local" for view in recipe.views) == 1:
        fewer = _with_locals(recipe, count=FEWER_LOCALS)
        steps.append(
            f"{FEWER_LOCALS} local crops instead of {count} leave {batch_mib(fewer, batch_size) / now:.0%} of the pixels"
        )
    if batch_size > 1:
        left = batch_mib(recipe, batch_size // 2)
        steps.append(f"batch_size={batch_size // 2} leaves half: {left:.0f} MiB of crops instead of {now:.0f}")
    if any(view.name == "local" and view.size > SMALLER_LOCALS for view in recipe.views):
        smaller = _with_locals(recipe, size=SMALLER_LOCALS)
        share = batch_mib(smaller, batch_size) / now
        steps.append(f"local crops of {SMALLER_LOCALS} pixels leave {share:.0%} of the pixels")
    return steps


def _with_locals(recipe: Recipe, **changes: int) -> Recipe:
    views = tuple(replace(view, **changes) if view.name == "local" else view for view in recipe.views)  # type: ignore[arg-type]
    return replace(recipe, views=views)
