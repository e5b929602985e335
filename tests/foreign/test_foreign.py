import os
import re
import threading

import pytest

from roga_domainbed.foreign import (
    Malformed,
    check_regular,
    csv_cell,
    open_regular,
    parse_json,
    parse_yaml,
    printable,
    read_bytes,
    read_json,
    read_text,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2.5, null, true]}', {"a": [1, 2.5, None, True]}),
        (b'\xef\xbb\xbf{"a": "\xc3\xa9"}', {"a": "é"}),
        ("9223372036854775807", 2**63 - 1),
        ('"\\ud83d\\ude00"', "😀"),
        ("[" * 64 + "]" * 64, None),
    ],
)
def test_good_json(text, value):
    assert value is None or parse_json(text) == value
    parse_json(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("1" * 400, "64 bits"),
        ("1" * 5000, "64 bits"),
        (str(2**63), "64 bits"),
        ("[" * 66 + "]" * 66, "nested"),
        ("[" * 100_000 + "]" * 100_000, "nested"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested"),
        ('"\\ud800"', "not Unicode"),
        ('{"\\udfff": 1}', "not Unicode"),
        (b"\xff\xfe[\x00]\x00", "not UTF-8"),
    ],
)
def test_bad_json(text, words):
    with pytest.raises(Malformed, match=words):
        parse_json(text)


def test_kind():
    with pytest.raises(Malformed, match="expected a mapping, got a list"):
        parse_json("[]", dict)
    with pytest.raises(Malformed, match="expected a mapping, got a string"):
        parse_yaml("a word", dict)
    with pytest.raises(Malformed, match="expected a mapping, got None"):
        parse_yaml("", dict)


def test_good_yaml():
    text = "a: 1\nb: [x, 2.5, true, null]\nwhen: 2020-01-01\nc: {d: e}\n"
    assert parse_yaml(text, dict) == {
        "a": 1,
        "b": ["x", 2.5, True, None],
        "when": "2020-01-01",
        "c": {"d": "e"},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [1]\nb: *x", "anchors"),
        ("a: !!int foo", "tags"),
        ("a: !!set {x, y}", "tags"),
        ("a: !!binary aGVsbG8=", "tags"),
        ("a: !!python/object/apply:os.system [ls]", "tags"),
        ("a: 1\na: 2", "line 2: the key 'a' comes twice"),
        ("a: [1", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        ("a: \x07", "not valid YAML"),
        ("[" * 20_000, "nested"),
        ("a: " + "9" * 400, "64 bits"),
        ("a: " + "9" * 5000, "not valid YAML|64 bits"),
        ("? [1, 2]\n: 3", "not valid YAML"),
        ("x" * 300_000, "longer than 256 KiB"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
    ],
)
def test_bad_yaml(text, words):
    with pytest.raises(Malformed, match=words):
        parse_yaml(text)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "file").write_text("text")
    (tmp_path / "good").symlink_to(tmp_path / "file")
    for name, kind in (("pipe", "a named pipe"), ("link", "a named pipe"), (".", "director|folder")):
        for read in (open_regular, read_bytes, check_regular):
            failed = []
            thread = threading.Thread(target=_note_error, args=(failed, read, tmp_path / name), daemon=True)
            thread.start()
            thread.join(10)
            assert failed, f"{read.__name__} waits for {name}"
            assert isinstance(failed[0], OSError)
            assert re.search(kind, failed[0].strerror), failed[0].strerror
    with pytest.raises(OSError, match="a device"):
        read_bytes("/dev/zero")
    assert read_text(tmp_path / "good") == "text"
    check_regular(tmp_path / "good")


def _note_error(failed, call, argument):
    try:
        call(argument)
    except Exception as error:
        failed.append(error)


def test_sizes_are_bounded(tmp_path):
    (tmp_path / "large").write_bytes(b"[" + b" " * 2**20 + b"]")
    assert read_json(tmp_path / "large") == []
    with pytest.raises(OSError, match="larger than 1,024 KiB"):
        read_json(tmp_path / "large", at_most=2**20)


def test_printable():
    assert printable("a\x1b[31mred\x07") == r"a\x1b[31mred\x07"
    assert printable("é 😀 ρ\tα\n") == "é 😀 ρ\tα\n"
    assert printable("\udc80x\u202ey") == r"\udc80x\u202ey"
    assert printable("\x9b31m\x7f") == r"\x9b31m\x7f"


def test_csv_cell():
    assert [csv_cell(value) for value in ("=1+1", "@x", "-a", "+b", "a=b", -1.5, None, "")] == [
        "'=1+1",
        "'@x",
        "'-a",
        "'+b",
        "a=b",
        -1.5,
        None,
        "",
    ]
