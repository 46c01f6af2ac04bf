"""Scripts and libraries that Weir and a redis-server are to answer alike.

Each file beside this one holds cases:

    === what the case shows
    > EVAL $ 2 k1 k2 a1        commands, one a line; `$` stands for the text below
    > GET k1
    ---
    return redis.call('set', KEYS[1], ARGV[1])

A case without commands runs its text as `EVAL $ 0`. Words are quoted as in
redis-cli. Lines before the first case are remarks.
"""

from pathlib import Path

FOLDER = Path(__file__).parent


class Case:
    """One case: a name, and commands."""

    def __init__(self, file, name, lines):
        self.name = f"{file}: {name}"
        commands = [line[2:] for line in lines if line.startswith("> ")]
        body = lines[len(commands) :] if commands else lines
        if body[:1] == ["---"]:
            body = body[1:]
        self.text = "\n".join(body).rstrip("\n").encode()
        self.commands = [self.command(line) for line in commands] or [[b"EVAL", self.text, b"0"]]

    def command(self, line):
        return [self.text if word == b"$" else word for word in split(line)]


def cases():
    """Every case of every file."""
    found = []
    for file in sorted(FOLDER.glob("*.txt")):
        name, lines = None, []
        for line in file.read_text().split("\n") + ["=== "]:
            if line.startswith("=== "):
                if name:
                    found.append(Case(file.stem, name, lines))
                name, lines = line[4:], []
            else:
                lines.append(line)
    return found


def split(line):
    """Words as redis-cli parts them: blanks, "…" with escapes, '…'."""
    words, at = [], 0
    while at < len(line):
        if line[at] == " ":
            at += 1
            continue
        quote = line[at] if line[at] in "\"'" else None
        at += 1 if quote else 0
        word = bytearray()
        while at < len(line) and line[at] != (quote or " "):
            if quote == '"' and line[at] == "\\":
                escape = line[at + 1]
                if escape == "x":
                    word.append(int(line[at + 2 : at + 4], 16))
                    at += 4
                    continue
                word += {"n": "\n", "r": "\r", "t": "\t"}.get(escape, escape).encode()
                at += 2
                continue
            word += line[at].encode()
            at += 1
        at += 1 if quote else 0
        words.append(bytes(word))
    return words


def replies(case, connection):
    """What a server with nothing in it answers to the commands of a case. What
    `HELLO` says of the connection is nobody's business here."""
    for command in (["HELLO", "2"], ["FLUSHALL"], ["FUNCTION", "FLUSH"], ["SCRIPT", "FLUSH"]):
        connection.ask(*command)
    answers = [connection.ask(*command) for command in case.commands]
    return [None if command[0] == b"HELLO" else answer for command, answer in zip(case.commands, answers)]
