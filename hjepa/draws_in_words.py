"""The draws of one crop in words, for whoever looks at its picture."""

from hjepa.pipeline.draws import IDENTITY, ViewDraws

PARTS = ("brightness", "contrast", "saturation", "hue")


def in_words(draws: ViewDraws, image: int, crop: int, size: tuple[int, int]) -> tuple[str, ...]:
    """What was decided for a crop of an image of this size (height, width): its place first, then what happens to its colours.

    Only what has an effect is said, in the order in which it is applied.
    """
    top, left, height, width = draws.box[image, crop].tolist()
    words = [f"{height * width / (size[0] * size[1]):.0%} of the image", f"{width}x{height} px at {left},{top}"]
    if draws.flip[image, crop]:
        words.append("mirrored")
    words += _jitter(draws, image, crop)
    if draws.gray[image, crop]:
        words.append("gray")
    if draws.sigma[image, crop] > 0:
        words.append(f"blurred, sigma {draws.sigma[image, crop]:.2f} px")
    if draws.solarize[image, crop]:
        words.append("solarized")
    return tuple(words)


def _jitter(draws: ViewDraws, image: int, crop: int) -> list[str]:
    factors = draws.jitter[image, crop].tolist()
    words = []
    for part in draws.order[image, crop].tolist():
        if factors[part] != IDENTITY[part]:
            hue = PARTS[part] == "hue"
            words.append(f"hue {factors[part] * 360:+.0f}°" if hue else f"{PARTS[part]} x{factors[part]:.2f}")
    return words
