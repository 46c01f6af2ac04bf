"""The count goes on: kill -9, SIGTERM, and the next start."""

import asyncio
import signal
import time

from load import Connection
from process import wait_until
from weir import items

MINUTE = """
policies:
  - name: minute
    key: [client_ip]
    limits: [{ quota: 5, window: 60s }]
"""


def exhaust(gateway):
    assert [gateway.get("/x")[0] for _ in range(5)] == [200] * 5
    status, fields, _ = gateway.get("/x")
    assert status == 429
    return int(fields["retry-after"]), time.monotonic()


def test_after_kill_9_a_client_is_still_refused_and_has_less_to_wait(weir):
    with weir(policies=MINUTE) as gateway:
        wait_before, then = exhaust(gateway)
        # `everysec` promises all but the last few milliseconds to a killed process.
        time.sleep(0.1)
        gateway.process.kill()
        time.sleep(3)
        gateway.start()
        status, fields, _ = gateway.get("/x")
        passed = time.monotonic() - then
        assert status == 429
        # Both values are rounded up to whole seconds.
        waited = wait_before - int(fields["retry-after"])
        assert passed - 1 <= waited <= passed + 1, f"{waited} s less after {passed:.1f} s"


def test_under_always_nothing_that_was_answered_is_lost_to_kill_9(weir):
    gateway = weir(policies=MINUTE)
    gateway.config["store"]["embedded"]["appendfsync"] = "always"
    with gateway:
        for left in (4, 3, 2, 1, 0):
            _, fields, _ = gateway.get("/x")
            assert items(fields["ratelimit"])["minute"]["r"] == left
            gateway.process.kill()
            gateway.start()
        assert gateway.get("/x")[0] == 429


def test_sigterm_finishes_requests_in_flight_and_loses_nothing(weir):
    async def slow(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst")
        await writer.drain()
        await asyncio.sleep(1.5)
        writer.write(b"-last")
        await writer.drain()
        writer.close()

    async def scenario(gateway, upstream):
        async with upstream:
            async def one():
                async with Connection(gateway.ports["proxy"]) as connection:
                    return await connection.get("/x")

            asked = [asyncio.create_task(one()) for _ in range(20)]
            await asyncio.sleep(0.7)
            gateway.process.signal(signal.SIGTERM)
            return await asyncio.gather(*asked)

    async def start_upstream():
        return await asyncio.start_server(slow, "127.0.0.1", 0)

    policies = MINUTE.replace("quota: 5", "quota: 100")
    loop = asyncio.new_event_loop()
    try:
        upstream = loop.run_until_complete(start_upstream())
        port = upstream.sockets[0].getsockname()[1]
        gateway = weir(policies=policies, upstream=f"http://127.0.0.1:{port}")
        with gateway:
            answers = loop.run_until_complete(scenario(gateway, upstream))
            assert [(it.status, it.body) for it in answers] == [(200, b"first-last")] * 20
            assert gateway.process.wait() == 0

            gateway.start()
            # The upstream is gone: 502, but the limiter is asked first.
            status, fields, _ = gateway.get("/x")
            assert status == 502
            assert items(fields["ratelimit"])["minute"]["r"] == 100 - 20 - 1
    finally:
        loop.close()


def test_sigterm_ends_an_idle_process_at_once(weir):
    with weir() as gateway:
        gateway.process.signal(signal.SIGTERM)
        wait_until(lambda: not gateway.process.is_running(), "an idle Weir ends at once", seconds=5)
        assert gateway.process.wait() == 0


def test_a_second_process_on_the_same_data_refuses_to_start(weir):
    with weir() as first:
        second = weir()
        second.config["store"]["embedded"]["dir"] = str(first.data)
        said = second.fails_to_start()
        assert str(first.data) in said, said
        assert first.get("/limited/x")[0] == 200, "the first goes on"
