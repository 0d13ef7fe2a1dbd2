from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from markov_cot.data.reading import csv_rows, is_dir, is_file, json_rows, read_text, table_rows
from markov_cot.utils.errors import UserError


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_jsonl_lines_are_numbered_and_blank_ones_passed_over(tmp_path: Path) -> None:
    rows = list(json_rows(write(tmp_path / "f.jsonl", b'{"a": 1}\r\n\n  \n{"a": 2}')))
    assert [(row.number, row.unit, row.value) for row in rows] == [(1, "line", {"a": 1}), (4, "line", {"a": 2})]


def test_unicode_line_separators_do_not_end_a_line(tmp_path: Path) -> None:
    text = json.dumps({"a": "x\u2028y\u0085z\x0c"}, ensure_ascii=False)
    assert [row.value for row in json_rows(write(tmp_path / "f.jsonl", text.encode()))] == [
        {"a": "x\u2028y\u0085z\x0c"}
    ]


@pytest.mark.parametrize("content", [b'[{"a": 1}, {"a": 2}]', b' \n[\n{"a": 1},\n{"a": 2}\n]\n'])
def test_a_json_list_counts_rows(tmp_path: Path, content: bytes) -> None:
    rows = list(json_rows(write(tmp_path / "f.json", content)))
    assert [(row.number, row.unit, row.value) for row in rows] == [(1, "row", {"a": 1}), (2, "row", {"a": 2})]


@pytest.mark.parametrize("content", [b'{"a": 1}\n', b'[{"a": 1}]'])
@pytest.mark.parametrize("name", ["f.jsonl", "f.jsonl.gz"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_gzip_and_byte_order_marks_are_seen_through(tmp_path: Path, content: bytes, name: str, bom: bytes) -> None:
    """gzip is recognised by content, so a file that was unpacked but not renamed reads as well."""
    for data in (bom + content, gzip.compress(bom + content)):
        assert [row.value for row in json_rows(write(tmp_path / name, data))] == [{"a": 1}]


def test_broken_lines_become_faults(tmp_path: Path) -> None:
    lines = [b'{"a": 1', b'{"a": "\xff"}', b"[" * 100_000 + b"]" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b'{"a": 1}']
    rows = list(json_rows(write(tmp_path / "f.jsonl", b"{}\n" + b"\n".join(lines))))
    assert [row.number for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[1].fault == "not JSON (column 8: Expecting ',' delimiter)"
    assert rows[2].fault == "not UTF-8 (byte 8)"
    assert rows[3].fault == "not JSON (nested too deeply)"
    assert rows[4].fault == "holds a number of more than 4300 digits"
    assert rows[5].value == {"a": 1} and not rows[5].fault


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"a": 1},\n{"a": }]', r"f.json line 2: not JSON \(column 7: Expecting value\); correct the file"),
        (
            b'[{"a": 1},\n{"a": ' + b"9" * 5000 + b"}]",
            "f.json line 1: holds a number of more than 4300 digits; correct",
        ),
        (b'[{"a": 1},\n{"a": "\xff"}]', r"f.json line 2: not UTF-8 \(byte 8\); save the file as UTF-8"),
    ],
)
def test_a_broken_json_list_names_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(json_rows(write(tmp_path / "f.json", content)))


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b'{"data": [{"a": 1}, {"a": 2}]}', [{"a": 1}, {"a": 2}]),
        (b'\n{\n"version": "1",\n"data": [\n{"a": 1}]}\r\n', [{"a": 1}]),
        (b'{\n"a": 1,\n"b": 2\n}', [{"a": 1, "b": 2}]),  # one row on several lines
        (b'{"question": "q", "data": [1]}', [{"question": "q", "data": [1]}]),
        (b'{"data": [1]}\n{"data": [2]}', [{"data": [1]}, {"data": [2]}]),
        (b'{"data": []}', []),
        (b"[]", []),
        (b"\r\n \n", []),
    ],
)
def test_objects_around_the_rows(tmp_path: Path, content: bytes, values: list[object]) -> None:
    assert [row.value for row in json_rows(write(tmp_path / "f.json", content))] == values


@pytest.mark.parametrize("content", [b'{"a": 1, "b": {"c": 1, "c": 2}}\n{"a": 1}', b'[{"c": 1, "c": 2}, {"a": 1}]'])
def test_a_key_given_twice_breaks_its_row(tmp_path: Path, content: bytes) -> None:
    rows = list(json_rows(write(tmp_path / "f.json", content)))
    assert [(row.number, row.fault, row.value) for row in rows] == [
        (1, "the key 'c' is there twice", None),
        (2, "", {"a": 1}),
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_wide_encodings_are_refused_as_such(tmp_path: Path, encoding: str) -> None:
    for name, read in (("f.jsonl", json_rows), ("f.csv", csv_rows)):
        with pytest.raises(
            UserError, match=r"f\.\w+: is UTF-16 or UTF-32 text, or no text at all; save the file as UTF"
        ):
            list(read(write(tmp_path / name, '{"a": 1}\n'.encode(encoding))))


def test_csv_rows_are_numbered_by_the_line_they_start_on(tmp_path: Path) -> None:
    rows = list(csv_rows(write(tmp_path / "f.csv", b'\xef\xbb\xbfa,"b\nb"\r\n\r\n"c, ""d""",e\n')))
    assert [(row.number, row.value) for row in rows] == [(1, ["a", "b\nb"]), (4, ['c, "d"', "e"])]


def test_csv_faults_name_the_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"f.csv line 2: not UTF-8 \(byte 3\)"):
        list(csv_rows(write(tmp_path / "f.csv", b"a,b\nc,\xff\n")))
    with pytest.raises(UserError, match=r"f.csv line 2: not CSV \(field larger than field limit"):
        list(csv_rows(write(tmp_path / "f.csv", b'a,b\n"' + b"x" * 200_000)))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder, not a file"):
        read_text(tmp_path)
    with pytest.raises(UserError, match="does not exist; check the path"):
        read_text(tmp_path / "none")
    whole = gzip.compress(b"x" * 1000)
    for broken in (whole[:-12], whole[:12] + b"\xff\xff" + whole[14:], whole[:2] + b"junk"):
        with pytest.raises(UserError, match="broken gzip file"):
            read_text(write(tmp_path / "f.gz", broken))


def test_tables_count_rows_from_one() -> None:
    assert [(row.number, row.unit) for row in table_rows([{}, {}])] == [(1, "row"), (2, "row")]


def test_a_folder_that_may_not_be_entered_hides_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    assert not is_file(tmp_path / "f") and not is_dir(tmp_path)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\); check the path and its permissions"):
        read_text(tmp_path / "f")
