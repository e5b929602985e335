"""Manifests from elsewhere: a sentence, whatever is in the file; and rows that contradict each other."""

import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets_ext import manifest
from datasets_ext.synthfake.generate import generate
from roga_domainbed.cli import main
from roga_domainbed.errors import RogaError

ENVS = ("A", "B")


def sound_rows():
    rows = [
        (f"{env}/{folder}/v{v}/{frame:04d}.png", "Mine", env, "m" if label else "real", "", label, f"v{v}")
        + (f"{env}{v}", f"p{v}", manifest.SPLITS[v], frame)
        for env in ENVS
        for label, folder in enumerate(manifest.CLASS_FOLDERS)
        for v in range(3)
        for frame in range(2)
    ]
    return pd.DataFrame(rows, columns=list(manifest.COLUMNS))


def written(folder, table, **how):
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / manifest.FILE, **how)
    return folder


def as_table(**columns):
    """The sound rows with some columns replaced; None leaves one out."""
    table = pa.Table.from_pandas(sound_rows(), preserve_index=False).replace_schema_metadata(None)
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        table = (
            table.remove_column(index) if values is None else table.set_column(index, name, pa.array(*values))
        )
    return table


N = len(sound_rows())


@pytest.mark.parametrize("kind", ["plain", "large", "dictionary", "wider numbers", "another column"])
def test_the_kinds_that_tools_write_give_the_same_rows(tmp_path, kind):
    table = as_table()
    if kind == "another column":
        table = table.append_column("mine", pa.array([[1, 2]] * N))
    for i, field in enumerate(table.schema):
        if field.name in ("label", "frame") and kind == "wider numbers":
            table = table.set_column(i, field.name, table[i].cast(pa.uint64()))
        elif field.name not in ("label", "frame", "mine") and kind in ("large", "dictionary"):
            column = table[i].cast(pa.large_string())
            column = column.dictionary_encode() if kind == "dictionary" else column
            table = table.set_column(i, field.name, column)
    rows = manifest.read(written(tmp_path / "Mine", table))
    assert rows.to_dict("records") == sound_rows().to_dict("records")
    assert list(manifest.problems(rows, "Mine", ENVS)) == []


STRANGE = {
    "lists": ({"path": ([["a"]] * N,)}, r"column 'path' must hold text; it holds list"),
    "bytes": ({"video": ([b"a"] * N,)}, r"column 'video' must hold text; it holds binary"),
    "structs": ({"env": ([{"a": {"b": 1}}] * N,)}, r"column 'env' must hold text; it holds struct"),
    "times": ({"recording": ([0] * N, pa.timestamp("s"))}, r"column 'recording' must hold text; it holds timestamp"),
    "text for a number": ({"label": (["0"] * N,)}, r"column 'label' must hold whole numbers; it holds string"),
    "fractions": ({"frame": ([0.5] * N,)}, r"column 'frame' must hold whole numbers; it holds double"),
    "truth": ({"label": ([True] * N,)}, r"column 'label' must hold whole numbers; it holds bool"),
    "no number": ({"label": ([None] * N, pa.int8())}, r"the column 'label' has 24 empty cells"),
    "nulls alone": ({"label": ([None] * N,)}, r"column 'label' must hold whole numbers; it holds null"),
    "too long": ({"identities": (["x" * 5000] * N,)}, r"a cell of the column 'identities' has more than 4096 bytes"),
    "missing": ({"split": None, "frame": None}, r"lacks the columns split, frame"),
}  # fmt: skip


@pytest.mark.parametrize("case", STRANGE)
def test_columns_of_another_kind_are_a_sentence(tmp_path, case):
    columns, message = STRANGE[case]
    with pytest.raises(RogaError, match=message) as caught:
        manifest.read(written(tmp_path / "Mine", as_table(**columns)))
    assert "\n" not in str(caught.value)


def test_all_columns_of_another_kind_come_at_once(tmp_path):
    table = as_table(path=([["a"]] * N,), label=(["0"] * N,), split=None)
    with pytest.raises(RogaError, match="3 problems") as caught:
        manifest.read(written(tmp_path / "Mine", table))
    assert all(word in str(caught.value) for word in ("'path'", "'label'", "lacks the columns split"))


def test_text_that_is_no_unicode_and_a_column_that_comes_twice(tmp_path):
    broken = pa.array([b"\xff\xfe"] * N).cast(pa.binary()).view(pa.string())
    index = as_table().schema.get_field_index("video")
    with pytest.raises(RogaError, match="the column 'video' has text that is not UTF-8"):
        manifest.read(written(tmp_path / "Mine", as_table().set_column(index, "video", broken)))
    twice = as_table().append_column("video", pa.array(["v"] * N))
    with pytest.raises(RogaError, match="has the column 'video' more than once"):
        manifest.read(written(tmp_path / "Mine", twice))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 100, b"no parquet at all"])
def test_a_file_that_is_no_parquet(tmp_path, content):
    (tmp_path / manifest.FILE).write_bytes(content)
    with pytest.raises(RogaError, match="cannot be read as a manifest"):
        manifest.read(tmp_path)


def test_a_flipped_bit_in_a_manifest_of_ours_is_found(tmp_path):
    path = manifest.write(tmp_path, sound_rows())
    with pq.ParquetFile(path) as file:
        chunks = [file.metadata.row_group(0).column(i) for i in range(len(manifest.COLUMNS))]
    content = path.read_bytes()
    for chunk in chunks:
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        position = start + chunk.total_compressed_size - 2  # in the cells, behind the headers
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(RogaError, match="cannot be read as a manifest"):
            manifest.read(tmp_path)
    path.write_bytes(content)
    assert len(manifest.read(tmp_path)) == N


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / manifest.FILE)
    with pytest.raises(RogaError, match="cannot be read as a manifest: not a regular file but a named pipe"):
        manifest.read(tmp_path)
    (tmp_path / "folder" / manifest.FILE).mkdir(parents=True)
    with pytest.raises(RogaError, match="cannot be read as a manifest: Is a directory"):
        manifest.read(tmp_path / "folder")


@pytest.mark.parametrize("text", ["", "x" * 1_000_000])
def test_a_few_bytes_do_not_unpack_to_gigabytes(tmp_path, text):
    n = 3_000_000 if not text else 20_000  # 20 GB of text, one that is repeated
    table = pa.table({name: pa.DictionaryArray.from_arrays(pa.nulls(n, pa.int32()).fill_null(0), [text])
                      if name not in ("label", "frame") else pa.nulls(n, pa.int32()).fill_null(0)
                      for name in manifest.COLUMNS})  # fmt: skip
    folder = written(tmp_path / "Mine", table, compression="zstd")
    assert (folder / manifest.FILE).stat().st_size < 100_000
    with pytest.raises(RogaError, match=r"is refused: its .* bytes unpack to|has more than 4096 bytes"):
        manifest.read(folder)
    assert pa.default_memory_pool().max_memory() < 2**30


FAULTS = {
    "no rows": (lambda r: r[:0], ["Mine: the manifest has no rows"]),
    "doubled": (lambda r: pd.concat([r, r]), ["listed more than once: 24, 'A/0_real/v0/0000.png'"]),
    "real and fake": (
        lambda r: pd.concat([r, r[:1].assign(label=1)]),
        ["listed more than once: 1", "in the folder of another class than its label: 1, 'A/0_real/v0/0000.png'"],
    ),
    "labels swapped": (lambda r: r.assign(label=1 - r["label"]), ["folder of another class than its label: 24"]),
    "environments swapped": (
        lambda r: r.assign(env=r["env"].map({"A": "B", "B": "A"})), ["in the folder of another environment: 24"],
    ),
    "two splits": (
        lambda r: r.assign(split=["train", "test"] * (N // 2)),
        ["a video with more than one split: 12, 'A/0/v0', 'A/0/v1', 'A/0/v2', …"],
    ),
    "two recordings": (
        lambda r: r.assign(recording=[*r["recording"][:-1], "other"]),
        ["a video with more than one recording: 1, 'B/1/v2'"],
    ),
    "empty": (lambda r: r.assign(video=[None, *r["video"][1:]]), ["column 'video' must hold text; it has 1 empty"]),
    "labels": (lambda r: r.assign(label=r["label"] + 1), ["column 'label' may hold 0, 1; it has 2"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_rows_that_contradict_each_other_are_named(case):
    change, wanted = FAULTS[case]
    found = list(manifest.problems(change(sound_rows()).reset_index(drop=True), "Mine", ENVS))
    for sentence in wanted:
        assert any(sentence in one for one in found), found
    assert all(one.startswith("Mine: ") for one in found)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../x.png", "A/../../x.png", "A/0_real/../x.png", "A//x.png", "./A/x.png", "A/.", "", "A/x\0.png"],
)  # fmt: skip
def test_a_path_that_leaves_the_folder_is_named(path):
    rows = sound_rows()
    rows.loc[0, "path"] = path
    assert manifest.odd_paths(rows) == [path]
    assert any("not files within the dataset's folder: " in one for one in manifest.problems(rows, "Mine"))
    assert manifest.odd_paths(sound_rows().assign(path="A/0_real/..v/...png")) == []


@pytest.mark.parametrize("env", ["..", "/etc", "A/B", ""])
def test_an_environment_is_the_name_of_a_folder_and_verify_looks_nowhere_else(tmp_path, env, capsys):
    rows = sound_rows().assign(env=env)
    (tmp_path / "outside.png").write_bytes(b"")
    written(tmp_path / "Mine", pa.Table.from_pandas(rows, preserve_index=False))
    assert main(["data", "verify", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "1 environments are no names of folders" in out
    assert "not in the manifest" not in out


@pytest.mark.parametrize("command", ["train", "audit", "stats"])
def test_every_command_that_reads_a_manifest_refuses_a_contradiction(tmp_path, command, capsys):
    folder = generate(tmp_path / "data", n_identities=3, n_frames=1)
    manifest.write(folder, manifest.read(folder).assign(label=lambda rows: 1 - rows["label"]))
    data = str(tmp_path / "data")
    argv = {
        "train": ["train", "--dataset", "SynthFake", "--data_dir", data, "--output_dir", str(tmp_path / "run")],
        "audit": ["audit", data, "--dataset", "SynthFake"],
        "stats": ["data", "stats", data],
    }[command]  # fmt: skip
    assert main(argv) == 2
    assert "in the folder of another class than its label: 24, 'DF/0_real/" in capsys.readouterr().err
