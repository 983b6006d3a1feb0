"""What every section of the settings is: a frozen, strict pydantic model, whose tree can be walked.

Strict: a text is never read as a number and true is never read as 1, so a slip in a YAML file is an error where it stands.
"""

from collections.abc import Iterator
from typing import Annotated, TypeGuard, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """One mapping of the settings tree; the line below each field describes it, with its unit."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the smaller number comes first")
    return pair


Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
ShareOrZero = Annotated[float, Field(ge=0, le=1)]
# strict=False only lets a YAML list be read as a tuple; its items stay strict
ShareRange = Annotated[tuple[Share, Share], Field(strict=False), AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[Positive, Positive], Field(strict=False), AfterValidator(_ordered)]
Counts = Annotated[tuple[Count, ...], Field(strict=False)]
Weights = Annotated[tuple[NotNegative, ...], Field(strict=False)]
Texts = Annotated[tuple[str, ...], Field(strict=False)]


def _is_section(held: object) -> TypeGuard[type[Section]]:
    # get_origin: Python 3.10 calls tuple[int] a type, too
    return isinstance(held, type) and get_origin(held) is None and issubclass(held, Section)


def subsection(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, or None where it holds a value."""
    return field.annotation if _is_section(field.annotation) else None


def item_section(field: FieldInfo) -> type[Section] | None:
    """The section that the items of a field's list are, or None where it holds something else."""
    items = [item for item in get_args(field.annotation) if _is_section(item)]
    return items[0] if items else None


def changed(section: Section, prefix: str = "") -> Iterator[tuple[str, object, object]]:
    """Every setting that is not as by default: its dotted path, its value and its default."""
    for name, value in section:
        default = type(section).model_fields[name].default
        if isinstance(value, Section):
            yield from changed(value, f"{prefix}{name}.")
        elif value != default:
            yield prefix + name, value, default


def walk(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every field below a section with its dotted path, sections before what they hold."""
    for name, field in section.model_fields.items():
        yield prefix + name, field
        if (inner := subsection(field)) is not None:
            yield from walk(inner, f"{prefix}{name}.")
