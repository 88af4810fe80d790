"""Parquet files of strangers: what one unpacks to is bounded before anything is decoded.

Run lengths and dictionaries repeat what they hold: 650 bytes become gigabytes. The footer may say less than
the pages hold, and pyarrow goes by the headers of the pages; so both are read here first, and must agree.
pyarrow is not asked for them: where they make no sense its metadata ends the process.
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jmsnas.profiler.table.thrift import I32, I64, LIST, STRUCT, CompactReader, Fields

# A footer is a few kilobytes; pyarrow ends the process where one of many megabytes does not fit into memory.
_MAX_FOOTER_BYTES = 4 << 20
_MAX_HEADER_BYTES = 64 << 10
_MAX_LISTED = 10_000
_MAX_VALUES = 20_000_000
_MAX_UNPACKED_BYTES = 512 << 20
_MAX_TEXT_BYTES = 256 << 20
# parquet.thrift, by field number and type. Of the file: row groups; of one: columns; of one: its metadata.
_GROUPS, _COLUMNS, _METADATA = (4, LIST), (1, LIST), (3, STRUCT)
_VALUES, _PAGES_AT, _DICTIONARY_AT = (5, I64), (9, I64), (11, I64)
# Of a page: kind and sizes; by kind, what describes it, and there how many values, in which encoding.
_KIND, _UNPACKED, _PACKED, _COUNT = (1, I32), (2, I32), (3, I32), (1, I32)
_DESCRIBED = {0: (5, STRUCT), 2: (7, STRUCT), 3: (8, STRUCT)}
_ENCODING = {0: (2, I32), 2: (2, I32), 3: (4, I32)}
_DICTIONARY_PAGE = 2
# Each text says how much of the one before it repeats: a few bytes are any number of long texts.
_DELTA_BYTE_ARRAY = 7


def open_parquet(content: bytes, texts: Sequence[str] = ()) -> pq.ParquetFile:
    """Open the content of a file; columns whose paths are `texts` come as dictionaries.

    Raises
    ------
    ValueError, OSError, pyarrow.ArrowException
        When it is no Parquet file, its footer is above 4 MiB, or lists more than 10,000 things of a kind.
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
    sums = [_sums(content, chunk) for chunk in _chunks(content, len(leaves), read)]
    _check("values", sum(values for values, _ in sums), _MAX_VALUES)
    _check("bytes", sum(unpacked for _, unpacked in sums), _MAX_UNPACKED_BYTES)
    # Texts as dictionaries: one that stands in every row is in memory once, until their sum is known.
    texts = [leaves[index].path for index in read if leaves[index].physical_type == "BYTE_ARRAY"]
    data = open_parquet(content, texts).read(columns, use_threads=False)
    data.validate(full=True)
    _check("bytes of text", sum(_text_bytes(data.column(name)) for name in columns), _MAX_TEXT_BYTES)
    return data.cast(pa.schema([file.schema_arrow.field(name) for name in columns]))


def _footer_bytes(content: bytes) -> int:
    return int.from_bytes(content[-8:-4], "little")


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


def _chunks(content: bytes, leaves: int, read: Sequence[int]) -> Iterator[Fields]:
    """What the footer says of the columns that are read, row group by row group."""
    end = len(content) - 8
    for group in CompactReader(content, end - _footer_bytes(content), end).struct().get(_GROUPS) or []:
        columns = group.get(_COLUMNS) or []
        if len(columns) != leaves:
            raise ValueError(f"a row group has {len(columns)} columns, expected {leaves}")
        for index in read:
            yield columns[index].get(_METADATA, {})


def _sums(content: bytes, chunk: Fields) -> tuple[int, int]:
    """Values and bytes that the pages of a column chunk say they unpack to, dictionary included."""
    claimed, at = chunk.get(_VALUES, -1), chunk.get(_PAGES_AT, -1)
    if 0 < chunk.get(_DICTIONARY_AT, 0) < at:
        at = chunk[_DICTIONARY_AT]
    values, words, unpacked = 0, 0, 0
    while values < claimed:
        reader = CompactReader(content, at, min(at + _MAX_HEADER_BYTES, len(content)))
        header = reader.struct()
        kind, count = header.get(_KIND, -1), 0
        if kind in _DESCRIBED:  # others hold no values and are passed over
            page = header.get(_DESCRIBED[kind], {})
            count = page.get(_COUNT, -1)
            if page.get(_ENCODING[kind]) == _DELTA_BYTE_ARRAY:
                raise ValueError("its texts are in DELTA_BYTE_ARRAY, expected another encoding")
        if min(count, header.get(_UNPACKED, -1), header.get(_PACKED, -1)) < 0:
            raise ValueError("a page has less than nothing in it")
        if kind == _DICTIONARY_PAGE:
            words += count
        else:
            values += count
        at, unpacked = reader.at + header[_PACKED], unpacked + header[_UNPACKED]
    if values != claimed:
        raise ValueError(f"a column claims {claimed} values, its pages {values}")
    return values + words, unpacked
