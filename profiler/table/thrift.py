"""Reader of Thrift's compact protocol, for the footer and the page headers of a Parquet file.

Strict, so that no other reader can interpret the same bytes differently.
"""

from dataclasses import dataclass
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
# Field numbers and nesting of parquet.thrift are far below.
_MAX_FIELDS, _MAX_DEPTH = 100, 12

# By (field number, type): a field of an unexpected type is not found.
Fields = dict[tuple[int, int], Any]


@dataclass(slots=True)
class CompactReader:
    """Reader of Thrift structures in `content`, from `at` up to `end`.

    Raises ValueError for bytes that the protocol does not allow.
    """

    content: bytes
    at: int
    end: int

    def struct(self, depth: int = 0) -> Fields:
        """Read a structure: integers, booleans, structures and lists of structures; other values as None."""
        found: Fields = {}
        number, seen = 0, set[int]()
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._integer()
            if number in seen or not 0 < number < _MAX_FIELDS:
                raise ValueError("a field occurs twice or has an invalid number")
            seen.add(number)
            found[number, kind] = self._value(kind, depth) if kind > FALSE else kind == TRUE
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (I16, I32, I64):
            return self._integer()
        if kind == STRUCT and depth < _MAX_DEPTH:
            return self.struct(depth + 1)
        if kind in (LIST, SET) and depth < _MAX_DEPTH:
            head = self._byte()
            count, kind = head >> 4, head & 15
            values = [self._value(kind, depth + 1) for _ in range(self._varint() if count == 15 else count)]
            return values if kind == STRUCT else None
        if kind == BINARY:
            length = self._varint()
            self.at += length
        elif kind == DOUBLE:
            self.at += 8
        elif kind in (TRUE, FALSE, BYTE):
            self.at += 1
        else:
            raise ValueError(f"unexpected value type {kind}")
        if self.at > self.end:
            raise ValueError("a value ends outside the file")
        return None

    def _byte(self) -> int:
        if not 0 <= self.at < self.end:
            raise ValueError("a value is outside the file")
        self.at += 1
        return self.content[self.at - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number has more than 64 bits")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
