"""The byte-level alphabet: each byte as one printable character, as in GPT-2.

Source: GPT-2's `bytes_to_unicode` (Radford et al. 2019); Hugging Face's `ByteLevel` uses
the same table.
"""

from __future__ import annotations

EOS = "<|endoftext|>"
EOS_ID = 0
UNK = "<unk>"
UNK_ID = 1
# Marks a WordPiece token that continues a piece; outside the alphabet below.
CONTINUATION = "\N{UNDERTIE}"


def _characters() -> list[str]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in table)
    table |= {byte: chr(0x100 + place) for place, byte in enumerate(others)}
    return [table[byte] for byte in range(256)]


# The character that stands for each byte, in the order of the bytes.
BYTE_CHARACTERS = _characters()
# The same characters in the order of their code points, the order of a trained vocabulary.
SORTED_CHARACTERS = sorted(BYTE_CHARACTERS)
_BYTE_OF = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
_TO_CHARACTERS = dict(enumerate(BYTE_CHARACTERS))


def spell(raw: bytes) -> str:
    """Write bytes in the byte-level alphabet."""
    return raw.decode("latin-1").translate(_TO_CHARACTERS)


def unspell(token: str) -> bytes:
    """Read back what `spell` wrote."""
    return bytes([_BYTE_OF[character] for character in token])
