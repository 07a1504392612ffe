"""JSON Lines and tables: which field, which rows, and what is wrong with the others."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cllm.config import TextSettings
from cllm.text.intake import read_source
from cllm.text.lines import MAX_LINE_BYTES
from cllm.text.sources import Source

VISIBLE = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30).map(
    lambda text: "x" + text
)


def _lines(*records: object) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def _texts(documents) -> list[str]:
    return [document.text for document in documents]


def test_each_record_is_a_document_with_its_number(read) -> None:
    documents = read("a.jsonl", _lines({"text": "one"}, {"text": "zwei ü", "id": 2}))
    assert _texts(documents) == ["one", "zwei ü"]
    assert [document.source for document in documents] == ["a.jsonl#1", "a.jsonl#2"]
    assert {document.kind for document in documents} == {"jsonl"}
    assert documents[1].num_bytes == 7


def test_records_are_known_by_content_under_any_name(read) -> None:
    data = _lines({"text": "one"}, {"text": "two"})
    assert [document.kind for document in read("data.txt", data)] == ["jsonl", "jsonl"]
    assert _texts(read("data", data.decode().encode("utf-16"))) == ["one", "two"]


@pytest.mark.parametrize(
    ("record", "field", "expected"),
    [
        ({"title": "t", "content": "c"}, "text", "c"),
        ({"body": "b"}, "text", "b"),
        ({"data": {"text": "inner"}}, "data.text", "inner"),
        ({"a": {"b": {"c": "deep"}}}, "a.b.c", "deep"),
        ({"a.b": "flat"}, "a.b", "flat"),
        ({"text": ["first", "second"]}, "text", "first\nsecond"),
        (
            {
                "messages": [
                    {"role": "user", "content": "Hi"},
                    {"role": "assistant", "content": "Ho"},
                ]
            },
            "text",
            "user: Hi\nassistant: Ho",
        ),
        ({"conversations": [{"from": "human", "value": "Hi"}]}, "text", "human: Hi"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Look"}]}]},
            "messages",
            "user: Look",
        ),
    ],
)
def test_where_the_text_is_found(read, record: dict, field: str, expected: str) -> None:
    assert _texts(read("a.jsonl", _lines(record), field=field)) == [expected]


def test_bad_lines_are_counted_and_the_others_read(report_of) -> None:
    data = _lines({"text": "good"}) + b"{broken\n\n" + _lines({"no": 1}, {"text": "  "}, 7)
    report = report_of("a.jsonl", data + b'{"text": "last, no newline"}')
    assert report.rows["jsonl"].documents == 2
    assert report.rows["jsonl"].files_read == 1
    (note,) = report.skipped
    assert "4 of 7" in note.reason
    assert "1 not JSON" in note.reason


def test_a_missing_field_names_the_fields_there_are(skip_of) -> None:
    skip = skip_of("a.jsonl", _lines({"title": "t", "story": "s"}))
    assert "'title', 'story'" in skip.reason
    assert "--text.field" in skip.reason
    # A field that was asked for is never replaced by another.
    assert "'text'" in skip_of("a.jsonl", _lines({"text": "t"}), field="story").reason


def test_an_array_of_records_is_read_like_lines(read) -> None:
    data = json.dumps([{"text": "one"}, {"text": "two"}], indent=1).encode()
    assert _texts(read("a.jsonl", data)) == ["one", "two"]


def test_half_a_surrogate_pair_does_no_harm(read) -> None:
    (document,) = read("a.jsonl", b'{"text": "odd \\ud800 end"}\n')
    assert document.text == "odd \ufffd end"


def test_deep_nesting_is_a_bad_record(report_of) -> None:
    report = report_of("a.jsonl", b"[" * 100_000 + b"\n" + _lines({"text": "good"}))
    assert report.rows["jsonl"].documents == 1


def test_a_line_beyond_the_limit_is_dropped_in_bounded_memory(tmp_path) -> None:
    import tracemalloc

    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "before"}\n{"text": "')
        for _ in range((3 * MAX_LINE_BYTES) >> 20):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"text": "after"}\n')
    tracemalloc.start()
    texts = _texts(read_source(Source(path, "a"), TextSettings()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert texts == ["before", "after"]
    assert peak < 3 * MAX_LINE_BYTES


@given(st.lists(VISIBLE, min_size=1, max_size=8))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_json_lines_round_trip(read, texts: list[str]) -> None:
    data = _lines(*({"text": text} for text in texts))
    assert _texts(read("a.jsonl", data, clean=False)) == texts


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@given(rows=st.lists(VISIBLE, min_size=1, max_size=8))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tables_round_trip_with_each_delimiter(read, delimiter: str, rows: list[str]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow(["id", "text", "label"])
    writer.writerows(
        [number, row + '\nnext, "quoted"; line', "x"] for number, row in enumerate(rows)
    )
    documents = read("a.csv", buffer.getvalue().encode(), clean=False)
    assert _texts(documents) == [row + '\nnext, "quoted"; line' for row in rows]


def test_a_chosen_column_and_odd_rows(report_of, read) -> None:
    data = b"id,story\r\n1,First tale\r\n2\r\n3,\r\n4,Last tale\r\n"
    assert _texts(read("a.csv", data, field="story")) == ["First tale", "Last tale"]
    assert read("a.csv", data, field="story")[1].source == "a.csv#4"
    (note,) = report_of("a.csv", data, field="story").skipped
    assert "2 of 4" in note.reason


def test_a_missing_column_names_the_columns_there_are(skip_of) -> None:
    skip = skip_of("a.tsv", b"title\tstory\nt\ts\n")
    assert "'title', 'story'" in skip.reason
    assert skip.kind == "csv"


def test_a_table_in_a_windows_page_from_a_spreadsheet(read) -> None:
    data = "Nr;Text\r\n1;schöne Grüße aus Köln\r\n2;früh übt sich\r\n".encode("cp1252")
    assert _texts(read("a.csv", data)) == ["schöne Grüße aus Köln", "früh übt sich"]


def test_an_open_quote_does_not_swallow_memory(read) -> None:
    data = b'text\ngood\n"never closed ' + b"row\n" * 1000
    documents = read("a.csv", data)
    assert documents[0].text == "good"
