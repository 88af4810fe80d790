"""Thrift's compact protocol, as far as the footer and the page headers of a Parquet file need it.

Strict, so that no other reader can understand the same bytes in another way.
"""

from dataclasses import dataclass
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
# Numbers and nesting of parquet.thrift are far below.
_MOST_FIELDS, _DEEPEST = 100, 12

# By field number and type: a field of another type than expected is another field.
Fields = dict[tuple[int, int], Any]


@dataclass(slots=True)
class CompactReader:
    """Reads `content` from `at`, and nothing from `end` on.

    Raises ValueError where the bytes are not what the protocol allows.
    """

    content: bytes
    at: int
    end: int

    def struct(self, depth: int = 0) -> Fields:
        """Read a structure: its integers, booleans, structures and lists of them; all else as None."""
        found: Fields = {}
        number, seen = 0, set[int]()
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._integer()
            if number in seen or not 0 < number < _MOST_FIELDS:
                raise ValueError("a field stands twice or has no number")
            seen.add(number)
            found[number, kind] = self._value(kind, depth) if kind > FALSE else kind == TRUE
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (I16, I32, I64):
            return self._integer()
        if kind == STRUCT and depth < _DEEPEST:
            return self.struct(depth + 1)
        if kind in (LIST, SET) and depth < _DEEPEST:
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
            raise ValueError(f"a value of type {kind}")
        if self.at > self.end:
            raise ValueError("a value ends outside the file")
        return None

    def _byte(self) -> int:
        if not 0 <= self.at < self.end:
            raise ValueError("a value lies outside the file")
        self.at += 1
        return self.content[self.at - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number of more than 64 bits")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
