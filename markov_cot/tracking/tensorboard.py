"""A run's TensorBoard files: one event file per start of the run, cut when the run goes back to an earlier step.

A record is its length (8 bytes), a checksum of that (4), an `Event` message, and a checksum of it (4).
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from markov_cot.utils.files import AppendFile, replace_file

OF_THE_END = ("_hparams_/", "hparam/")
"""Beginnings of the tags that are written when a run ends, and are void when it goes on."""
_LENGTH = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
_number = itertools.count()


class EventFile(AppendFile):
    """Takes in summaries as torch.utils.tensorboard.summary makes them.

    torch's own writer hands them to a thread, which ends at the first error and takes what it holds with it.
    """

    def __init__(self, folder: Path, first: int) -> None:
        """Opens a new file. A TensorBoard that is watching forgets what it has of step `first` and later."""
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_number)}"
        super().__init__(folder / name)
        start = Event(wall_time=time.time(), step=first, session_log=SessionLog(status=SessionLog.START))
        self.append(_record(Event(wall_time=time.time(), file_version="brain.Event:2")) + _record(start))

    def add(self, step: int, *summaries: Summary) -> None:
        """Adds the values of `summaries` at a step."""
        values = [value for summary in summaries for value in summary.value]
        self.append(_record(Event(wall_time=time.time(), step=step, summary=Summary(value=values))))


def cut_events(folder: Path, last: int) -> None:
    """Drops from a folder's event files what is of steps after `last`, what is torn, and what belongs to a run's end.

    A later start's mark is dropped too: should the clock have gone back, TensorBoard would read the files in the wrong
    order, and it would hide what comes after.
    """
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        events = list(_events(content))
        kept = [record for record, event in events if _stays(event, last)]
        if not any(event.HasField("summary") and _stays(event, last) for _, event in events):
            path.unlink()
        elif (whole := b"".join(kept)) != content:
            replace_file(path, whole)


def _stays(event: Event, last: int) -> bool:
    if event.HasField("summary"):
        return event.step <= last and not any(value.tag.startswith(OF_THE_END) for value in event.summary.value)
    return bool(event.HasField("file_version"))


def _events(content: bytes) -> Iterator[tuple[bytes, Event]]:
    """Whole records and what is in them, up to the first that is not whole."""
    position = 0
    while position + _LENGTH.size <= len(content):
        length, _ = _LENGTH.unpack_from(content, position)
        end = position + _LENGTH.size + length + _CHECKSUM.size
        try:
            event = Event.FromString(content[position + _LENGTH.size : end - _CHECKSUM.size])
        except DecodeError:
            return
        if _record(event) != content[position:end]:
            return
        yield content[position:end], event
        position = end


def _record(event: Event) -> bytes:
    data: bytes = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return length + _CHECKSUM.pack(masked_crc32c(length)) + data + _CHECKSUM.pack(masked_crc32c(data))
