"""Shards are one row of ids, whatever their size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.errors import IntegrityError
from cllm.text.shards import ShardWriter, TokenStream, token_dtype


@given(
    st.lists(st.lists(st.integers(0, 299), max_size=20), max_size=6),
    st.integers(1, 9),
    st.integers(0, 70),
    st.integers(0, 70),
)
def test_what_was_written_is_read(tmp_path_factory, parts, shard_tokens, start, length):
    folder = tmp_path_factory.mktemp("shards")
    writer = ShardWriter(folder, "train", 300, shard_tokens=shard_tokens)
    for part in parts:
        writer.write(np.array(part, np.uint32))
    writer.close()
    row = [number for part in parts for number in part]
    assert writer.num_tokens == len(row)
    assert all(tokens <= shard_tokens for _, tokens in writer.shards)
    names, lengths = [s[0] for s in writer.shards], [s[1] for s in writer.shards]
    stream = TokenStream([folder / name for name in names], lengths, 300)
    assert len(stream) == len(row)
    found = stream.read(start, length)
    assert found.dtype == np.uint32
    assert found.tolist() == row[start : start + length]


def test_two_bytes_hold_65536_entries():
    assert token_dtype(65_536).itemsize == 2
    assert token_dtype(65_537).itemsize == 4


def test_a_truncated_or_missing_shard(tmp_path):
    path = tmp_path / "a.tokens"
    path.write_bytes(bytes(6))
    assert len(TokenStream([path], [3], 100)) == 3
    with pytest.raises(IntegrityError, match=r"a\.tokens.*truncated"):
        TokenStream([path], [4], 100)
    path.unlink()
    with pytest.raises(IntegrityError, match=r"a\.tokens.*missing"):
        TokenStream([path], [3], 100)
