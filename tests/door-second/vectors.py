#!/usr/bin/env python3
"""Writes vectors.json: what door/1 says to good and bad input of every kind, by the second implementation.

    vectors.py [FILE]     writes to FILE, or beside this script. The same octets each time.
"""

import base64
import hashlib
import json
import pathlib
import sys

sys.dont_write_bytecode = True

import door  # noqa: E402
from frames import framed, head, write  # noqa: E402
from primitives import self_check  # noqa: E402

MASTER = hashlib.sha256(b"the master of the vectors").digest()
OTHER = hashlib.sha256(b"another master").digest()
NOW = 1_790_000_123
DAY = 86400
SOURCE = "192.0.2.77"


class Draw:
    """Octets that look random and are the same each time."""

    def __init__(self):
        self.count = 0

    def __call__(self, length):
        out = b""
        while len(out) < length:
            self.count += 1
            out += hashlib.sha256(b"door/1 vectors %d" % self.count).digest()
        return out[:length]


draw = Draw()
cases = {}


def add(kind, case):
    """Adds a case with what this implementation says to it; returns what it says."""
    said = door.run(kind, case)
    cases.setdefault(kind, []).append({**case, **said})
    return said


def expect(kind, case, **wanted):
    """As `add`, for a case whose answer is known beforehand."""
    said = add(kind, case)
    for name, value in wanted.items():
        assert said[name] == value, (kind, case, said, wanted)


def flipped(octets, bit):
    out = bytearray(octets)
    out[bit // 8] ^= 0x80 >> bit % 8
    return bytes(out)


def at(now, master=MASTER):
    return {"master": master.hex(), "keys_at": now}


def siphash():
    key = bytes(range(16))
    for length in range(40):
        add("siphash", {"key": key.hex(), "message": bytes(range(length)).hex()})
    for length in (14, 24, 37, 255, 256, 300):
        add("siphash", {"key": draw(16).hex(), "message": draw(length).hex()})


def shapes():
    def shape(name, datagram, length, **wanted):
        case = {"name": name, "head": datagram.hex(), "length": length}
        expect("shapes", case, **wanted)

    hello = b"\x11\x01\x00\x00" + draw(8)
    shape("empty", b"", 0, shape="garbage")
    shape("HELLO", hello, 1200, shape="hello", nonce=hello[4:].hex())
    shape("HELLO of 1500", hello, 1500, shape="hello")
    shape("HELLO with flags", b"\x11\x01\xff\xff" + draw(8), 1200, shape="hello")
    shape("HELLO of 1199", hello, 1199, shape="garbage")
    shape("HELLO of one octet", b"\x11", 1, shape="garbage")
    shape("HELLO of version 2", b"\x11\x02" + hello[2:], 1200, shape="garbage")
    shape("CHALLENGE", b"\x12\x01" + draw(38), 40, shape="garbage")
    shape("CHALLENGE, long", b"\x12\x01" + draw(38), 1200, shape="garbage")
    for first in (0x00, 0x10, 0x3F, 0x80, 0x83, 0xBF):
        shape(f"fixed bit clear, {first:#x}", bytes([first, 1]) + draw(30), 1200, shape="garbage")

    cid = draw(16)
    for first in (0x40, 0x5A, 0x7F):
        shape(f"short header {first:#x}", bytes([first]) + cid, 37, shape="established", cid=cid.hex())
    shape("short header of 36", b"\x40" + cid, 36, shape="garbage")
    shape("short header of 17", b"\x40" + cid, 17, shape="garbage")
    shape("short header of 1", b"\x40", 1, shape="garbage")
    shape("short header of 1500", b"\x41" + cid, 1500, shape="established")

    def long(first=0xC3, version=b"\0\0\0\1", dcid=cid, source=b"12345678", field=b"\0"):
        return bytes([first]) + version + bytes([len(dcid)]) + dcid + bytes([len(source)]) + source + field

    shape("Initial", long(), 1200, shape="initial", dcid=cid.hex(), token="none")
    shape("Initial of 1199", long(), 1199, shape="garbage")
    for cut in (1, 5, 6, 21, 22, 23, 30, 31):
        shape(f"Initial cut at {cut}", long()[:cut], cut, shape="garbage")
    for first in (0xC0, 0xCF):
        shape(f"Initial {first:#x}", long(first), 1200, shape="initial")
    shape("0-RTT", long(0xD3), 1200, shape="garbage")
    shape("Retry", long(0xF3), 1200, shape="garbage")
    shape("Handshake", long(0xE3), 1200, shape="established", cid=cid.hex())
    shape("Handshake of 44", long(0xE0, source=b""), 44, shape="established")
    shape("Handshake of 43", long(0xE0, source=b""), 43, shape="garbage")
    shape("Handshake, long source id", long(0xE0, source=bytes(21)), 1200, shape="garbage")
    shape("Version Negotiation", long(version=bytes(4)), 1200, shape="garbage")
    shape("QUIC version 2", long(version=bytes.fromhex("6b3343cf")), 1200, shape="garbage")
    for length in (0, 8, 15, 17, 20):
        shape(f"connection id of {length}", long(dcid=draw(length)), 1200, shape="garbage")
    for length in (0, 20):
        shape(f"source id of {length}", long(source=draw(length)), 1200, shape="initial", token="none")
    for length in (21, 255):
        shape(f"source id of {length}", long(source=draw(length)), 1200, shape="garbage")

    def token(name, field, wanted, source=b""):
        shape(name, long(source=source, field=field), 1200, shape="initial", token=wanted)

    cookie, ticket = b"\x01" + draw(37), b"\x81" + draw(65)
    token("cookie", b"\x26" + cookie, "cookie")
    token("cookie behind a source id of 20", b"\x26" + cookie, "cookie", draw(20))
    token("cookie of another type", b"\x26\x02" + cookie[1:], "other")
    token("cookie, length spelt in two octets", b"\x40\x26" + cookie, "other")
    token("a ticket's type in a cookie's length", b"\x26\x81" + cookie[1:], "other")
    for first in (0x80, 0x81, 0x82, 0x83, 0x84, 0x01, 0xFF):
        wanted = "ticket" if first in door.KINDS else "other"
        token(f"ticket of kind {first:#x}", b"\x40\x42" + bytes([first]) + ticket[1:], wanted)
    token("ticket behind a source id of 20", b"\x40\x42" + ticket, "ticket", draw(20))
    token("ticket, length spelt in four octets", b"\x80\x00\x00\x42" + ticket, "other")
    token("ticket without its proof", b"\x36" + ticket[:54], "other")
    token("token of 65", b"\x40\x41" + ticket[:65], "other")
    token("token of 67", b"\x40\x43" + ticket + b"x", "other")
    token("token of one", b"\x01\x01", "other")
    token("no token, spelt in two octets", b"\x40\x00", "other")
    token("token beyond the datagram", b"\x7f\xff", "other")
    token("token of 2^62 - 1", b"\xff" * 8, "other")
    for _ in range(20):
        noise = draw(64)
        add("shapes", {"name": "noise", "head": noise.hex(), "length": 1200})


def gate_keys():
    for now in (0, 5 * DAY, NOW, 300 * DAY - 1, 300 * DAY):
        add("gate_keys", at(now))


def resets():
    # The same at all times.
    for now in (0, NOW, 300 * DAY):
        add("resets", at(now))
    add("resets", at(NOW, OTHER))
    assert len({case["secret"] for case in cases["resets"]}) == 2


def tags():
    for domain in ("example.org", "Example.ORG", "a", "xn--bcher-kva.example", "a." * 127 + "a"):
        add("tags", {**at(NOW), "domain": domain})
    for address in ("192.0.2.1", "192.0.2.254", "::ffff:192.0.2.1", "192.0.3.1", "2001:db8:1:2::3", "2001:db8:1:3::", "::1"):
        add("tags", {**at(NOW), "address": address})
    for weight, suffix, owner in ((1, "org", "example.org"), (7, "ORG", "Example.org"), (6, "co.uk", "example.co.uk"), (0, "a", "b")):
        add("shares", {**at(NOW), "weight": weight, "suffix": suffix, "owner": owner})


def cookies():
    def challenge(source=SOURCE, wait=0, now=NOW, level=1):
        terms = {"level": level, "server_time": now, "not_before": now + wait, "not_after": now + wait + 120}
        case = {**at(now), "source": source, "nonce": draw(8).hex(), **terms}
        return bytes.fromhex(add("challenges", case)["token"])

    def cookie(name, token, result, now=NOW, source=SOURCE, keys=None):
        case = {"name": name, **(keys or at(now)), "source": source, "token": token.hex(), "now": now}
        expect("cookies", case, result=result)

    now_token, later = challenge(), challenge(wait=600, level=2)
    cookie("at once", now_token, "ok")
    cookie("in its last second", now_token, "ok", NOW + 120)
    cookie("a second late", now_token, "late", NOW + 121)
    cookie("before it was made", now_token, "early", NOW - 1)
    cookie("early for an appointment", later, "early")
    cookie("a second early", later, "early", NOW + 599)
    cookie("on time", later, "ok", NOW + 600)
    cookie("late", later, "late", NOW + 721)
    cookie("the farthest appointment", challenge(wait=2580), "ok", NOW + 2700)
    for source in ("192.0.2.78", "::192.0.2.77", "2001:db8::1"):
        cookie(f"from {source}", now_token, "forged", source=source)
    cookie("from the mapped address", now_token, "ok", source="::ffff:192.0.2.77")
    six = challenge("2001:db8:1::7")
    cookie("of IPv6", six, "ok", source="2001:db8:1::7")
    cookie("of IPv6, from a neighbour", six, "forged", source="2001:db8:1::8")
    for epochs in (-2, -1, 0, 1, 2, 3, 4):
        result = "ok" if -1 <= epochs <= 3 else "unknown key"
        cookie(f"keys {epochs} epochs on", now_token, result, keys=at(NOW + epochs * 900))
    cookie("of another master", now_token, "forged", keys=at(NOW, OTHER))
    for bit in [*range(0, 8 * 22, 7), *range(8 * 22, 8 * 38, 5)]:
        token = flipped(now_token, bit)
        result = "unknown key" if bit // 8 == 1 and door.Keys(MASTER, NOW).by_id("cookie", token[1]) is None else "forged"
        cookie(f"bit {bit} flipped", token, result)
    cookie("a cookie of another's nonce", now_token[:2] + draw(8) + now_token[10:], "forged")


def tickets():
    def mint(kind=0x81, now=NOW, **body):
        body = {"domain_tag": number(8), "prefix_tag": number(8), "expiry": now // 60 + 43200, **body}
        body = {"class": 3, "share": 5 << 16 | number(2), **body}
        case = {**at(now), "kind": kind, "nonce": draw(12).hex(), **body}
        said = add("tickets", case)
        return bytes.fromhex(said["octets"]), bytes.fromhex(said["key"])

    def number(size):
        return door.number(draw(size))

    def token(ticket, key, dcid, time):
        case = {"ticket": ticket.hex(), "key": key.hex(), "dcid": dcid.hex(), "time": time}
        return bytes.fromhex(add("tokens", case)["octets"])

    def proof(name, octets, dcid, result, now=NOW, keys=None):
        case = {"name": name, **(keys or at(now)), "token": octets.hex(), "dcid": dcid.hex(), "now": now}
        expect("proofs", case, result=result)

    def opened(name, ticket, result, now=NOW, keys=None):
        expect("opens", {"name": name, **(keys or at(now)), "ticket": ticket.hex(), "now": now}, result=result)

    for kind in door.KINDS:
        for peer_class in range(4):
            ticket, key = mint(kind, **{"class": peer_class})
            dcid = draw(16)
            proof(f"kind {kind:#x} of class {peer_class}", token(ticket, key, dcid, NOW), dcid, "ok")
            opened(f"kind {kind:#x} of class {peer_class}", ticket, "ok")

    ticket, key = mint(domain_tag=0, prefix_tag=2**64 - 1, share=2**24 - 1)
    dcid = draw(16)
    good = token(ticket, key, dcid, NOW)
    for off, result in ((-600, "ok"), (600, "ok"), (-601, "stale"), (601, "stale"), (-DAY, "stale"), (-NOW, "stale")):
        proof(f"time off by {off}", token(ticket, key, dcid, NOW + off), dcid, result)
    proof("time of the end of time", token(ticket, key, dcid, 2**32 - 1), dcid, "stale")
    for bit in (0, 1, 63, 64, 126, 127):
        proof(f"bit {bit} of the connection id", good, flipped(dcid, bit), "forged")
    proof("time changed, proof kept", good[:54] + door.u32(NOW + 1) + good[58:], dcid, "forged")
    proof("another ticket's key", token(ticket, draw(16), dcid, NOW), dcid, "forged")
    proof("another master's", good, dcid, "forged", keys=at(NOW, OTHER))
    for bit in range(0, 8 * 66, 9):
        changed, byte = flipped(good, bit), bit // 8
        # The sealed body is not under the proof: it is checked when it is opened.
        result = "ok" if 14 <= byte < 54 else "forged"
        if byte == 1 and door.Keys(MASTER, NOW).by_id("gate", changed[1]) is None:
            result = "unknown key"
        if 54 <= byte < 58 and abs(door.number(changed[54:58]) - NOW) > 600:
            result = "stale"
        proof(f"bit {bit} flipped", changed, dcid, result)
        if byte < 54:
            opened(f"bit {bit} flipped", changed[:54], "unknown key" if result == "unknown key" else "forged")
    for days in (-2, -1, 0, 1, 33, 34, 35, 256):
        later = NOW + days * DAY
        result = "ok" if -1 <= days <= 34 else "forged" if days == 256 else "unknown key"
        proof(f"keys of {days} days later", token(ticket, key, dcid, later), dcid, result, later)
        opened(f"keys of {days} days later", ticket, result, keys=at(later))
    # What was never minted, under right keys: a kind that is none, and a class that is none.
    for kind in (0x80, 0x84, 0x01):
        never, never_key = mint(kind)
        proof(f"kind {kind:#x}", token(never, never_key, dcid, NOW), dcid, "forged")
        opened(f"kind {kind:#x}", never, "forged")
    opened("class 4", mint(**{"class": 4})[0], "forged")
    short, _ = mint(expiry=NOW // 60)
    last = NOW - NOW % 60 + 59
    opened("in its last second", short, "ok", last)
    opened("a second after", short, "expired", last + 1)
    opened("of 1970", mint(expiry=0)[0], "expired")
    opened("of another master", ticket, "forged", keys=at(NOW, OTHER))


def cids():
    def made(now, worker):
        case = {**at(now), "worker": worker, "random": draw(6).hex()}
        return bytes.fromhex(add("made_cids", case)["cid"])

    def cid(name, octets, ours, keys=None):
        expect("cids", {"name": name, **(keys or at(NOW)), "cid": octets.hex()}, ours=ours)

    for worker in (0, 1, 255):
        cid(f"of worker {worker}", made(NOW, worker), True)
    octets = made(NOW, 7)
    for hours in (-2, -1, 0, 1, 4, 5, 256):
        cid(f"keys of {hours} hours later", octets, -1 <= hours <= 4, at(NOW + hours * 3600))
    for bit in range(0, 128, 3):
        cid(f"bit {bit} flipped", flipped(octets, bit), False)
    cid("of another master", octets, False, at(NOW, OTHER))
    cid("zeros", bytes(16), False)
    cid("noise", draw(16), False)


def frame_streams():
    def stream(name, octets, end="between", count=None):
        # Zeros at the end are counted, not written.
        begin = octets.rstrip(b"\0")
        case = {"name": name, "octets": begin.hex(), "zeros": len(octets) - len(begin)}
        expect("frames", case, end=end)
        assert count is None or len(cases["frames"][-1]["frames"]) == count, name

    def item(number, values, tail=b""):
        return framed(b"\x82" + write(number) + write(values) + tail)

    ticket, key = b"\x81" + draw(53), draw(16)
    good = [
        item(1, {1: "example.org"}),
        item(1, {1: "Example.ORG", 2: "_smtp-client.example.org", 3: []}),
        item(1, {1: "a", 3: [draw(1024)] * 8}),
        item(2, {1: 3, 2: NOW, 3: 32, 4: 26214400, 5: "mx.example.org"}),
        item(2, {1: 0, 2: 2**64 - 1, 3: 2**32 - 1, 4: 0, 5: "mx"}),
        item(3, {1: 0}),
        item(3, {1: 2**32 - 1}),
        item(4, {1: ticket, 2: key, 3: NOW + 30 * DAY}),
        item(5, {1: ticket, 2: key, 3: NOW}),
        item(6, {1: "friend.example"}),
        item(7, {1: "friend.example", 2: ticket, 3: key, 4: NOW}),
        item(8, {1: "second.example", 2: 65535}),
        item(0, {}),
        item(9, {1: "anything", 99: [1, {2: b"x"}]}),
        item(2**64 - 1, {}),
    ]
    for at_, octets in enumerate(good):
        stream(f"good {at_}", octets, count=1)
        for cut in (1, 2, len(octets) - 1):
            stream(f"good {at_} cut at {cut}", octets[:cut], "more", 0)
        if len(octets) > 1000:
            continue
        stream(f"good {at_} with its end cut off", framed(octets[2:-1]), "error", 0)
        stream(f"good {at_} with an octet behind", framed(octets[2:] + b"\0"), "error", 0)
    stream("nothing", b"", count=0)
    stream("all", b"".join(good[3:]), count=len(good) - 3)
    stream("good, then bad", good[5] + framed(b"\x80") + good[5], "error", 1)
    stream("length 0", b"\0\0" + good[0], "error", 0)
    stream("length 16385", b"\x40\x01" + bytes(16385), "error", 0)
    stream("length 65535", b"\xff\xff", "error", 0)
    fill = 16384 - len(item(9, {1: b""})[2:]) - 2
    stream("length 16384", item(9, {1: bytes(fill)}), count=1)
    stream("length 16384, not all there", item(9, {1: bytes(fill)})[:-1], "more", 0)

    def park(name, value_octets, end="between"):
        """A PARK with one more value, under key 99."""
        stream(name, framed(b"\x82\x03\xa2\x01\x05\x18\x63" + value_octets), end, 1 if end == "between" else 0)

    for name, octets in (
        ("a float", b"\xfa\0\0\0\0"),
        ("a double", b"\xfb" + bytes(8)),
        ("a half", b"\xf9\x7e\0"),
        ("true", b"\xf5"),
        ("undefined", b"\xf7"),
        ("a negative", b"\x38\x64"),
        ("a tag", b"\xc1\x01"),
        ("text that is not UTF-8", b"\x62\xff\xfe"),
        ("a map with text keys twice", b"\xa2\x61a\x01\x61a\x02"),
        ("eight arrays", b"\x81" * 8 + b"\0"),
        ("eight tags", b"\xc1" * 8 + b"\0"),
        ("seven arrays and an empty one", b"\x81" * 7 + b"\x80"),
    ):
        park(f"an unknown key with {name}", octets)
    for name, octets in (
        ("nine arrays", b"\x81" * 9 + b"\0"),
        ("eight arrays and an empty one", b"\x81" * 8 + b"\x80"),
        ("nine tags", b"\xc1" * 9 + b"\0"),
        ("nine maps", b"\xa1\0" * 9 + b"\0"),
        ("an indefinite array", b"\x9f\xff"),
        ("an indefinite string", b"\x5f\x41a\xff"),
        ("a break", b"\xff"),
        ("a long spelling of 23", b"\x18\x17"),
        ("a long spelling of 255", b"\x19\0\xff"),
        ("a long spelling of 65535", b"\x1a\0\0\xff\xff"),
        ("a long spelling of 2^32 - 1", b"\x1b\0\0\0\0\xff\xff\xff\xff"),
        ("a long spelling of a length", b"\x58\x01x"),
        ("a long spelling of a tag", b"\xd8\x01\0"),
        ("a reserved head", b"\x1c"),
        ("simple value 0", b"\xe0"),
        ("simple value 32", b"\xf8\x20"),
        ("false in two octets", b"\xf8\x14"),
        ("an array of 2^64 - 1", b"\x9b" + b"\xff" * 8),
        ("a map of 2^63", b"\xbb\x80" + bytes(7)),
        ("octets of 2^64 - 1", b"\x5b" + b"\xff" * 8),
    ):
        park(f"an unknown key with {name}", octets, "error")

    def bad(name, octets):
        stream(name, framed(octets), "error", 0)

    bad("an empty array", b"\x80")
    bad("an array of one", b"\x81\x03")
    bad("an array of three", b"\x83\x03\xa1\x01\x05\x00")
    bad("a map outside", b"\xa1\x03\xa1\x01\x05")
    bad("a type that is text", b"\x82\x61a\xa1\x01\x05")
    bad("a negative type", b"\x82\x22\xa1\x01\x05")
    bad("an array for the map", b"\x82\x03\x82\x01\x05")
    bad("a key twice", b"\x82\x03\xa2\x01\x05\x01\x05")
    bad("an unknown key twice", b"\x82\x03\xa3\x01\x05\x09\x05\x09\x05")
    bad("keys descending", b"\x82\x03\xa2\x02\x05\x01\x05")
    bad("a key that is text", b"\x82\x03\xa2\x01\x05\x61a\x05")
    bad("a negative key", b"\x82\x03\xa2\x20\x05\x01\x05")
    bad("a head of an array in two octets", b"\x98\x02\x03\xa1\x01\x05")
    bad("more pairs announced than there are", b"\x82\x03\xa2\x01\x05")
    bad("an unknown type with keys descending", b"\x82\x09\xa2\x02\x05\x01\x05")
    for name, number, values in (
        ("IDENT without a domain", 1, {2: "a"}),
        ("IDENT with nine vouches", 1, {1: "a", 3: [b""] * 9}),
        ("IDENT with a vouch of 1025", 1, {1: "a", 3: [bytes(1025)]}),
        ("IDENT with a vouch of text", 1, {1: "a", 3: ["a"]}),
        ("IDENT with vouches that are none", 1, {1: "a", 3: 0}),
        ("IDENT with an owner that is none", 1, {1: "a", 2: ""}),
        ("a domain of octets", 6, {1: b"a"}),
        ("an empty domain", 6, {1: ""}),
        ("a domain with a final dot", 6, {1: "a."}),
        ("a domain with a line end", 6, {1: "a\r\n"}),
        ("a domain with a line feed", 6, {1: "a\n"}),
        ("a domain with a hyphen first", 6, {1: "-a"}),
        ("a domain with a hyphen last", 6, {1: "a-.b"}),
        ("a domain in Unicode", 6, {1: "b\u00fccher.example"}),
        ("a domain with a label of 64", 6, {1: "a" * 64}),
        ("a domain of 257", 6, {1: "a." * 128 + "a"}),
        ("ACCEPT of class 4", 2, {1: 4, 2: 0, 3: 0, 4: 0, 5: "a"}),
        ("ACCEPT with 2^32 streams", 2, {1: 1, 2: 0, 3: 2**32, 4: 0, 5: "a"}),
        ("ACCEPT without a host name", 2, {1: 1, 2: 0, 3: 0, 4: 0}),
        ("PARK for 2^32", 3, {1: 2**32}),
        ("PARK for text", 3, {1: "5"}),
        ("PARK for ever", 3, {}),
        ("TICKET of 53", 4, {1: bytes(53), 2: key, 3: 0}),
        ("TICKET of 55", 4, {1: bytes(55), 2: key, 3: 0}),
        ("TICKET with a key of 15", 4, {1: ticket, 2: bytes(15), 3: 0}),
        ("TICKET without a key", 5, {1: ticket, 3: 0}),
        ("ALT_DOOR on port 0", 8, {1: "a", 2: 0}),
        ("ALT_DOOR on port 65536", 8, {1: "a", 2: 65536}),
    ):
        stream(name, item(number, values), "error", 0)
    stream("a domain of 255", item(6, {1: "a." * 127 + "a"}), count=1)
    stream("a label of 63", item(6, {1: "a" * 63}), count=1)
    stream("a domain with bad UTF-8", framed(b"\x82\x06\xa1\x01\x62\xff\xfe"), "error", 0)
    stream("a domain in tags", framed(b"\x82\x06\xa1\x01\xc1\x61a"), "error", 0)
    stream("a bomb of arrays", framed(b"\x82\x09\xa1\x01" + b"\x81" * 16000), "error", 0)
    stream("a bomb of an announcement", framed(b"\x82\x09" + head(5, 2**63)), "error", 0)


def records():
    ed = base64.b64encode(bytes.fromhex("302a300506032b6570032100") + draw(32)).decode()
    p256 = base64.b64encode(bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004") + draw(64)).decode()
    other = base64.b64encode(draw(60)).decode()

    def record(text, good):
        said = add("records", {"text": text.replace("ED", ed).replace("P256", p256).replace("OTHER", other)})
        assert (said["record"] is not None) == good, text

    for text in (
        "v=postern1; key=ED",
        "v=postern1; host=MX.example.org; port=2526; key=P256; mode=enforce; max_age=31557600",
        "v=postern1;key=ED;key=P256;key=OTHER",
        "\tv = postern1 ; later=!~ ;key = ED\t; ",
        "v=postern1; key=ED; key=ED; key=P256; key=P256",
        "v=postern1; key=ED; max_age=0; port=65535;",
        "v=postern1; key=ED" + "".join(f"; t{n}=x" for n in range(30)),
        "v=postern1; key=ED; later=a=b=c",
        "v=postern1; key=ED; max_age=0000000001",
    ):
        record(text, True)
    for text in (
        "",
        ";",
        "v=postern1",
        "v=postern1;",
        "v=postern2; key=ED",
        "V=postern1; key=ED",
        "key=ED; v=postern1",
        "v=spf1 -all",
        "v=postern1; key=OTHER",
        "v=postern1; key=ED;; port=1",
        "v=postern1; key=ED;;",
        "v=postern1; key=ED; port",
        "v=postern1; key=ED; port=",
        "v=postern1; key=ED; Port=1",
        "v=postern1; key=ED; 1t=1",
        "v=postern1; key=ED; =1",
        "v=postern1; key=ED; later=a b",
        "v=postern1; key=ED; later=\u00fc",
        "v=postern1; key=ED; later=1; later=2",
        "v=postern1; key=ED; port=1; port=1",
        "v=postern1; v=postern1; key=ED",
        "v=postern1; key=ED; host=a..b",
        "v=postern1; key=ED; host=a.",
        "v=postern1; key=ED; port=0",
        "v=postern1; key=ED; port=65536",
        "v=postern1; key=ED; port=-1",
        "v=postern1; key=ED; port=\u0661",
        "v=postern1; key=ED; mode=Prefer",
        "v=postern1; key=ED; max_age=31557601",
        "v=postern1; key=ED; max_age=00000000001",
        "v=postern1; key=ED=",
        "v=postern1; key=" + ed.rstrip("="),
        "v=postern1; key=" + ed[:20] + " " + ed[20:],
        "v=postern1; key=!",
        "v=postern1; key=" + ed[:-2] + "B=",
        "v=postern1; key=ED; key=ED; key=ED; key=ED; key=ED",
        "v=postern1; key=ED" + "".join(f"; t{n}=x" for n in range(31)),
        "v=postern1; key=ED; later=" + "x" * 2048,
    ):
        record(text, False)


def main(arguments):
    self_check()
    for section in (siphash, shapes, gate_keys, resets, tags, cookies, tickets, cids, frame_streams, records):
        section()
    assert door.differences(cases)[1] == []
    path = pathlib.Path(arguments[0]) if arguments else pathlib.Path(__file__).parent / "vectors.json"
    lines = [
        f"{json.dumps(kind)}: [\n" + ",\n".join(json.dumps(case) for case in cases[kind]) + "\n]" for kind in cases
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{sum(map(len, cases.values()))} cases in {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
