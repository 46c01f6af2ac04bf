"""Requests that wait for quota instead of being refused, through both doors."""

import signal
import socket
import threading
import time

from envoy import Envoy
from process import fetch, wait_until
from weir import Weir

POLICIES = """
policies:
  - name: slow
    match: { path: /slow/** }
    key: header:x-key
    limits: [{ quota: 2, window: 1s }]
    on_deny: { delay: { wait_max: 10s, waiting_max: 4 } }
  - name: later
    match: { path: /later/** }
    limits: [{ quota: 1, window: 2s }]
    on_deny: { delay: { wait_max: 10s } }
"""


def at_once(count, ask):
    """Asks so often at once: [(seconds until the answer, status)], sorted."""
    answers = []
    began = time.monotonic()

    def one():
        status = ask()
        answers.append((time.monotonic() - began, status))

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(answers)


def waiting(weir, policy):
    return weir.metrics()[f'weir_limiter_waiting_requests{{policy="{policy}"}}']


def outcomes(weir, policy):
    metrics = weir.metrics()
    name = 'weir_limiter_waits_total{{outcome="{}",policy="{}"}}'
    return {outcome: metrics[name.format(outcome, policy)] for outcome in ("admitted", "refused", "full", "gone")}


def test_six_at_once_under_two_a_second_are_spaced_exactly(tmp_path):
    with Weir(tmp_path / "weir", policies=POLICIES) as weir:
        answers = at_once(6, lambda: weir.get("/slow/x", x_key="a")[0])
        assert [status for _, status in answers] == [200] * 6
        for number, (after, _) in enumerate(answers):
            # Never earlier; how much later is the machine's load.
            assert after >= number // 2 - 0.05, answers
        assert outcomes(weir, "slow") == {"admitted": 4, "refused": 0, "full": 0, "gone": 0}
        assert waiting(weir, "slow") == 0


def test_the_line_is_no_longer_than_it_may_be(tmp_path):
    with Weir(tmp_path / "weir", policies=POLICIES) as weir:
        answers = at_once(8, lambda: weir.get("/slow/x", x_key="a")[0])
        statuses = sorted(status for _, status in answers)
        assert statuses == [200] * 6 + [429] * 2
        assert outcomes(weir, "slow")["full"] == 2


def test_a_client_that_leaves_leaves_its_place(tmp_path):
    with Weir(tmp_path / "weir", policies=POLICIES) as weir:
        assert weir.get("/later/x")[0] == 200
        with socket.create_connection(("127.0.0.1", weir.ports["proxy"])) as client:
            client.sendall(b"GET /later/x HTTP/1.1\r\nhost: a\r\n\r\n")
            wait_until(lambda: waiting(weir, "later") == 1, "a request that waits")
        wait_until(lambda: waiting(weir, "later") == 0, "its place is free", seconds=1)
        assert outcomes(weir, "later")["gone"] == 1


def test_who_waits_at_the_end_is_answered_yet(tmp_path):
    with Weir(tmp_path / "weir", policies=POLICIES) as weir:
        assert weir.get("/later/x")[0] == 200
        answers = []
        asking = threading.Thread(target=lambda: answers.append(weir.get("/later/x")[0]))
        asking.start()
        wait_until(lambda: waiting(weir, "later") == 1, "a request that waits")
        weir.process.child.send_signal(signal.SIGTERM)
        asking.join()
        assert answers == [200]
        assert weir.process.child.wait(10) == 0


def test_a_check_of_envoy_waits_within_its_deadline_or_is_refused(tmp_path):
    with Weir(tmp_path / "weir", policies=POLICIES) as weir, Envoy(tmp_path / "envoy", weir.ports["envoy"]) as envoy:
        def get():
            return fetch(f"http://127.0.0.1:{envoy.port}/later/x")[0]

        assert get() == 200
        # The quota is there in two seconds, and the check's deadline before.
        began = time.monotonic()
        assert get() == 429
        assert time.monotonic() - began < 1.5
        assert outcomes(weir, "later")["admitted"] == 0
