"""Reaching the hub: whether it answers at all, and what its refusals mean, in one line each.

Models and datasets are read by transformers and datasets; both go through huggingface_hub, whose errors end up in the
chain of causes of whatever they raise.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

_SECONDS = 10.0
"""In which the hub must answer. The libraries try again and again, for minutes."""
_LOGIN = "run `hf auth login`, or set HF_TOKEN"
_BROKEN_OFF = ("RemoteProtocolError", "ReadError", "ReadTimeout", "IncompleteRead", "ChunkedEncodingError")
_UNAUTHORIZED, _FORBIDDEN, _BUSY = 401, 403, 429
_SERVER_FAULT = 500


class Access:
    """The hub as it was found when this was made: answering, or only its cache on this machine."""

    def __init__(self) -> None:
        """Asks the hub for one answer; none within ten seconds means that it cannot be reached."""
        self.fault = _ask()
        """Why it cannot be reached; None when it answers."""

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Within it the libraries read only the cache of a hub that cannot be reached, without trying it again."""
        if self.fault is None:
            yield
            return
        import datasets
        import huggingface_hub

        switches: list[Any] = [huggingface_hub.constants, datasets.config]
        before = [switch.HF_HUB_OFFLINE for switch in switches]
        for switch in switches:
            switch.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            for switch, value in zip(switches, before, strict=True):
                switch.HF_HUB_OFFLINE = value

    def explain(self, error: BaseException, repository: str, revision: str | None = None) -> str | None:
        """Return in one line what the hub refused and what to do; None when `error` is none of the hub's."""
        chain = _chain(error)
        names = {cls.__name__ for each in chain for cls in type(each).__mro__}
        texts = " ".join(str(each) for each in chain)
        status = next((code for each in chain if (code := _status(each))), None)
        # datasets drops the cause and says it in words.
        lost_cause = "DatasetNotFoundError" in names
        if "GatedRepoError" in names or (lost_cause and "gated" in texts):
            return _gated(repository, with_token=status == _FORBIDDEN or "ask for access" in texts)
        if "RevisionNotFoundError" in names or (lost_cause and texts.startswith("Revision")):
            return f"{repository} has no revision {revision or 'main'} on the hub; check the branch, tag or commit"
        if "RepositoryNotFoundError" in names or lost_cause:
            return (
                f"there is no {repository} on the hub, or it is private; check the name, and for a private one {_LOGIN}"
            )
        if status in (_UNAUTHORIZED, _FORBIDDEN):
            return f"the hub refuses {repository} ({status}); {_LOGIN} with access to it"
        if status == _BUSY or (status or 0) >= _SERVER_FAULT:
            return f"the hub answers {status}; try again later"
        unread = names & {"OfflineModeIsEnabled", "LocalEntryNotFoundError"} or "Couldn't reach" in texts
        if self.fault is not None and unread:
            return f"{self.fault}, and the hub's cache on this machine does not have all of it"
        if names & set(_BROKEN_OFF) or "Consistency check failed" in texts:
            return "the download broke off; start again, what has arrived is kept"
        if names & {"LocalEntryNotFoundError", "ConnectError", "ConnectTimeout"}:
            return "the hub went away during the download; start again, what has arrived is kept"
        return None


def transport_errors() -> tuple[type[BaseException], ...]:
    """Return the class of what the HTTP library raises when a download fails; it is no `OSError`."""
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(cls for cls in HfHubHTTPError.__mro__ if cls.__name__ in ("HTTPError", "RequestException"))


def _ask() -> str | None:
    import huggingface_hub

    endpoint = huggingface_hub.constants.ENDPOINT
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return "the hub is switched off (HF_HUB_OFFLINE)"
    try:
        status = huggingface_hub.get_session().head(endpoint, timeout=_SECONDS).status_code
    # The classes are those of whichever HTTP library huggingface_hub uses; all mean that no answer came.
    except Exception as error:
        return f"the hub at {endpoint} cannot be reached ({_reason(error)})"
    return f"the hub at {endpoint} answers {status}" if status >= _SERVER_FAULT else None


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"^\[Errno -?\d+\] ", "", text)


def _gated(repository: str, *, with_token: bool) -> str:
    if with_token:
        return (
            f"{repository} is gated and your token has no access to it; ask for access (accept the licence) on its "
            "page on the hub, and give the token permission to read gated repositories"
        )
    return f"{repository} is gated; accept its licence on its page on the hub, then {_LOGIN}"


def _status(error: BaseException) -> int | None:
    code = getattr(getattr(error, "response", None), "status_code", None)
    return code if isinstance(code, int) and code >= 400 else None


def _chain(error: BaseException) -> list[BaseException]:
    """An error and all that led to it."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        following = following.__cause__ or following.__context__
    return found
