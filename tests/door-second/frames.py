"""Control frames (section 9 of the specification), their CBOR, and the record in DNS (section 12)."""

import base64
import binascii
import re


class Bad(Exception):
    """A protocol error, or no record."""


LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)


def name(value):
    """A domain or host name, in lower case."""
    if not isinstance(value, str) or not 1 <= len(value) <= 255:
        raise Bad("no name")
    if not all(LABEL.fullmatch(label) for label in value.split(".")):
        raise Bad("no name")
    return value.lower()


class Item:
    """Reads one CBOR item after the other, strictly."""

    def __init__(self, octets):
        self.octets = octets
        self.at = 0

    def take(self, count):
        if count > len(self.octets) - self.at:
            raise Bad("the item ends early")
        self.at += count
        return self.octets[self.at - count : self.at]

    def read(self, depth):
        """One item as a Python value; `depth` more arrays, maps and tags may be inside."""
        first = self.take(1)[0]
        major, info = first >> 5, first & 31
        if major == 7:
            return self.simple(info)
        argument = self.argument(info)
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 2:
            return bytes(self.take(argument))
        if major == 3:
            # Decoded where it is used: a skipped string is not looked at.
            return Text(self.take(argument))
        if depth == 0:
            raise Bad("nested too deep")
        if major == 4:
            return [self.read(depth - 1) for _ in range(argument)]
        if major == 5:
            return Pairs((self.read(depth - 1), self.read(depth - 1)) for _ in range(argument))
        return Tagged(argument, self.read(depth - 1))

    def argument(self, info):
        if info < 24:
            return info
        if info > 27:
            raise Bad("reserved, or of indefinite length")
        size = 1 << (info - 24)
        value = int.from_bytes(self.take(size), "big")
        smallest = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}[size]
        if value < smallest:
            raise Bad("not the shortest form")
        return value

    def simple(self, info):
        if info in (20, 21, 22, 23):
            return Other()
        if info in (25, 26, 27):
            self.take(1 << (info - 24))
            return Other()
        raise Bad("a simple value that is not in the subset")


class Text(bytes):
    """A text string, not yet looked at."""


class Pairs(list):
    """A map."""


class Tagged(tuple):
    """A tag and its content."""

    def __new__(cls, tag, content):
        return super().__new__(cls, (tag, content))


class Other:
    """False, true, null, undefined or a float."""


def uint(bits):
    def read(value):
        if type(value) is not int or not 0 <= value < 1 << bits:
            raise Bad("no number in bounds")
        return value

    return read


def octets(least, most):
    def read(value):
        if type(value) is not bytes or not least <= len(value) <= most:
            raise Bad("no octets in bounds")
        return value.hex()

    return read


def name_value(value):
    if type(value) is not Text:
        raise Bad("no text")
    try:
        return name(value.decode("utf-8", "strict"))
    except UnicodeDecodeError:
        raise Bad("not UTF-8") from None


def class_value(value):
    if uint(8)(value) > 3:
        raise Bad("no class")
    return value


def port_value(value):
    if uint(16)(value) == 0:
        raise Bad("port 0")
    return value


def vouches_value(value):
    if type(value) is not list or len(value) > 8:
        raise Bad("no vouches")
    return [octets(0, 1024)(vouch) for vouch in value]


GRANT = [("ticket", octets(54, 54)), ("key", octets(16, 16)), ("expires", uint(64))]
DOMAIN = ("domain", name_value)

# Type: name and fields, the first under key 1.
TYPES = {
    1: [DOMAIN, ("owner", name_value), ("vouches", vouches_value)],
    2: [
        ("class", class_value),
        ("server_time", uint(64)),
        ("streams", uint(32)),
        ("message_bytes", uint(64)),
        ("hostname", name_value),
    ],
    3: [("retry_after", uint(32))],
    4: GRANT,
    5: GRANT,
    6: [DOMAIN],
    7: [DOMAIN, *GRANT],
    8: [("host", name_value), ("port", port_value)],
}
OPTIONAL = {"owner": None, "vouches": []}


def decode(octets_of_item):
    """The frame in one item, as a dictionary."""
    item = Item(octets_of_item)
    # The outer array and its map do not count as nesting.
    if item.take(1) != b"\x82":
        raise Bad("not an array of two")
    number = item.read(0)
    if type(number) is not int or number < 0:
        raise Bad("no type")
    head = item.take(1)[0]
    if head >> 5 != 5:
        raise Bad("no map")
    values, last = {}, -1
    for _ in range(item.argument(head & 31)):
        key = item.read(0)
        if type(key) is not int or key <= last:
            raise Bad("keys are unsigned and ascending")
        last = key
        values[key] = item.read(8)
    if item.at != len(octets_of_item):
        raise Bad("octets behind the item")
    frame = {"type": number}
    for at, (field, read) in enumerate(TYPES.get(number, []), 1):
        if at in values:
            frame[field] = read(values[at])
        elif field in OPTIONAL:
            frame[field] = OPTIONAL[field]
        else:
            raise Bad("a value is missing")
    return frame


def read_stream(stream):
    """All frames of a stream, and how it ends: `between`, `more` or `error`."""
    frames, at = [], 0
    while True:
        if at == len(stream):
            return frames, "between"
        if len(stream) - at < 2:
            return frames, "more"
        length = int.from_bytes(stream[at : at + 2], "big")
        if not 1 <= length <= 16384:
            return frames, "error"
        if len(stream) - at - 2 < length:
            return frames, "more"
        try:
            frames.append(decode(stream[at + 2 : at + 2 + length]))
        except Bad:
            return frames, "error"
        at += 2 + length


def head(major, argument):
    """The shortest head."""
    if argument < 24:
        return bytes([major << 5 | argument])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << (8 * size):
            return bytes([major << 5 | info]) + argument.to_bytes(size, "big")
    raise ValueError(argument)


def write(value):
    """One item of CBOR."""
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return head(3, len(text)) + text
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(write, value))
    return head(5, len(value)) + b"".join(write(key) + write(value[key]) for key in sorted(value))


def framed(item):
    return len(item).to_bytes(2, "big") + item


ITEM = re.compile(r"[ \t]*([a-z][a-z0-9_]*)[ \t]*=[ \t]*([!-:<-~]+)[ \t]*", re.ASCII)
KNOWN_KEYS = {
    44: bytes.fromhex("302a300506032b6570032100"),
    91: bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"),
}


def digits(value, least, most):
    if not re.fullmatch(r"[0-9]{1,10}", value, re.ASCII) or not least <= int(value) <= most:
        raise Bad("no number in bounds")
    return int(value)


def record(text):
    """The record of section 12 as a dictionary; Bad if the text is none."""
    if len(text.encode()) > 2048:
        raise Bad("too long")
    items = text.split(";")
    if len(items) > 1 and not items[-1].strip(" \t"):
        items.pop()
    if len(items) > 32:
        raise Bad("too many items")
    out = {"host": None, "port": 2526, "keys": [], "mode": "prefer", "max_age": 86400}
    seen = set()
    for at, item in enumerate(items):
        match = ITEM.fullmatch(item)
        if not match:
            raise Bad("not tag=value")
        tag, value = match.groups()
        if (at == 0) != (tag == "v") or (at == 0 and value != "postern1"):
            raise Bad("v=postern1 is first")
        if tag != "key" and tag in seen:
            raise Bad("twice")
        seen.add(tag)
        if tag == "host":
            out["host"] = name(value)
        elif tag == "port":
            out["port"] = digits(value, 1, 65535)
        elif tag == "max_age":
            out["max_age"] = digits(value, 0, 31557600)
        elif tag == "mode":
            if value not in ("prefer", "enforce"):
                raise Bad("mode")
            out["mode"] = value
        elif tag == "key":
            try:
                key = base64.b64decode(value, validate=True)
            except binascii.Error:
                raise Bad("base64") from None
            if base64.b64encode(key).decode() != value:
                raise Bad("base64 in another spelling")
            prefix = KNOWN_KEYS.get(len(key))
            if prefix and key.startswith(prefix):
                out["keys"].append(key.hex())
    if not 1 <= len(out["keys"]) <= 4:
        raise Bad("one to four keys")
    return out
