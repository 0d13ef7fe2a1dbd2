"""The words by which a response takes an answer back, rules one out, leaves it open or gives none."""

from __future__ import annotations

import re

_WRONG = r"(?:wrong|incorrect|not\s(?:right|correct|quite\sright)|(?:a|an|my)\s(?:mistake|error))"
_CORRECTION = re.compile(
    rf"""
    \b(?: (?P<retracts> that(?:['’]s|\sis|\swas)\s{_WRONG} | this\sis\s{_WRONG} | scratch\sthat | never\s?mind
          | i\s(?:was\swrong|misread|miscounted|miscalculated|misspoke|made\s(?:a|an)\s\w{{0,12}}\s?(?:mistake|error))
          | my\s(?:mistake|bad) | oops )
      | (?P<redoes> correction | i\smeant | let\sme\s(?:re\w{{2,12}}|correct|fix|try\sagain|start\sover) | i\sforgot )
      | (?: (?: \A | (?<=[\n(*_"—–-]) | (?<=[.!?,;:…—–-]\s) | (?<=\b(?:oh|no)\s) | (?<=\bbut\s) )
            wait  # and not "a long wait"
          | hold\son | actually | hmm+ | on\s(?:second\sthought|reflection) | sorry
          | (?<=[.!?;,—–-]\s)no(?=[,:;.—–-]|\s?-) | (?<=[.!?]\s)no(?=\s(?:it|the\sanswer|that)\b) )
    )\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
# A part of every correction, and of every refusal: quick to look for.
_CORRECTION_WORDS = (
    *("wait", "actual", "hold on", "hmm", "scratch", "never", "i m", "my bad", "oops", "let me", "forgot", "sorry"),
    *(
        "orrection",
        "incorrect",
        "t correct",
        "t right",
        "e right",
        "mistake",
        "error",
        "wrong",
        "thought",
        "reflection",
    ),
)
_NO = ("no,", "no:", "no.", "no;", "no ", "no-", "no—", "no–")
_CONFIRMS = re.compile(
    r"\b(?:yes|yep|correct|confirmed|checks\sout|that['’]s\sright|is\sright|it\sis\sright|consistent|good|indeed)\b",
    re.IGNORECASE,
)
_DENIES = re.compile(rf"\b(?:{_WRONG}|should\s(?:actually\s|have\s)?be)", re.IGNORECASE)

_INFORMATION = r"(?:information|info|data|details|context)\b"
_REFUSAL = re.compile(
    rf"""
    \b(?: (?:not|n['’]t|lacks?|without)\s(?:\w{{1,10}}\s){{0,2}}?(?:enough|sufficient)\s{_INFORMATION}
      | (?:insufficient|too\slittle)\s{_INFORMATION} | need\smore\s{_INFORMATION}
      | more\s{_INFORMATION}\s(?:is|are|would\sbe)\s(?:needed|required|necessary)
      | (?:can\s?not|can['’]t|could\snot|couldn['’]t)\s(?:be\s|possibly\s|really\s|give\s|provide\s){{0,2}}
        (?:an\s|the\s|a\s)?(?:definite\s|exact\s)?
        (?:determined?|answer(?:ed)?|calculated?|computed?|solved?|found|tell|say|know|known|help)\b
      | (?:unable|impossible|not\spossible)\sto\s(?:determine|answer|calculate|compute|solve|find|tell|say|know)
      | (?:do\snot|don['’]t)\s(?:really\s)?know | (?:have\s)?no\sidea
      | (?:is|has|have|there['’]s|are)\sno\s(?:real\s)?(?:solutions?|answers?)\b
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_REFUSAL_WORDS = (
    *("enough", "sufficient", "too little", "can't", "can’t", "cannot", "can not", "could", "unable", "possible to"),
    *("know", "no ", "more info", "more data", "more det", "more con"),
)
_CLAUSE_ENDS = re.compile(r"[.!?](?=\s|\Z)|[;\n]|,?\s(?:but|however|so|yet|still)\b", re.IGNORECASE)

_NEGATOR = (
    r"(?:\b(?:not|cannot|never|nor|neither|unlike|except|rather\sthan|instead\sof|other\sthan|ruled?\sout)"
    r"|\w{2,6}n['’]t)"
)
_NEGATOR_WORDS = ("not", "n't", "n’t", "than", "never", "nor", "either", "instead", "except", "unlike", "rule")
_NEGATED_BEFORE = re.compile(
    rf"{_NEGATOR}\s(?:(?:be|just|only|exactly|simply|even|the|a|an|equal|to|at|answer|is)\s){{0,3}}[\s*_`\"'“‘$(\[\\]{{0,4}}\Z",
    re.IGNORECASE,
)
# "40 girls are not on the team" rules nothing out: "not" must deny that this is the answer.
NEGATED_AFTER = re.compile(
    r"""
    [\s*_`"'”’)\]%]{0,4} (?: (?:[a-z]{1,12}\s){0,2}
      (?: (?:is|are|was|were|would\sbe|seems|looks)\s(?:clearly\s|also\s|obviously\s|simply\s|just\s|far\s|much\s)?
          (?:wrong|incorrect|false|impossible|too\s(?:small|large|big|low|high|many|few|much|little)|ruled\sout)\b
        | (?:(?:is|was|would|are|were)\s(?:be\s)?not|(?:is|was|are|were)n['’]t|can(?:not|\snot|['’]t)\sbe)\s(?:quite\s)?
          (?:(?:the\s|an?\s)?(?:right\s|correct\s)?(?:answer|number|solution|result|total)|the\sone|right|correct
            |possible|enough|true|it)\b )
      | \?\s{1,3}(?:no|nope|not)\b )
    """,
    re.VERBOSE | re.IGNORECASE,
)
MOST_CORRECTIONS = 8


def corrections(text: str) -> list[re.Match[str]]:
    """The last places where `text` takes back or doubts what it has said, in order.

    >>> [match[0] for match in corrections("It is 5. Wait, that's wrong: it is 7.")]
    ['Wait', "that's wrong"]
    """
    lowered = text.lower()
    may_say_no = (" no" in lowered or "\nno" in lowered) and has_any(lowered, _NO)
    if not (may_say_no or has_any(lowered, _CORRECTION_WORDS)):
        return []
    return list(_CORRECTION.finditer(text))[-MOST_CORRECTIONS:]


def confirms(text: str) -> bool:
    """Whether what comes after a doubt settles it: "Wait, let me check. Yes, that is right."."""
    return _CONFIRMS.search(text) is not None and _DENIES.search(text) is None


def refusal(text: str) -> re.Match[str] | None:
    """The last place where `text` says that there is no answer to give.

    >>> refusal("There is not enough information.")[0], refusal("It is enough.")
    ('not enough information', None)
    """
    if not has_any(text.lower(), _REFUSAL_WORDS):
        return None
    found = None
    for found in _REFUSAL.finditer(text):  # noqa: B007 - only the last one is wanted
        pass
    return found


def is_negated_before(text: str, start: int) -> bool:
    """Whether what stands at `start` is ruled out by the words before it: "not", "rather than"."""
    before = text[max(0, start - 40) : start]
    return has_any(before.lower(), _NEGATOR_WORDS) and _NEGATED_BEFORE.search(before) is not None


def has_any(lowered: str, words: tuple[str, ...]) -> bool:
    """Whether one of the words is a part of a text in lower case."""
    # Far quicker than the patterns, which few responses need; and a loop is quicker than `any` of a generator.
    for word in words:  # noqa: SIM110
        if word in lowered:
            return True
    return False


def end_of_refusal(refused: re.Match[str]) -> int:
    """Where the clause that refuses ends: what it mentions is no answer, what comes after it may be one."""
    ends = _CLAUSE_ENDS.search(refused.string, refused.end())
    return ends.end() if ends else len(refused.string)
