"""Alarms of the user's own: found by name, and their rules checked row by row, so that what fails is one line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from markov_cot.alarms.alarm import Alarm, Context, Row, Rule, Text
from markov_cot.alarms.gauge import Reading
from markov_cot.alarms.registry import ALARMS
from markov_cot.config.alarms import Alarms, Levels
from markov_cot.utils.errors import UserError
from markov_cot.utils.hooks import HookError, hook, short
from markov_cot.utils.text import first_line

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def load_own(settings: Alarms) -> tuple[Alarm, ...]:
    """Return the alarms that `alarms.own` names, with rules that raise nothing but `HookError`.

    Raises `UserError` for a name that cannot be imported or is no `Alarm`, and for two alarms of one name.
    """
    found: dict[str, str] = dict.fromkeys(ALARMS, "a built-in alarm")
    alarms = []
    for code in settings.own:
        alarm = _load(code, settings.own_args.get(code))
        if alarm.name in found:
            raise UserError(f"alarm {code}: is called {alarm.name}, as {found[alarm.name]} is; choose another name")
        found[alarm.name] = code
        alarms.append(Alarm(alarm.name, alarm.levels, _checked(code, alarm), alarm.texts, _named(code, alarm.remedy)))
    return tuple(alarms)


def _load(code: str, args: Mapping[str, Any] | None) -> Alarm:
    try:
        found: Any = ALARMS.resolve(code)
    except UserError as error:
        raise _with_reason(code, error) from error
    if isinstance(found, Alarm):
        if args:
            raise UserError(f"alarm {code}: is an Alarm and takes no arguments; take it out of alarms.own_args")
    elif callable(found):
        try:
            found = found(**(args or {}))
        except Exception as error:  # whatever the user's code raises
            raise UserError(f"alarm {code}: raised {type(error).__name__}: {_reason(error)}; fix it") from error
    if not isinstance(found, Alarm):
        raise UserError(f"alarm {code}: is {short(found)}; name an Alarm, or a function that returns one")
    if fault := _fault(found):
        raise UserError(f"alarm {code}: {fault}")
    return found


def _with_reason(code: str, error: UserError) -> UserError:
    """What pydantic says of wrong levels stands in its second line."""
    cause = error.__cause__
    return UserError(f"alarm {code}: {_reason(cause)}; fix it") if isinstance(cause, ValidationError) else error


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return first_line(error)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{error.title}: {f'{where}: ' if where else ''}{first['msg'].removeprefix('Value error, ')}"


def _fault(alarm: Alarm) -> str | None:
    """Say what of an alarm is not as it should be."""
    if not isinstance(alarm.name, str) or not NAME.fullmatch(alarm.name):
        return f"its name is {short(alarm.name)}; use letters, digits and _, as in kl"
    if not isinstance(alarm.levels, Levels):
        return f"its levels are {short(alarm.levels)}; give Levels(warn=..., critical=..., patience=...)"
    if not callable(alarm.rule):
        return f"its rule is {short(alarm.rule)}; give a generator of readings"
    if not isinstance(alarm.texts, Mapping) or not alarm.texts:
        return f"its texts are {short(alarm.texts)}; give a Text for each kind of reading"
    for kind, text in alarm.texts.items():
        if not isinstance(text, Text):
            return f"its text {kind!r} is {short(text)}; give Text(seen, cause, changes)"
        if isinstance(text.changes, str) or not all(isinstance(each, str) for each in text.changes):
            return f"the changes of its text {kind!r} are {short(text.changes)}; give a tuple of sentences"
    return None


def _checked(code: str, alarm: Alarm) -> Rule:
    """Return the alarm's rule, with readings that can be judged and told. Where it fails, it has seen nothing."""

    def rule(row: Row, context: Context) -> Iterable[Reading]:
        before, where = dict(context.memory), f"alarm {code}, step {context.step}"
        try:
            with hook("alarm", code, context.step):
                given = alarm.rule(MappingProxyType(dict(row)), context)
                if not isinstance(given, Iterable):
                    raise HookError(f"{where}: returned {short(given)}, not readings; yield Reading(...)")
                readings = [_readable(where, alarm, reading) for reading in given]
                _check_memory(where, context.memory)
        except HookError:
            context.memory = before
            raise
        return readings

    return rule


def _readable(where: str, alarm: Alarm, reading: Any) -> Reading:
    """Return a reading with plain numbers. Raises `HookError` for one that is none, or that its text cannot tell."""
    if not isinstance(reading, Reading):
        raise HookError(f"{where}: yielded {short(reading)}, not a Reading")
    if reading.kind not in alarm.texts:
        kinds = ", ".join(map(str, alarm.texts))
        raise HookError(f"{where}: a reading's kind is {reading.kind!r}, which has no text; there are {kinds}")
    value, warn, critical, hard = (
        _number(where, key, getattr(reading, key)) for key in ("value", "warn", "critical", "hard")
    )
    seen = {str(key): _number(where, f"seen {key!r}", value) for key, value in dict(reading.seen).items()}
    if infinite := [key for key, value in seen.items() if not math.isfinite(value)]:
        raise HookError(f"{where}: a reading's seen {infinite[0]!r} is {seen[infinite[0]]}; give finite numbers")
    try:
        alarm.texts[reading.kind].seen.format_map({**seen, "what": reading.what})
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise HookError(
            f"{where}: its text {reading.kind!r} cannot be filled in ({type(error).__name__}: {first_line(error)}); "
            f"the reading's seen has {', '.join(seen) or 'nothing'}"
        ) from error
    return Reading(str(reading.measure), reading.kind, value, warn, critical, hard, seen, str(reading.what))


def _number(where: str, what: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        raise HookError(f"{where}: a reading's {what} is {short(value)}; give a number")
    return number


def _check_memory(where: str, memory: Any) -> None:
    """It is saved as JSON."""
    for key, value in memory.items():
        if not isinstance(key, str) or not isinstance(value, int | float):
            raise HookError(f"{where}: context.memory[{key!r}] is {short(value)}; keep plain numbers by name")


def _named(code: str, remedy: Callable[[Mapping[str, Any]], Any]) -> Callable[[Mapping[str, Any]], Any]:
    """Return the alarm's remedy, which names the alarm where it fails."""

    def named(settings: Mapping[str, Any]) -> Any:
        with hook("alarm", code):
            return dict(remedy(settings))

    return named
