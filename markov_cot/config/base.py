"""What every group of settings is built from: the base class, and the types of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator

from markov_cot.utils.plugins import is_code, unknown

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
AnswerKind = Literal["numeric", "choice", "continuation", "text"]
"""What answers are: numbers, letters of choices, the text that follows a passage, or any text."""


@dataclass(frozen=True, slots=True)
class Named:
    """Validates a setting that names an implementation: one of those known, or the user's own code."""

    seam: str
    known: tuple[str, ...]

    def __call__(self, value: str) -> str:
        if value not in self.known and not is_code(value):
            raise ValueError(unknown(value, self.known))
        return value


def _is_numeric(annotation: Any) -> bool:
    """Whether a setting of this type is a number or numbers."""
    if get_origin(annotation) in (Annotated, tuple):
        return _is_numeric(get_args(annotation)[0])
    return annotation in (int, float)


class Group(BaseModel):
    """Base of every group of settings: frozen, no unknown keys, no booleans where numbers belong."""

    # The texts below the fields are their descriptions, which `markov-cot config` prints.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _no_booleans_as_numbers(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            for key, value in values.items():
                field = cls.model_fields.get(key)
                parts = value if isinstance(value, list | tuple) else [value]
                if field and _is_numeric(field.annotation) and any(isinstance(part, bool) for part in parts):
                    raise ValueError(f"{key}: expected a number, got {str(value).lower()}")
        return values
