"""What to say of a name that is not known: the nearest right one, or all of them."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(name: object, known: Iterable[str]) -> str:
    """The end of an error's text: "did you mean dinov2?", or "use one of ..." where nothing is near."""
    names = list(known)
    near = get_close_matches(str(name).lower(), names, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"use one of {', '.join(names)}"
