"""A CoT's tokens coloured by what leaving each of them out does to the answer: for terminals and for HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from markov_cot.utils.text import visible

SHADES = 4
"""Of each colour; the strongest is the example's largest effect."""
_HURTS = ("#fdd0c7", "#fb9a85", "#f25c43", "#c9210f")
_HELPS = ("#cfe1f5", "#94bfe8", "#4a90d9", "#165fa8")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
FAINT = 0.05
"""Share of the largest effect below which a token stays uncoloured."""


@dataclass(frozen=True, slots=True)
class Occlusion:
    """One example: the effect, in nats per answer token, of leaving each token out."""

    index: int
    """Of the item."""
    question: str
    answer: str
    tokens: tuple[str, ...]
    effects: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """As in a probe's JSON."""
        return {
            "item": self.index,
            "question": self.question,
            "answer": self.answer,
            "tokens": list(self.tokens),
            "effects": [round(effect, 6) for effect in self.effects],
        }

    def heaviest(self, count: int = 3) -> list[tuple[str, float]]:
        """Return the tokens that the answer loses most without, the heaviest first."""
        pairs = sorted(zip(self.tokens, self.effects, strict=True), key=lambda pair: -pair[1])
        return [pair for pair in pairs[:count] if pair[1] > 0]

    def as_terminal(self) -> Text:
        """Return the CoT with a background behind the tokens that count: red where the answer needs them."""
        text = Text()
        for token, colour in self._coloured():
            text.append(visible(token), style=f"black on {colour}" if colour else "")
        return text

    def as_html(self) -> str:
        """Return the CoT as a fragment in which each token's effect is its title; all text is escaped."""
        parts = []
        for (token, colour), effect in zip(self._coloured(), self.effects, strict=True):
            style = f' style="background:{colour};color:#000"' if colour else ""
            parts.append(f'<span title="{effect:+.3f} nats"{style}>{html.escape(visible(token))}</span>')
        return f'<div class="cot" style="white-space:pre-wrap">{"".join(parts)}</div>'

    def _coloured(self) -> list[tuple[str, str | None]]:
        largest = max(map(abs, self.effects), default=0.0)
        return [(token, _colour(effect, largest)) for token, effect in zip(self.tokens, self.effects, strict=True)]


def page(examples: Sequence[Occlusion], title: str) -> str:
    """Return a page of its own with examples; it may load and run nothing."""
    parts = [
        f"<h2>item {each.index}</h2><p>{html.escape(visible(each.question))}</p>"
        f"<p>answer: <b>{html.escape(visible(each.answer))}</b></p>{each.as_html()}"
        for each in examples
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<title>{html.escape(title)}</title></head><body><h1>{html.escape(title)}</h1>"
        "<p>Without a red token the answer is less probable, without a blue one more. A token's effect, in nats per "
        f"token of the answer, is its title.</p>{''.join(parts)}</body></html>\n"
    )


def _colour(effect: float, largest: float) -> str | None:
    """One of the shades of red for what hurts when it is gone, of blue for what helps; None for next to nothing."""
    if largest == 0 or abs(effect) < FAINT * largest:
        return None
    shade = min(SHADES - 1, int(SHADES * abs(effect) / largest))
    return (_HURTS if effect > 0 else _HELPS)[shade]
