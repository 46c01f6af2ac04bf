"""What Weir says of itself in Redis' words: COMMAND, CONFIG, INFO, CLIENT."""

import pytest

from redis_server import RedisServer
from resp import Connection

# Fields of COMMAND INFO. Flags and categories have no order. Notes and other texts
# are Weir's own.
FIELDS = ("name", "arity", "flags", "first key", "last key", "step", "categories", "tips", "key specifications", "subcommands")
UNORDERED = {"flags", "categories", "tips"}

# What Weir answers and Redis 7.0 does not have, or has without a table entry.
OWN_COMMANDS = {"client|setinfo", "waitaof"}

# Parameters whose default is Weir's own, and why.
OWN_DEFAULTS = {
    "auto-aof-rewrite-min-size": "from the configuration",
    "bind": "from the configuration",
    "dir": "from the configuration",
    "port": "from the configuration",
    "save": "there are no snapshots beside the log",
    "client-output-buffer-limit": "a client that does not read is dropped out of the box",
    "databases": "there is one",
}


@pytest.fixture
def both(weir, tmp_path):
    with RedisServer(tmp_path / "redis", "--appendonly", "yes") as redis:
        gateway = weir(redis=True).start()
        with Connection(gateway.address) as ours, Connection(redis.address) as theirs:
            for connection in (ours, theirs):
                assert connection.ask("HELLO", 3)[0] == "%"
            yield ours, theirs


def texts(reply):
    return [value.decode() for _, value in reply[1]]


def comparable(field, value):
    if field in UNORDERED:
        return sorted(texts(value))
    return [without_notes(spec) for spec in value[1]] if field == "key specifications" else value


def without_notes(spec):
    """A key specification without its free text, of which only its presence counts."""
    told = pairs(spec)
    return {**told, "notes": "notes" in told}


def pairs(reply):
    """{name: reply} of a map."""
    return dict(zip(texts(("*", reply[1][::2])), reply[1][1::2]))


def described(entry):
    """{name: {field: value}} of one entry of COMMAND INFO and of its subcommands."""
    fields = dict(zip(FIELDS, entry[1]))
    name = fields["name"][1].decode()
    subcommands = fields["subcommands"][1]
    found = {name: {field: comparable(field, value) for field, value in fields.items() if field != "subcommands"}}
    for subcommand in subcommands:
        found |= described(subcommand)
    return found


def test_command_info_tells_of_every_command_what_redis_tells(both):
    ours, theirs = (
        {name: told for entry in connection.ask("COMMAND")[1] for name, told in described(entry).items()} for connection in both
    )
    # DEBUG has subcommands here; in Redis it sees to them itself.
    ours = {name: told for name, told in ours.items() if name not in OWN_COMMANDS and not name.startswith("debug|")}
    wrong = [f"{name} is no command of Redis" for name in ours if name not in theirs]
    for name in sorted(ours.keys() & theirs.keys()):
        for field, told in ours[name].items():
            if told != theirs[name][field]:
                wrong.append(f"{name}, {field}: {told}, in Redis {theirs[name][field]}")
    assert not wrong, "\n".join([f"{len(wrong)} differences", *wrong])
    assert len(ours) > 200


# What COMMAND DOCS tells in sentences, which are Weir's own.
SENTENCES = {"summary", "complexity", "replaced_by"}


def documented(flat):
    """{name: {field: reply}} of what COMMAND DOCS answers, subcommands beside the rest."""
    found = {}
    for name, told in pairs(flat).items():
        fields = pairs(told)
        found |= documented(fields.pop("subcommands", ("%", [])))
        found[name] = fields
    return found


def versions(history):
    return [change[1][0] for change in history[1]]


def test_command_docs_tells_of_every_command_what_redis_tells(both):
    ours, theirs = both
    names = texts(ours.ask("COMMAND", "LIST"))
    docs, in_redis = documented(ours.ask("COMMAND", "DOCS")), documented(theirs.ask("COMMAND", "DOCS"))
    assert {name for name in docs if "|" not in name} == set(names)
    assert len(names) == ours.ask("COMMAND", "COUNT")[1]
    wrong = []
    for name in sorted(docs.keys() & in_redis.keys()):
        told, expected = docs[name], in_redis[name]
        assert told["summary"][1], name
        for field in (told.keys() | expected.keys()) - {"summary", "complexity"}:
            both_told = [it.get(field) for it in (told, expected)]
            if None not in both_told and field in SENTENCES:
                continue
            if None not in both_told and field == "history":
                both_told = [versions(it) for it in both_told]
            if both_told[0] != both_told[1]:
                wrong.append(f"{name}, {field}: {both_told[0]}, in Redis {both_told[1]}")
    assert not wrong, "\n".join([f"{len(wrong)} differences", *wrong])
    assert len(docs) > 200


def test_parameters_have_the_defaults_of_redis(both):
    ours, theirs = (dict(zip(texts(("*", it[::2])), texts(("*", it[1::2])))) for it in (c.ask("CONFIG", "GET", "*")[1] for c in both))
    wrong = [f"{name} = {value}, in Redis {theirs.get(name)}" for name, value in ours.items()
             if name not in OWN_DEFAULTS and theirs.get(name) != value]  # fmt: skip
    assert not wrong, "\n".join(wrong)
    for name in ("maxmemory", "maxmemory-policy", "notify-keyspace-events", "slowlog-log-slower-than", "maxclients", "timeout",
                 "appendfsync", "requirepass", "hz", "lfu-decay-time", "latency-monitor-threshold", "databases"):  # fmt: skip
        assert name in ours, name


def information(connection):
    """{section: {field: value}}."""
    section, sections = {}, {}
    for line in connection.ask("INFO", "everything")[1].decode().removeprefix("txt:").splitlines():
        if line.startswith("# "):
            section = sections.setdefault(line[2:], {})
        elif line:
            name, _, value = line.partition(":")
            section[name] = value
    return sections


def kind(value):
    for kind in (int, float):
        try:
            kind(value)
            return kind
        except ValueError:
            pass
    return str


def test_info_has_redis_sections_fields_and_kinds(both):
    for connection in both:
        connection.ask("SET", "a", 1, "EX", 100)
        connection.ask("NOSUCH")
    ours, theirs = map(information, both)
    wrong = []
    for section, fields in ours.items():
        for field, value in fields.items():
            if field.startswith("weir_") or section == "Weir" or section in ("Commandstats", "Latencystats"):
                continue
            if field not in theirs.get(section, {}):
                wrong.append(f"{section}: {field} is not in Redis")
            elif kind(value) != kind(theirs[section][field]):
                wrong.append(f"{section}: {field} is {value}, in Redis {theirs[section][field]}")
    assert not wrong, "\n".join(wrong)
    assert {"Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Keyspace"} <= ours.keys()
    assert ours["Keyspace"]["db0"].startswith("keys=1,expires=1,avg_ttl=")


def test_client_list_has_redis_fields_in_redis_order(both):
    names = [[word.split("=")[0] for word in c.ask("CLIENT", "INFO")[1].decode().split()] for c in both]
    ours = [name for name in names[0] if name not in ("lib-name", "lib-ver")]
    assert ours == names[1]
