"""A small hub on this machine: as much of the protocol as huggingface_hub asks for, and the ways in which it fails."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = Mapping[str, bytes]


@dataclass
class Repository:
    """A model or dataset."""

    commits: dict[str, Files]
    """By their hash."""
    names: dict[str, str]
    """Branches and tags -> commit."""
    refusal: int = 0
    """Status that its files are refused with, as those of a gated one."""
    broken: set[str] = field(default_factory=set)
    """Files of which half is sent before the connection breaks, and nothing at all when they are asked for again."""

    def find(self, revision: str) -> str | None:
        """The commit of a revision."""
        return self.names.get(revision, revision if revision in self.commits else None)


def commit_of(number: int) -> str:
    """A hash as git's."""
    return hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()


def repository(*versions: Files, **options: Any) -> Repository:
    """One commit for each version, the last of which is the branch "main"."""
    commits = {commit_of(n): files for n, files in enumerate(versions)}
    names = {f"v{n}": commit for n, commit in enumerate(commits)} | {"main": list(commits)[-1]}
    return Repository(commits, names, **options)


class Hub(ThreadingHTTPServer):
    """Serves `repositories`, by "models/org/name" or "datasets/org/name"."""

    daemon_threads = True

    def __init__(self, repositories: dict[str, Repository]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = repositories
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(repositories: dict[str, Repository]) -> Iterator[Hub]:
    """A hub for as long as it is needed."""
    hub = Hub(repositories)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._answer(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def _answer(self, body: bytes = b"") -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.asked.append(f"{self.command} {path}")
        parts = path.split("/")
        if path == "":
            self._send(200, b"the hub")
        elif parts[0] == "heal":
            self.server.repositories["/".join(parts[1:])].broken.clear()
            self._send(200, b"")
        elif parts[0] == "api" and len(parts) >= 4:
            self._api("/".join(parts[1:4]), parts[4:], body)
        elif "resolve" in parts:
            kind = "" if parts[0] == "datasets" else "models/"
            at = parts.index("resolve")
            self._file(kind + "/".join(parts[:at]), parts[at + 1], "/".join(parts[at + 2 :]))
        else:
            self._refuse(404, "EntryNotFound")

    def _api(self, name: str, rest: list[str], body: bytes) -> None:
        found = self.server.repositories.get(name)
        if found is None:
            self._refuse(401, "RepoNotFound")  # the hub does not say which are private
            return
        revision = rest[1] if len(rest) > 1 else "main"
        commit = found.find(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound")
            return
        files = found.commits[commit]
        if rest[:1] == ["tree"]:
            answer: Any = _tree(files, "/".join(rest[2:]), recursive="recursive=true" in self.path.lower())
            if not answer:
                self._refuse(404, "EntryNotFound", commit)
                return
        elif rest[:1] == ["paths-info"]:
            wanted = parse_qs(body.decode()).get("paths") or json.loads(body)["paths"]
            answer = [entry for entry in _entries(files) if entry["path"] in wanted]
        else:
            siblings = [{"rfilename": path} for path in files]
            answer = {"_id": "0", "id": name.partition("/")[2], "sha": commit, "siblings": siblings, "private": False,
                      "gated": "manual" if found.refusal else False, "disabled": False, "tags": [], "downloads": 0,
                      "likes": 0, "lastModified": "2025-01-01T00:00:00.000Z",
                      "createdAt": "2025-01-01T00:00:00.000Z"}  # fmt: skip
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, revision: str, path: str) -> None:
        found = self.server.repositories.get(name)
        if found is None:
            self._refuse(401, "RepoNotFound")
            return
        commit = found.find(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound")
        elif found.refusal:
            self._refuse(found.refusal, "GatedRepo" if found.refusal < 500 else "", commit)
        elif path not in found.commits[commit]:
            self._refuse(404, "EntryNotFound", commit)
        else:
            self._content(found, commit, path)

    def _content(self, found: Repository, commit: str, path: str) -> None:
        content = found.commits[commit][path]
        headers = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        start, asked = 0, self.headers.get("Range", "")
        if asked.startswith("bytes="):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if path in found.broken and self.command == "GET":
            self._break_off(content[start:], headers, again=start > 0)
            return
        self._send(206 if asked else 200, content[start:], headers)

    def _break_off(self, content: bytes, headers: dict[str, str], *, again: bool) -> None:
        self.send_response(206 if again else 200)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if not again:
            self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        self.close_connection = True

    def _refuse(self, status: int, code: str, commit: str | None = None) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code}
        self._send(status, b'{"error": "no"}', headers | ({"X-Repo-Commit": commit} if commit else {}))

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entries(files: Files) -> list[dict[str, Any]]:
    """All files and folders."""
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}
    return [
        *({"type": "directory", "path": folder, "oid": _oid(folder.encode()), "size": 0} for folder in sorted(folders)),
        *(
            {"type": "file", "path": path, "oid": _oid(content), "size": len(content)}
            for path, content in files.items()
        ),
    ]


def _tree(files: Files, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """What is in a folder, and in those in it if `recursive`."""
    top = PurePosixPath(folder)
    return [
        entry
        for entry in _entries(files)
        if (top in PurePosixPath(entry["path"]).parents if recursive else PurePosixPath(entry["path"]).parent == top)
    ]


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
