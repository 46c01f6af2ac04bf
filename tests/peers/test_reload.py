"""Policies are replaced whole, while requests run."""

import asyncio
import signal

import pytest

from load import Connection
from process import fetch, wait_until
from weir import items

RELOADS = 1_000

# Two sets that share no name. Every request is under both policies of a set, so
# an answer must name exactly those two: half a set would show.
PAIRS = (frozenset({"red-one", "red-two"}), frozenset({"blue-one", "blue-two"}))


def policy_set(number):
    one, two = sorted(PAIRS[number % 2])
    # The quota tells which writing of the file an answer comes from.
    quota = 100_000 + number
    return f"""
policies:
  - name: {one}
    key: [client_ip]
    limits: [{{ quota: {quota}, window: 1s }}]
  - name: {two}
    limits: [{{ quota: {quota}, window: 1s }}]
"""


@pytest.mark.timeout(400)
def test_a_thousand_reloads_under_load(weir):
    gateway = weir(policies=policy_set(0))
    with gateway:
        exchanges, generations = asyncio.run(reload_under_load(gateway))
        reloads = gateway.metrics()['weir_limiter_policy_reloads_total{outcome="swapped"}']

    assert len(generations) == len(set(generations)) and generations == sorted(generations)
    assert reloads >= RELOADS
    assert {it.status for it in exchanges} == {200}
    seen = set()
    for it in exchanges:
        policies = items(it.headers["ratelimit-policy"])
        assert frozenset(policies) in PAIRS, f"half a set: {it.headers['ratelimit-policy']}"
        assert policies.keys() == items(it.headers["ratelimit"]).keys()
        quotas = {policy["q"] for policy in policies.values()}
        assert len(quotas) == 1, f"two generations in one answer: {policies}"
        seen |= quotas
    assert len(seen) > RELOADS / 10, f"the load saw only {len(seen)} of the sets"


async def reload_under_load(gateway):
    exchanges, stop = [], asyncio.Event()

    async def ask():
        async with Connection(gateway.ports["proxy"]) as connection:
            while not stop.is_set():
                exchanges.append(await connection.get("/x"))
                await asyncio.sleep(0.001)

    async def reload():
        generations = [await live_generation(gateway.ports["admin"])]
        for number in range(1, RELOADS + 1):
            gateway.write_policies(policy_set(number))
            # Now and then the watcher must notice by itself; else SIGHUP saves
            # the wait for its debounce.
            if number % 50:
                gateway.process.signal(signal.SIGHUP)
            async with asyncio.timeout(10):
                while (generation := await live_generation(gateway.ports["admin"])) == generations[-1]:
                    await asyncio.sleep(0.002)
            generations.append(generation)
        stop.set()
        return generations

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(ask())
        reloaded = group.create_task(reload())
    return exchanges, reloaded.result()


async def live_generation(port):
    """The first line of /policies is `generation N`."""
    async with Connection(port) as admin:
        return int((await admin.get("/policies")).body.split()[1])


def test_counts_survive_an_edit(weir):
    def limited(quota):
        return f"""
policies:
  - name: edited
    key: [client_ip]
    limits: [{{ quota: {quota}, window: 60s }}]
"""

    with weir(policies=limited(10)) as gateway:
        for _ in range(4):
            assert gateway.get("/x")[0] == 200
        generation = gateway.generation()
        gateway.write_policies(limited(6))
        wait_until(lambda: gateway.generation() > generation, "the new set live")
        _, fields, _ = gateway.get("/x")
        assert items(fields["ratelimit-policy"])["edited"]["q"] == 6
        assert items(fields["ratelimit"])["edited"]["r"] == 1, "four of six were used before"


def test_a_bad_file_keeps_the_old_set_and_says_why(weir):
    with weir() as gateway:
        generation = gateway.generation()
        text = gateway.policy_file.read_text()
        gateway.write_policies(text.replace("window: 10s", "window: soon"))
        refused = 'weir_limiter_policy_reloads_total{outcome="refused"}'
        wait_until(lambda: gateway.metrics()[refused] == 1, "the refusal counted")

        line = 1 + text[: text.index("window")].count("\n")
        gateway.process.tells(f"policies.yaml:{line}:", "soon")
        assert gateway.generation() == generation
        assert gateway.metrics()["weir_limiter_policy_last_reload_success"] == 0
        assert [gateway.get("/limited/x")[0] for _ in range(6)] == [200] * 5 + [429]
        status, _, page = fetch(gateway.admin_url("/readyz"))
        assert status == 200 and "policies" in page, "stale is shown, and still ready"

        gateway.write_policies(text.replace("quota: 5", "quota: 7"))
        wait_until(lambda: gateway.generation() > generation, "the mended set live")
        assert gateway.metrics()["weir_limiter_policy_last_reload_success"] == 1


def test_kubernetes_symlink_swap_is_noticed(weir):
    """A ConfigMap volume: the file is a link into `..data`, itself a link that
    is replaced by a rename. The file never changes; its folder does."""
    gateway = weir()
    text = gateway.policy_file.read_text()
    gateway.policy_file.unlink()

    def publish(name, content):
        (gateway.folder / name).mkdir()
        (gateway.folder / name / "policies.yaml").write_text(content)
        (gateway.folder / "..new").symlink_to(name)
        (gateway.folder / "..new").rename(gateway.folder / "..data")

    publish("..1", text)
    gateway.policy_file.symlink_to("..data/policies.yaml")
    with gateway:
        assert gateway.generation() == 1
        for number, quota in enumerate((6, 7), start=2):
            publish(f"..{number}", text.replace("quota: 5", f"quota: {quota}"))
            wait_until(lambda: gateway.generation() == number, f"swap {number} noticed")
            _, fields, _ = gateway.get("/limited/x")
            assert items(fields["ratelimit-policy"])["five"]["q"] == quota
        gateway.process.tells("changed to five: 7 per 10s", "from five: 6 per 10s")


def test_a_file_may_be_replaced_in_every_way_that_files_are(weir):
    """What editors and deployments do to a file: none leaves requests without their
    limits, and what is whole again is in force again."""

    def text(quota):
        return f"""
policies:
  - name: five
    match: {{ path: /limited/** }}
    key: [client_ip]
    limits: [{{ quota: {quota}, window: 1h }}]
    # {"a comment that makes it longer " * 20}
"""

    with weir(policies=text(100)) as gateway:
        file, beside = gateway.policy_file, gateway.folder / "policies.yaml~"
        refused = 'weir_limiter_policy_reloads_total{outcome="refused"}'
        used = 0

        def in_force(quota):
            nonlocal used
            wait_until(lambda: f"{quota} per 1h" in fetch(gateway.admin_url("/policies"))[2], f"{quota} in force")
            _, fields, _ = gateway.get("/limited/x")
            used += 1
            assert items(fields["ratelimit-policy"])["five"]["q"] == quota
            assert items(fields["ratelimit"])["five"]["r"] == quota - used, "counts go on"

        def told(problem):
            # Not the count of refusals alone: a file that is being written may be refused more than once.
            gateway.process.tells(problem)
            wait_until(lambda: gateway.metrics()[refused] > told.before, "the refusal counted")
            told.before = gateway.metrics()[refused]

        told.before = 0
        in_force(100)
        # It vanishes, and comes back.
        file.unlink()
        told("policies.yaml: cannot be read")
        in_force(100)
        file.write_text(text(101))
        in_force(101)
        # It is moved aside, and written anew.
        file.rename(beside)
        file.write_text(text(102))
        in_force(102)
        # It is written in place, and for a while only half of it is there.
        whole = text(103)
        with file.open("w") as writer:
            writer.write(whole[: whole.index("window")])
            writer.flush()
            told("policies.yaml:7:1: did not find expected node content")
            in_force(102)
            writer.write(whole[whole.index("window") :])
        in_force(103)
        # Another is renamed onto it, and it becomes a link.
        beside.write_text(text(104))
        beside.rename(file)
        in_force(104)
        beside.write_text(text(105))
        (gateway.folder / "link").symlink_to(beside.name)
        (gateway.folder / "link").rename(file)
        in_force(105)
        assert gateway.metrics()["weir_limiter_policy_last_reload_success"] == 1
