"""Safe reading of untrusted Parquet files: limits on the unpacked size, checked before decoding.

Run lengths and dictionaries repeat values: 650 bytes can unpack to gigabytes. The footer may claim fewer
values than the pages have, and pyarrow follows the page headers; both are parsed here first, and must agree.
They are not read with pyarrow, because inconsistent metadata aborts its process.
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jmsnas.profiler.table.thrift import I32, I64, LIST, STRUCT, CompactReader, Fields

# A footer is a few kilobytes; pyarrow aborts the process if one of many megabytes does not fit into memory.
_MAX_FOOTER_BYTES = 4 << 20
_MAX_HEADER_BYTES = 64 << 10
_MAX_LISTED = 10_000
_MAX_VALUES = 20_000_000
_MAX_UNPACKED_BYTES = 512 << 20
_MAX_TEXT_BYTES = 256 << 20
# parquet.thrift, (field number, type). File: row groups; row group: columns; column: its metadata.
_GROUPS, _COLUMNS, _METADATA = (4, LIST), (1, LIST), (3, STRUCT)
_VALUES, _PAGES_AT, _DICTIONARY_AT = (5, I64), (9, I64), (11, I64)
# Page header: kind and sizes; by kind, the field of its description, and in it value count and encoding.
_KIND, _UNPACKED, _PACKED, _COUNT = (1, I32), (2, I32), (3, I32), (1, I32)
_DESCRIPTION = {0: (5, STRUCT), 2: (7, STRUCT), 3: (8, STRUCT)}
_ENCODING = {0: (2, I32), 2: (2, I32), 3: (4, I32)}
_DICTIONARY_PAGE = 2
# Each string repeats a prefix of the previous one: a few bytes can be any number of long strings.
_DELTA_BYTE_ARRAY = 7


def open_parquet(content: bytes, texts: Sequence[str] = ()) -> pq.ParquetFile:
    """Open the content of a Parquet file; columns whose paths are in `texts` are read as dictionaries.

    Raises ValueError, OSError or pyarrow.ArrowException when it is not a Parquet file, its footer is above 4
    MiB, or a list in it has more than 10,000 items.
    """
    if _footer_bytes(content) <= len(content):
        _check("bytes of footer", _footer_bytes(content), _MAX_FOOTER_BYTES)
    return pq.ParquetFile(
        pa.BufferReader(content),
        read_dictionary=texts,
        page_checksum_verification=True,
        thrift_container_size_limit=_MAX_LISTED,
    )


def read_columns(content: bytes, columns: Sequence[str]) -> pa.Table:
    """Read columns of a Parquet file by name, within limits on values, bytes and bytes of text.

    Raises ValueError, OSError, MemoryError or pyarrow.ArrowException when the file is damaged, or would
    unpack to more than the limits; the message says which.
    """
    file = open_parquet(content)
    names = file.schema_arrow.names
    twice = [name for name in columns if names.count(name) > 1]
    if twice:
        raise ValueError(f"the column {twice[0]} occurs twice")
    leaves = [file.schema.column(index) for index in range(len(file.schema))]
    read = [index for index, leaf in enumerate(leaves) if leaf.path.partition(".")[0] in columns]
    sums = [_sums(content, chunk) for chunk in _chunks(content, len(leaves), read)]
    _check("values", sum(values for values, _ in sums), _MAX_VALUES)
    _check("bytes", sum(unpacked for _, unpacked in sums), _MAX_UNPACKED_BYTES)
    # Strings as dictionaries: a string of every row is in memory once, until their total length is known.
    texts = [leaves[index].path for index in read if leaves[index].physical_type == "BYTE_ARRAY"]
    data = open_parquet(content, texts).read(columns, use_threads=False)
    data.validate(full=True)
    _check("bytes of text", sum(_text_bytes(data.column(name)) for name in columns), _MAX_TEXT_BYTES)
    return data.cast(pa.schema([file.schema_arrow.field(name) for name in columns]))


def _footer_bytes(content: bytes) -> int:
    return int.from_bytes(content[-8:-4], "little")


def _check(unit: str, found: int, limit: int) -> None:
    if found > limit:
        raise ValueError(f"it has {found} {unit}, expected at most {limit}")


def _text_bytes(column: pa.ChunkedArray) -> int:
    total = 0
    for chunk in column.chunks:
        values = chunk.flatten() if pa.types.is_list(chunk.type) else chunk
        if pa.types.is_dictionary(values.type):
            lengths = pc.binary_length(values.dictionary).take(values.indices)
            total += pc.sum(lengths).as_py() or 0
    return total


def _chunks(content: bytes, leaves: int, read: Sequence[int]) -> Iterator[Fields]:
    """Footer metadata of the columns to read, row group by row group."""
    end = len(content) - 8
    for group in CompactReader(content, end - _footer_bytes(content), end).struct().get(_GROUPS) or []:
        columns = group.get(_COLUMNS) or []
        if len(columns) != leaves:
            raise ValueError(f"a row group has {len(columns)} columns, expected {leaves}")
        for index in read:
            yield columns[index].get(_METADATA, {})


def _sums(content: bytes, chunk: Fields) -> tuple[int, int]:
    """Number of values and unpacked bytes of a column chunk by its page headers, dictionary included."""
    claimed, at = chunk.get(_VALUES, -1), chunk.get(_PAGES_AT, -1)
    if 0 < chunk.get(_DICTIONARY_AT, 0) < at:
        at = chunk[_DICTIONARY_AT]
    values, entries, unpacked = 0, 0, 0
    while values < claimed:
        reader = CompactReader(content, at, min(at + _MAX_HEADER_BYTES, len(content)))
        header = reader.struct()
        kind, count = header.get(_KIND, -1), 0
        if kind in _DESCRIPTION:  # other kinds of page have no values
            page = header.get(_DESCRIPTION[kind], {})
            count = page.get(_COUNT, -1)
            if page.get(_ENCODING[kind]) == _DELTA_BYTE_ARRAY:
                raise ValueError("its strings are in DELTA_BYTE_ARRAY, expected another encoding")
        if min(count, header.get(_UNPACKED, -1), header.get(_PACKED, -1)) < 0:
            raise ValueError("a page has a negative size")
        if kind == _DICTIONARY_PAGE:
            entries += count
        else:
            values += count
        at, unpacked = reader.at + header[_PACKED], unpacked + header[_UNPACKED]
    if values != claimed:
        raise ValueError(f"a column claims {claimed} values, its pages have {values}")
    return values + entries, unpacked
