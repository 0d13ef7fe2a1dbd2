"""Names in a config that stand for code: a registered name, or `package.module:attribute` for the user's own.

A seam (reward, loss, dataset, ...) has one `Registry`. The user's own code is imported only when its name is looked up,
and only names that the user wrote ever are: `checkpoints.resume` refuses those that merely stand in a run's folder.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.metadata
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from markov_cot.utils.errors import UserError

T = TypeVar("T")

CODE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_NO_FILE, _NOT_IMPORTED = "no file", "not imported"


def is_code(name: object) -> bool:
    """Return whether a setting's value has the form `package.module:attribute`."""
    return isinstance(name, str) and CODE.fullmatch(name) is not None


def unknown(name: str, known: Iterable[str]) -> str:
    """Return what to say of a name that stands for nothing."""
    names = list(known)
    if not names:
        return "not known; give your own as package.module:attribute"
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}? there" if close else "there"
    return f"not known; {hint} are {', '.join([*names, 'your own as package.module:attribute'])}"


class Registry(Mapping[str, T], Generic[T]):
    """The known implementations of one seam, by name.

    Example:
        >>> greetings = Registry("greeting", {"short": "hi"})
        >>> greetings.resolve("short")
        'hi'
        >>> greetings.resolve("string:digits")
        '0123456789'
    """

    def __init__(self, seam: str, known: Mapping[str, T]) -> None:
        """`seam` is what a message calls an entry ("loss", "reward")."""
        self.seam = seam
        self._known = dict(known)

    def __getitem__(self, name: str) -> T:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that adds an implementation under `name`. Raises `ValueError` for a name that is taken."""
        if name in self._known:
            raise ValueError(f"{self.seam} {name!r}: is registered already")

        def add(implementation: T) -> T:
            self._known[name] = implementation
            return implementation

        return add

    def check(self, name: str) -> None:
        """Raise `UserError`, listing what there is, unless `name` is registered or has the form of code."""
        if name in self._known or is_code(name):
            return
        raise UserError(f"{self.seam} {name!r}: {unknown(name, self._known)}")

    def resolve(self, name: str) -> T:
        """Return the implementation, importing it where `name` points into code.

        Raises `UserError` for a name that is not known and for code that cannot be imported.
        """
        self.check(name)
        if name in self._known:
            return self._known[name]
        implementation: T = import_attribute(name, self.seam)
        return implementation


def import_attribute(name: str, seam: str) -> Any:
    """Return what `package.module:attribute` names. Modules in the working directory are found too.

    Raises `UserError` in one line, naming the seam, for whatever goes wrong in the import.
    """
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # a console script has its own folder there, `python -m` the working directory
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's module raises while it is imported
        reason = str(error).strip().splitlines() or [""]
        raise UserError(
            f"{seam} {name}: {module_name} cannot be imported ({type(error).__name__}: {reason[0]})"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = ", ".join(n for n in vars(found) if not n.startswith("_"))
            raise UserError(f"{seam} {name}: {module_name} has no {attribute}; it has {names or 'nothing public'}")
        found = getattr(found, part)
    return found


def provenance(name: str) -> str:
    """Return where code comes from, for manifests: "distribution version", or the file's SHA-256 without one."""
    try:
        module = importlib.import_module(name.partition(":")[0])
    except Exception:  # the user's own, whatever it is; using it will say what is wrong
        return _NOT_IMPORTED
    top = module.__name__.partition(".")[0]
    distributions = importlib.metadata.packages_distributions().get(top, [])
    if distributions:
        return f"{distributions[0]} {importlib.metadata.version(distributions[0])}"
    file = getattr(module, "__file__", None)
    if file is None:
        return _NO_FILE
    return f"sha256 {hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]}"
