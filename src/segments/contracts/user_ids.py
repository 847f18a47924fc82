"""User ids as 16 bytes, as the stores keep them."""

from __future__ import annotations

USER_ID_BYTES = 16


def pack(user_id: str) -> bytes:
    """The 16 bytes of a canonical user id, or of its 32 hexadecimal digits."""
    return bytes.fromhex(user_id.replace("-", ""))


def unpack(packed: bytes) -> str:
    """The canonical user id of 16 bytes."""
    digits = packed.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
