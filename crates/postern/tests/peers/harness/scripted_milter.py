"""A libmilter daemon that does what each mail asks of it, for tests.

The header field X-Do holds orders, parted by semicolons and done in order at the end of the message. A recipient whose
local part starts with "refused" or "later" is refused by itself. Arguments: the socket, and a folder. What it was told goes into the folder's file "heard", line by line; when there is a
file "delay", each message takes that many seconds.
"""

import pathlib
import sys
import time

import Milter


HEARD = pathlib.Path(sys.argv[2], "heard")
DELAY = pathlib.Path(sys.argv[2], "delay")


class Scripted(Milter.Base):
    def __init__(self):
        self.lines = []
        self.orders = []
        self.body_bytes = 0

    def hear(self, *words):
        self.lines.append(" ".join(str(word) for word in words))

    def macro(self, name):
        return self.getsymval(name) or "-"

    def connect(self, name, family, address):
        self.hear("connect", name, address[0], self.macro("j"), self.macro("{daemon_name}"), self.macro("{client_addr}"))
        return Milter.CONTINUE

    def hello(self, name):
        self.hear("helo", name, self.macro("{tls_version}"), self.macro("{cipher}"))
        return Milter.CONTINUE

    def envfrom(self, path, *parameters):
        self.hear("mail", path, *parameters, self.macro("i"), self.macro("{mail_addr}"))
        return Milter.CONTINUE

    def envrcpt(self, path, *parameters):
        self.hear("rcpt", path, self.macro("{rcpt_addr}"))
        if path.startswith("<refused"):
            self.setreply("550", "5.1.1", "nobody of that name, 100%% sure")
            return Milter.REJECT
        if path.startswith("<later"):
            return Milter.TEMPFAIL
        return Milter.CONTINUE

    def data(self):
        self.hear("data")
        return Milter.CONTINUE

    def header(self, name, value):
        self.hear("header", name, repr(value))
        if name == "X-Do":
            self.orders = [order.strip().split(" ") for order in value.split(";")]
            if self.orders[0][0] == "early":
                return self.finish(getattr(Milter, self.orders[0][1]))
        return Milter.CONTINUE

    def eoh(self):
        self.hear("eoh")
        return Milter.CONTINUE

    def body(self, piece):
        self.body_bytes += len(piece)
        if self.orders and self.orders[0][0] == "skip":
            return Milter.SKIP
        return Milter.CONTINUE

    def eom(self):
        self.hear("eom", self.body_bytes, self.macro("i"))
        for verb, *words in self.orders:
            if verb == "add":
                self.addheader(words[0], " ".join(words[1:]))
            elif verb == "fold":
                self.addheader(words[0], "\n\t".join(words[1:]))
            elif verb == "insert":
                self.addheader(words[1], " ".join(words[2:]), int(words[0]))
            elif verb == "change":
                self.chgheader(words[1], int(words[0]), " ".join(words[2:]))
            elif verb == "delete":
                self.chgheader(words[1], int(words[0]), "")
            elif verb == "body":
                for _ in range(int(words[0])):
                    self.replacebody((" ".join(words[1:]) + "\r\n").encode())
            elif verb == "from":
                self.chgfrom(words[0])
            elif verb == "addrcpt":
                self.addrcpt(words[0])
            elif verb == "delrcpt":
                self.delrcpt(words[0])
            elif verb == "quarantine":
                self.quarantine(" ".join(words))
            elif verb == "sleep":
                time.sleep(float(words[0]))
            elif verb == "progress":
                for _ in range(int(words[0])):
                    self.progress()
                    time.sleep(0.05)
            elif verb == "reply":
                self.setreply(words[0], words[1], *" ".join(words[2:]).split("|"))
                return self.finish(Milter.REJECT if words[0].startswith("5") else Milter.TEMPFAIL)
            elif verb == "end":
                return self.finish(getattr(Milter, words[0]))
        return self.finish(Milter.CONTINUE)

    def finish(self, verdict):
        if DELAY.exists():
            time.sleep(float(DELAY.read_text()))
        with HEARD.open("a", encoding="utf-8") as heard:
            heard.write("".join(line + "\n" for line in [*self.lines, "done"]))
        self.lines = []
        return verdict


Milter.factory = Scripted
Milter.set_flags(
    Milter.ADDHDRS
    | Milter.CHGBODY
    | Milter.ADDRCPT
    | Milter.DELRCPT
    | Milter.CHGHDRS
    | Milter.QUARANTINE
    | Milter.CHGFROM
)
Milter.runmilter("scripted", sys.argv[1], 240)
