#!/usr/bin/env python3
"""The gate of door/1, a second time: written from docs/spec/door.md, with nothing but Python's standard library.

    door.py check FILE    holds every case in FILE (as vectors.py writes them, or the tests in Rust) against this
                          implementation; says how many there were, or which ones differ, and then exits 1.
"""

import hmac
import ipaddress
import json
import sys

sys.dont_write_bytecode = True

import frames  # noqa: E402
from primitives import aead_open, aead_seal, hkdf_sha256, self_check, siphash64, siphash128  # noqa: E402

# Label: octets, seconds of an epoch, earlier epochs that are accepted (section 3).
SCHEDULE = {"cookie": (16, 900, 3), "gate": (16, 86400, 34), "body": (32, 86400, 34), "cid": (16, 3600, 4)}
KINDS = {0x81: "known", 0x82: "introduction", 0x83: "proven"}
BODY = [("domain_tag", 8), ("prefix_tag", 8), ("expiry", 4), ("class", 1), ("share", 3)]


def u32(number):
    return number.to_bytes(4, "big")


def number(octets):
    return int.from_bytes(octets, "big")


class Keys:
    """The keys of a master at a time."""

    def __init__(self, master, now):
        self.master, self.now = master, now

    def derive(self, label, epoch, length):
        info = b"postern door/1 " + label.encode() + epoch.to_bytes(8, "big")
        return hkdf_sha256(self.master, b"", info, length)

    def epochs(self, label):
        _, seconds, earlier = SCHEDULE[label]
        current = self.now // seconds
        return range(max(0, current - earlier), current + 2)

    def current(self, label):
        length, seconds, _ = SCHEDULE[label]
        epoch = self.now // seconds
        return epoch % 256, self.derive(label, epoch, length)

    def by_id(self, label, key_id):
        for epoch in self.epochs(label):
            if epoch % 256 == key_id:
                return self.derive(label, epoch, SCHEDULE[label][0])
        return None

    def reset_secret(self):
        return self.derive("reset", 0, 32)

    def tag_of(self, message):
        return int.from_bytes(siphash64(self.derive("tag", 0, 16), message), "little")

    def domain_tag(self, domain):
        return self.tag_of(b"\x01" + domain.lower().encode())

    def share(self, weight, suffix, owner):
        suffix = self.tag_of(b"\x03" + suffix.lower().encode())
        owner = self.tag_of(b"\x04" + owner.lower().encode())
        return weight << 21 | (suffix & 0x1FF) << 12 | owner & 0xFFF

    def prefix_tag(self, address):
        mapped = ipaddress.IPv6Address(address16(address))
        v4 = mapped.ipv4_mapped
        width, bits = (24, int(v4) >> 8) if v4 else (48, int(mapped) >> 80)
        return self.tag_of(b"\x02" + bytes([width]) + bits.to_bytes(7, "big"))


def address16(text):
    """An address as the 16 octets of section 1."""
    address = ipaddress.ip_address(text)
    if address.version == 4:
        return b"\x00" * 10 + b"\xff\xff" + address.packed
    return address.packed


def classify(d):
    """Section 4."""
    garbage = {"shape": "garbage"}
    if not d:
        return garbage
    if not d[0] & 0x40:
        if d[:2] == b"\x11\x01" and len(d) >= 1200:
            return {"shape": "hello", "nonce": d[4:12].hex()}
        return garbage
    if not d[0] & 0x80:
        return {"shape": "established", "cid": d[1:17].hex()} if len(d) >= 37 else garbage
    if d[1:5] != b"\x00\x00\x00\x01" or len(d) < 23 or d[5] != 16 or d[22] > 20:
        return garbage
    dcid, kind = d[6:22].hex(), d[0] >> 4 & 3
    if kind == 2 and len(d) >= 44:
        return {"shape": "established", "cid": dcid}
    if kind != 0 or len(d) < 1200:
        return garbage
    field = d[23 + d[22] :]
    initial = {"shape": "initial", "dcid": dcid}
    if field[0] == 0:
        return {**initial, "token": "none"}
    if field[:2] == b"\x26\x01":
        return {**initial, "token": "cookie", "octets": field[1:39].hex()}
    if field[:2] == b"\x40\x42" and field[2] in KINDS:
        return {**initial, "token": "ticket", "octets": field[2:68].hex()}
    return {**initial, "token": "other"}


def cookie_mac(key, source, nonce, times):
    return siphash128(key, b"\x01" + address16(source) + nonce + times)


def challenge(keys, source, nonce, level, server_time, not_before, not_after):
    """Section 5."""
    key_id, key = keys.current("cookie")
    times = u32(server_time) + u32(not_before) + u32(not_after)
    return bytes([0x12, 1, level, key_id]) + nonce + times + cookie_mac(key, source, nonce, times)


def cookie_token(challenge_octets):
    return b"\x01" + challenge_octets[3:]


def check_cookie(keys, source, token, now):
    key = keys.by_id("cookie", token[1])
    if key is None:
        return {"result": "unknown key"}
    nonce, times, cookie = token[2:10], token[10:22], token[22:]
    if token[0] != 1 or not hmac.compare_digest(cookie, cookie_mac(key, source, nonce, times)):
        return {"result": "forged"}
    not_before, not_after = number(times[4:8]), number(times[8:])
    if now < not_before:
        return {"result": "early", "not_before": not_before}
    if now > not_after:
        return {"result": "late"}
    return {"result": "ok", "nonce": nonce.hex(), "not_before": not_before, "not_after": not_after}


def proof_key(keys, ticket):
    key = keys.by_id("gate", ticket[1])
    return key and siphash128(key, ticket[2:14] + ticket[:2])


def mint(keys, kind, nonce, body):
    """Section 6: the ticket and its proof key."""
    key_id, key = keys.current("body")
    aad = bytes([kind, key_id])
    plaintext = b"".join(body[field].to_bytes(size, "big") for field, size in BODY)
    ticket = aad + nonce + aead_seal(key, nonce, aad, plaintext)
    return ticket, proof_key(keys, ticket)


def ticket_token(ticket, key, dcid, time):
    return ticket + u32(time) + siphash64(key, b"pop1" + u32(time) + dcid)


def check_ticket(keys, token, dcid, now):
    ticket, time, proof = token[:54], number(token[54:58]), token[58:]
    key = proof_key(keys, ticket)
    if key is None:
        return {"result": "unknown key"}
    if abs(time - now) > 600:
        return {"result": "stale"}
    right = siphash64(key, b"pop1" + token[54:58] + dcid)
    if not hmac.compare_digest(proof, right) or ticket[0] not in KINDS:
        return {"result": "forged"}
    return {"result": "ok"}


def open_ticket(keys, ticket, now):
    key = keys.by_id("body", ticket[1])
    if key is None:
        return {"result": "unknown key"}
    plaintext = aead_open(key, ticket[2:14], ticket[:2], ticket[14:])
    if plaintext is None or ticket[0] not in KINDS:
        return {"result": "forged"}
    body, at = {}, 0
    for field, size in BODY:
        body[field] = number(plaintext[at : at + size])
        at += size
    if body["class"] > 3:
        return {"result": "forged"}
    if now // 60 > body["expiry"]:
        return {"result": "expired"}
    return {"result": "ok", "kind": ticket[0], **body}


def make_cid(keys, worker, random):
    """Section 7."""
    key_id, key = keys.current("cid")
    named = bytes([key_id, worker]) + random
    return named + siphash64(key, named)


def check_cid(keys, cid):
    key = keys.by_id("cid", cid[0])
    return key is not None and hmac.compare_digest(cid[8:], siphash64(key, cid[:8]))


def hexed(case, *names):
    return [bytes.fromhex(case[name]) for name in names]


def keys_of(case):
    return Keys(bytes.fromhex(case["master"]), case["keys_at"])


def run(kind, case):
    """What this implementation says to a case; only what it says, to be compared with what the case says."""
    if kind == "siphash":
        key, message = hexed(case, "key", "message")
        return {"h64": siphash64(key, message).hex(), "h128": siphash128(key, message).hex()}
    if kind == "shapes":
        return classify(bytes.fromhex(case["head"]).ljust(case["length"], b"\0"))
    if kind == "gate_keys":
        keys = keys_of(case)
        return {"keys": [[e % 256, keys.derive("gate", e, 16).hex()] for e in keys.epochs("gate")]}
    if kind == "resets":
        return {"secret": keys_of(case).reset_secret().hex()}
    if kind == "tags":
        keys = keys_of(case)
        domain = "domain" in case
        return {"tag": keys.domain_tag(case["domain"]) if domain else keys.prefix_tag(case["address"])}
    if kind == "shares":
        return {"share": keys_of(case).share(case["weight"], case["suffix"], case["owner"])}
    if kind == "challenges":
        times = case["level"], case["server_time"], case["not_before"], case["not_after"]
        octets = challenge(keys_of(case), case["source"], *hexed(case, "nonce"), *times)
        return {"octets": octets.hex(), "token": cookie_token(octets).hex()}
    if kind == "cookies":
        return check_cookie(keys_of(case), case["source"], *hexed(case, "token"), case["now"])
    if kind == "tickets":
        ticket, key = mint(keys_of(case), case["kind"], *hexed(case, "nonce"), case)
        return {"octets": ticket.hex(), "key": key.hex()}
    if kind == "tokens":
        return {"octets": ticket_token(*hexed(case, "ticket", "key", "dcid"), case["time"]).hex()}
    if kind == "proofs":
        return check_ticket(keys_of(case), *hexed(case, "token", "dcid"), case["now"])
    if kind == "opens":
        return open_ticket(keys_of(case), *hexed(case, "ticket"), case["now"])
    if kind == "made_cids":
        return {"cid": make_cid(keys_of(case), case["worker"], *hexed(case, "random")).hex()}
    if kind == "cids":
        return {"ours": check_cid(keys_of(case), *hexed(case, "cid"))}
    if kind == "frames":
        read, end = frames.read_stream(bytes.fromhex(case["octets"]) + bytes(case["zeros"]))
        return {"frames": read, "end": end}
    if kind == "records":
        try:
            return {"record": frames.record(case["text"])}
        except frames.Bad:
            return {"record": None}
    raise ValueError(kind)


def differences(document):
    """How many cases there are, and a line for each that differs."""
    count, lines = 0, []
    for kind, cases in document.items():
        for at, case in enumerate(cases):
            count += 1
            said = run(kind, case)
            wrong = [name for name in said if name not in case or case[name] != said[name]]
            if wrong:
                told = {name: case.get(name) for name in wrong}
                lines.append(f"{kind} {at} ({case.get('name', '')}): {told} is {said} here")
    return count, lines


def main(arguments):
    if len(arguments) != 2 or arguments[0] != "check":
        print(__doc__, file=sys.stderr)
        return 2
    self_check()
    with open(arguments[1], encoding="utf-8") as file:
        count, lines = differences(json.load(file))
    for line in lines[:20]:
        print(line)
    print(f"{count} cases, {len(lines)} differ")
    return 1 if lines or not count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
