"""Warnings that other libraries raise and we can do nothing about; every other one fails the tests that look for them.

A deprecation of what *we* call or pass is ours, whichever file it is reported in: it is fixed, not listed.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Known:
    """One warning, who raises it, and why it stays."""

    library: str
    """The one whose code has to change, with the version last seen to raise it."""
    category: type[Warning]
    message: str
    """Regular expression that the message begins with."""
    noted: str
    """Date, as in 2026-11-26."""
    reason: str

    def matches(self, category: type[Warning], message: str) -> bool:
        return issubclass(category, self.category) and re.match(self.message, message) is not None

    @property
    def pytest_filter(self) -> str:
        """The line of pytest's `filterwarnings` that leaves it out of the summary."""
        name = self.category.__qualname__
        module = self.category.__module__
        return f"ignore:{self.message}:{name if module == 'builtins' else f'{module}.{name}'}"


KNOWN: tuple[Known, ...] = (
    Known(
        library="peft 0.21.2",
        category=FutureWarning,
        message="`is_gradient_checkpointing` is deprecated",
        noted="2026-11-26",
        reason="get_peft_model and PeftModel.from_pretrained read the base's attribute by its old name",
    ),
)


@contextmanager
def no_warning_but(known: Sequence[Known] = KNOWN) -> Iterator[None]:
    """Fail at the end if anything within warned that is not on the list.

    Recorded rather than raised, since code that tries something and falls back would catch an exception.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    new = {
        f"{each.category.__name__} at {each.filename}:{each.lineno}: {each.message}"
        for each in caught
        if not any(one.matches(each.category, str(each.message)) for one in known)
    }
    assert not new, "\n".join(sorted(new))
