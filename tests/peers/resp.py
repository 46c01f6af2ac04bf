"""RESP as the tests speak it: nothing is converted, so that every type of reply
stays told apart, and what a client library would hide is seen.

A reply is a pair of its type byte and its value:

    +OK          ("+", b"OK")              $-1      ("$", None)
    :3           (":", 3)                  *2 ...   ("*", [reply, reply])
    %1 ...       ("%", [key, value])       >3 ...   (">", [reply, reply, reply])
"""

import socket

AGGREGATES = "*~%>"


class Closed(Exception):
    """The other side closed the connection."""


class Incomplete(Exception):
    """The reply has not arrived whole."""


def encode(argv):
    """A command as a client sends it; words may be bytes, text or numbers."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in argv]
    return b"*%d\r\n%s" % (len(words), b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))


def parse(data, at=0):
    """The reply that starts at `at`, and where it ends."""
    end = data.find(b"\r\n", at)
    if end < 0:
        raise Incomplete
    kind, rest = chr(data[at]), data[at + 1 : end]
    at = end + 2
    if kind == ":":
        return (kind, int(rest)), at
    if kind in "$=!":
        if rest == b"-1":
            return (kind, None), at
        end = at + int(rest)
        if len(data) < end + 2:
            raise Incomplete
        assert data[end : end + 2] == b"\r\n", f"no line end after {bytes(data[at:end])!r}"
        return (kind, bytes(data[at:end])), end + 2
    if kind in AGGREGATES:
        if rest == b"-1":
            return (kind, None), at
        items = []
        for _ in range(int(rest) * (2 if kind == "%" else 1)):
            item, at = parse(data, at)
            items.append(item)
        return (kind, items), at
    assert kind in "+-,#_(", f"not a reply: {bytes(data[at - 20 : end])!r}"
    return (kind, bytes(rest)), at


def show(reply):
    """A reply in one line, for people."""
    kind, value = reply
    if kind in AGGREGATES and value is not None:
        return f"{kind}[{', '.join(show(item) for item in value)}]"
    if value is None:
        return f"{kind}nil"
    return kind + (str(value) if kind == ":" else words([value]) if kind in "$=" else value.decode("latin-1"))


def words(argv):
    """A command in one line, as redis-cli would take it."""
    return " ".join(_word(word if isinstance(word, bytes) else str(word).encode()) for word in argv)


def _word(word):
    if word and all(33 <= byte < 127 and byte not in b"\"'\\" for byte in word):
        return word.decode()
    shown = "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in word)
    return f'"{shown}"'


class Connection:
    """One connection. Pushed frames are kept in `pushed`, apart from replies."""

    def __init__(self, address, timeout=20, tls=None):
        self.socket = socket.create_connection(address, timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.unread = bytearray()
        self.pushed = []

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()

    def close(self):
        self.socket.close()

    def write(self, data):
        """Sends bytes as they are."""
        self.socket.sendall(data)

    def send(self, commands):
        """Sends commands in one write; their replies are still to be read."""
        self.write(b"".join(encode(argv) for argv in commands))

    def frame(self):
        """The next frame, whatever it is."""
        (frame,) = self.frames(1)
        return frame

    def frames(self, count):
        """The next `count` frames that are not pushed ones."""
        got, at = [], 0
        while True:
            try:
                while len(got) < count:
                    frame, at = parse(self.unread, at)
                    (self.pushed if frame[0] == ">" else got).append(frame)
                del self.unread[:at]
                return got
            except Incomplete:
                # What was read of whole frames stays read.
                del self.unread[:at]
                at = 0
            self.fill()

    def fill(self):
        """Reads what there is, at least a byte."""
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed
        self.unread += data

    def ask(self, *argv):
        """One command, one reply."""
        self.send([argv])
        return self.frame()

    def until_closed(self):
        """All that is still to come, once the other side has closed."""
        try:
            while True:
                self.fill()
        except Closed:
            return bytes(self.unread)
