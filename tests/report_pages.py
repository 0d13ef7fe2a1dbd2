"""Reports' pages, taken apart as a browser takes them apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

import html5lib

from markov_cot.analysis.report.view import FORMS, MISSING, find, key_of
from markov_cot.utils.text import visible

UNSEEN = ("{http://www.w3.org/2000/svg}svg", "script", "style")
CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0001]"
)
"""What a terminal or a browser would obey."""
NAMES = ("F1", "The run's files and their SHA-256")
"""Texts of a page that have a digit and are no numbers."""


def parse(page: str) -> Element:
    """Return the page's root. Raises `html5lib.html5parser.ParseError` where it is no HTML."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    root: Element = parser.parse(page)
    return root


def body(root: Element) -> Element:
    found = root.find("body")
    assert found is not None
    return found


def structure(root: Element) -> list[tuple[str, tuple[str, ...]]]:
    """Return all elements in order, with the names of their attributes."""
    return [(str(each.tag), tuple(sorted(map(str, each.attrib)))) for each in root.iter()]


def shown(document: Any, place: str, form: str) -> str:
    """Return what an element shows that names this place and form."""
    if form == "key":
        return visible(key_of(place.rpartition("/")[2]))
    try:
        raw = find(document, place)
    except (LookupError, TypeError):
        raw = None
    return FORMS[form](raw)


def text_of(element: Element) -> str:
    return "".join(element.itertext())


def mistaken_numbers(root: Element, document: Any) -> Iterator[str]:
    """Yield what in the page's body is not what the document has, and digits that are from nowhere."""
    for element in root.iter():
        place = element.get("data-at")
        if place is not None:
            wanted, found = shown(document, place, str(element.get("data-as"))), text_of(element)
            if wanted != found:
                yield f"{place}: {found[:80]!r} instead of {wanted[:80]!r}"
    yield from (f"from nowhere: {text!r}" for text in _typed(body(root)) if any(map(str.isdigit, text)))


def _typed(element: Element) -> Iterator[str]:
    """Yield the texts that come from no place in the document."""
    is_of_document = element.get("data-at") is not None or is_occlusion(element)
    if element.text and not is_of_document and element.tag not in UNSEEN and element.text not in NAMES:
        yield element.text
    for child in element:
        if not is_of_document and element.tag not in UNSEEN:
            yield from _typed(child)
        if child.tail and not is_of_document and element.tag not in UNSEEN:
            yield child.tail


def is_occlusion(element: Element) -> bool:
    """Whether it is a CoT with coloured tokens."""
    return element.tag == "div" and element.get("class") == "cot"


def missing_places(root: Element, document: Any) -> set[str]:
    """Return the places that a page names and its document lacks, without their numbers."""
    found = set()
    for element in root.iter():
        place = element.get("data-at")
        try:
            _ = place is not None and find(document, place)
        except (LookupError, TypeError):
            assert text_of(element) == MISSING
            found.add(re.sub(r"/\d+", "", str(place)))
    return found
