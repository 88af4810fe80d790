"""Parquet files of strangers: what one unpacks to is bounded before anything is decoded.

Run lengths and dictionaries repeat what they hold: 650 bytes become gigabytes. The footer may say less than
the pages hold, and pyarrow goes by the headers of the pages; so they are read here first, and must agree.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# A footer is a few kilobytes; pyarrow ends the process where one of many megabytes does not fit into memory.
_MAX_FOOTER_BYTES = 4 << 20
_MAX_LISTED = 10_000
_MAX_VALUES = 20_000_000
_MAX_UNPACKED_BYTES = 512 << 20
_MAX_TEXT_BYTES = 256 << 20
# parquet.thrift: fields of a page's header; by kind, those of what describes the page, how many values it
# holds and how they are encoded.
_KIND, _UNPACKED, _PACKED = (1,), (2,), (3,)
_DESCRIBED = {0: ((5, 1), (5, 2)), 2: ((7, 1), (7, 2)), 3: ((8, 1), (8, 4))}
_DICTIONARY_PAGE = 2
# Each text says how much of the one before it repeats: a few bytes are any number of long texts.
_DELTA_BYTE_ARRAY = 7
_BOOLEANS, _BYTE, _INTEGERS, _BINARY, _STRUCT = (1, 2), 3, (4, 5, 6), 8, 12


def open_parquet(content: bytes, texts: Sequence[str] = ()) -> pq.ParquetFile:
    """Open the content of a file; columns whose paths are `texts` come as dictionaries.

    Raises
    ------
    ValueError, OSError, pyarrow.ArrowException
        When it is no Parquet file, its footer is above 4 MiB, or lists more than 10,000 things of a kind.
    """
    footer_bytes = int.from_bytes(content[-8:-4], "little")
    if content.endswith(b"PAR1") and footer_bytes <= len(content):
        _check("bytes of footer", footer_bytes, _MAX_FOOTER_BYTES)
    return pq.ParquetFile(
        pa.BufferReader(content),
        read_dictionary=texts,
        page_checksum_verification=True,
        thrift_container_size_limit=_MAX_LISTED,
    )


def unpack(content: bytes, columns: Sequence[str]) -> pa.Table:
    """Read columns of a file, by name.

    Raises
    ------
    ValueError, OSError, MemoryError, pyarrow.ArrowException
        When it is damaged, or would unpack to more than a latency table holds; the text says which.
    """
    file = open_parquet(content)
    names = file.schema_arrow.names
    twice = [name for name in columns if names.count(name) > 1]
    if twice:
        raise ValueError(f"the column {twice[0]} stands twice")
    leaves = [file.schema.column(index) for index in range(len(file.schema))]
    read = [index for index, leaf in enumerate(leaves) if leaf.path.partition(".")[0] in columns]
    sums = []
    for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
        if group.num_columns != len(leaves):
            raise ValueError(f"a row group has {group.num_columns} columns, expected {len(leaves)}")
        sums += [_sums(content, group.column(index)) for index in read]
    _check("values", sum(values for values, _ in sums), _MAX_VALUES)
    _check("bytes", sum(unpacked for _, unpacked in sums), _MAX_UNPACKED_BYTES)
    # Texts as dictionaries: one that stands in every row is in memory once, until their sum is known.
    texts = [leaves[index].path for index in read if leaves[index].physical_type == "BYTE_ARRAY"]
    data = open_parquet(content, texts).read(columns, use_threads=False)
    data.validate(full=True)
    _check("bytes of text", sum(_text_bytes(data.column(name)) for name in columns), _MAX_TEXT_BYTES)
    return data.cast(pa.schema([file.schema_arrow.field(name) for name in columns]))


def _check(what: str, found: int, most: int) -> None:
    if found > most:
        raise ValueError(f"it has {found} {what}, expected at most {most}")


def _text_bytes(column: pa.ChunkedArray) -> int:
    total = 0
    for chunk in column.chunks:
        values = chunk.flatten() if pa.types.is_list(chunk.type) else chunk
        if pa.types.is_dictionary(values.type):
            lengths = pc.binary_length(values.dictionary).take(values.indices)
            total += pc.sum(lengths).as_py() or 0
    return total


def _sums(content: bytes, chunk: Any) -> tuple[int, int]:
    """Values and bytes that the pages of a column chunk say they unpack to, dictionary included."""
    at, values, words, unpacked = chunk.data_page_offset, 0, 0, 0
    if chunk.dictionary_page_offset and chunk.dictionary_page_offset < at:
        at = chunk.dictionary_page_offset
    while values < chunk.num_values:
        header, at = _header(content, at)
        kind = header.get(_KIND, -1)
        count = 0
        if kind in _DESCRIBED:  # others hold no values and are passed over
            counted, encoded = _DESCRIBED[kind]
            count = header.get(counted, -1)
            if header.get(encoded) == _DELTA_BYTE_ARRAY:
                raise ValueError("its texts are in DELTA_BYTE_ARRAY, expected another encoding")
        if min(count, header.get(_UNPACKED, -1), header.get(_PACKED, -1)) < 0:
            raise ValueError("a page has less than nothing in it")
        if kind == _DICTIONARY_PAGE:
            words += count
        else:
            values += count
        at, unpacked = at + header[_PACKED], unpacked + header[_UNPACKED]
    if values != chunk.num_values:
        raise ValueError(f"a column claims {chunk.num_values} values, its pages {values}")
    return values + words, unpacked


def _header(content: bytes, at: int, inside: tuple[int, ...] = ()) -> tuple[dict[tuple[int, ...], int], int]:
    """Read a structure in Thrift's compact protocol: its integers by field numbers, and where it ends."""
    found: dict[tuple[int, ...], int] = {}
    number, seen = 0, set[int]()
    while True:
        head, at = _byte(content, at)
        if head == 0:
            return found, at
        step, kind = head >> 4, head & 15
        if step:
            number += step
        else:
            number, at = _integer(content, at)
        if number in seen or not 0 < number < 100:  # another reader may take it for another field
            raise ValueError("a page's header cannot be read")
        seen.add(number)
        if kind in _INTEGERS:
            found[*inside, number], at = _integer(content, at)
        elif kind == _BINARY:
            length, at = _varint(content, at)
            at += length
        elif kind == _BYTE:
            at += 1
        elif kind == _STRUCT and len(inside) < 3:
            fields, at = _header(content, at, (*inside, number))
            found |= fields
        elif kind not in _BOOLEANS:
            raise ValueError("a page's header cannot be read")


def _byte(content: bytes, at: int) -> tuple[int, int]:
    if not 0 <= at < len(content):
        raise ValueError("a page lies outside the file")
    return content[at], at + 1


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte, at = _byte(content, at)
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a page's header cannot be read")


def _integer(content: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(content, at)
    return (value >> 1) ^ -(value & 1), at
