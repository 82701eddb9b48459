"""Kafka's default partitioner."""

from __future__ import annotations


def partition_for(key: bytes, partitions: int) -> int:
    """The partition of a record key, as Kafka's Java client chooses it: murmur2 (Appleby) without its sign bit."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(key)
    tail = len(key) & ~3
    for i in range(0, tail, 4):
        k = int.from_bytes(key[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    if rest := key[tail:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions
