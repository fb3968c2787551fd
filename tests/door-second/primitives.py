"""SipHash-2-4, HKDF-SHA256 and ChaCha20-Poly1305 from their papers and RFCs, in plain Python.

Slow and not constant in time: this side proves that the specification says enough, and serves no mail.
"""

import hashlib
import hmac
import struct

M32 = 0xFFFFFFFF
M64 = 0xFFFFFFFFFFFFFFFF


def _rotl64(x, n):
    return (x << n | x >> (64 - n)) & M64


def _sip_rounds(v, count):
    v0, v1, v2, v3 = v
    for _ in range(count):
        v0 = (v0 + v1) & M64
        v2 = (v2 + v3) & M64
        v1 = _rotl64(v1, 13) ^ v0
        v3 = _rotl64(v3, 16) ^ v2
        v0 = _rotl64(v0, 32)
        v2 = (v2 + v1) & M64
        v0 = (v0 + v3) & M64
        v1 = _rotl64(v1, 17) ^ v2
        v3 = _rotl64(v3, 21) ^ v0
        v2 = _rotl64(v2, 32)
    return [v0, v1, v2, v3]


def siphash24(key, message, out_bytes):
    """SipHash-2-4 (Aumasson, Bernstein); `out_bytes` is 8 or 16."""
    assert len(key) == 16 and out_bytes in (8, 16)
    k0, k1 = struct.unpack("<QQ", key)
    v = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]
    if out_bytes == 16:
        v[1] ^= 0xEE
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        v = _sip_rounds(v, 2)
        v[0] ^= word
    v[2] ^= 0xEE if out_bytes == 16 else 0xFF
    v = _sip_rounds(v, 4)
    out = struct.pack("<Q", v[0] ^ v[1] ^ v[2] ^ v[3])
    if out_bytes == 16:
        v[1] ^= 0xDD
        v = _sip_rounds(v, 4)
        out += struct.pack("<Q", v[0] ^ v[1] ^ v[2] ^ v[3])
    return out


def siphash64(key, message):
    return siphash24(key, message, 8)


def siphash128(key, message):
    return siphash24(key, message, 16)


def hkdf_sha256(ikm, salt, info, length):
    """RFC 5869."""
    prk = hmac.new(salt or bytes(32), ikm, hashlib.sha256).digest()
    okm, block = b"", b""
    counter = 1
    while len(okm) < length:
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha256).digest()
        okm += block
        counter += 1
    return okm[:length]


def _chacha20_block(key, counter, nonce):
    """RFC 8439 section 2.3."""
    start = list(struct.unpack("<4I", b"expand 32-byte k"))
    start += struct.unpack("<8I", key)
    start += [counter]
    start += struct.unpack("<3I", nonce)
    s = start[:]

    def quarter(a, b, c, d):
        for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = (s[x] + s[y]) & M32
            s[z] ^= s[x]
            s[z] = (s[z] << n | s[z] >> (32 - n)) & M32

    for _ in range(10):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for row in range(4):
            quarter(row, 4 + (row + 1) % 4, 8 + (row + 2) % 4, 12 + (row + 3) % 4)
    return struct.pack("<16I", *((x + y) & M32 for x, y in zip(s, start)))


def chacha20(key, counter, nonce, text):
    """RFC 8439 section 2.4."""
    out = bytearray()
    for at in range(0, len(text), 64):
        stream = _chacha20_block(key, counter + at // 64, nonce)
        out += bytes(a ^ b for a, b in zip(text[at : at + 64], stream))
    return bytes(out)


def poly1305(key, message):
    """RFC 8439 section 2.5."""
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    s = int.from_bytes(key[16:], "little")
    prime = (1 << 130) - 5
    total = 0
    for at in range(0, len(message), 16):
        total = (total + int.from_bytes(message[at : at + 16] + b"\x01", "little")) * r % prime
    return ((total + s) & ((1 << 128) - 1)).to_bytes(16, "little")


def _aead_tag(key, nonce, aad, ciphertext):
    def pad(octets):
        return octets + bytes(-len(octets) % 16)

    one_time = _chacha20_block(key, 0, nonce)[:32]
    lengths = struct.pack("<QQ", len(aad), len(ciphertext))
    return poly1305(one_time, pad(aad) + pad(ciphertext) + lengths)


def aead_seal(key, nonce, aad, plaintext):
    """RFC 8439 section 2.8: ciphertext and tag."""
    ciphertext = chacha20(key, 1, nonce, plaintext)
    return ciphertext + _aead_tag(key, nonce, aad, ciphertext)


def aead_open(key, nonce, aad, sealed):
    """The plaintext, or None."""
    ciphertext, tag = sealed[:-16], sealed[-16:]
    if not hmac.compare_digest(tag, _aead_tag(key, nonce, aad, ciphertext)):
        return None
    return chacha20(key, 1, nonce, ciphertext)


def self_check():
    """Vectors of the papers and RFCs."""
    key, count = bytes(range(16)), bytes(range(64))
    # vectors.h of the reference implementation.
    assert siphash64(key, b"").hex() == "310e0edd47db6f72"
    assert siphash64(key, count[:8]).hex() == "6224939a79f5f593"
    assert siphash64(key, count[:15]).hex() == "e545be4961ca29a1"
    assert siphash128(key, b"").hex() == "a3817f04ba25a8e66df67214c7550293"
    assert siphash128(key, count[:8]).hex() == "3b62a9ba6258f5610f83e264f31497b4"
    assert siphash128(key, count[:15]).hex() == "5493e99933b0a8117e08ec0f97cfc3d9"
    # RFC 5869, test cases 1 and 3.
    okm = hkdf_sha256(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    assert okm.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    okm = hkdf_sha256(b"\x0b" * 22, b"", b"", 42)
    assert okm.hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )
    # RFC 8439 section 2.5.2.
    poly_key = bytes.fromhex("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
    assert poly1305(poly_key, b"Cryptographic Forum Research Group").hex() == "a8061dc1305136c6c22b8baf0c0127a9"
    # RFC 8439 section 2.8.2.
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
        b"future, sunscreen would be it."
    )
    sealing_key, nonce = bytes(range(0x80, 0xA0)), bytes.fromhex("070000004041424344454647")
    aad = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    sealed = aead_seal(sealing_key, nonce, aad, text)
    assert sealed[:16].hex() == "d31a8d34648e60db7b86afbc53ef7ec2"
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"
    assert aead_open(sealing_key, nonce, aad, sealed) == text
    assert aead_open(sealing_key, nonce, aad + b"x", sealed) is None
