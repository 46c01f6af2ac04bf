"""A real Prometheus scrapes a busy Weir, and the dashboard finds its data."""

import asyncio
import json
import re
import shutil
import threading
import time
import urllib.parse

import pytest

from envoy import Envoy
from load import Connection
from process import Process, fetch, free_port, wait_until
from resp import Connection as RespConnection
from weir import ROOT, Weir

DASHBOARD = ROOT / "dashboards" / "overview.json"

# Five scrapes and more, so that every rate has points to go by.
BUSY_SECONDS = 12
RATE_INTERVAL = "10s"

POLICIES = """
policies:
  - name: enforced
    match: { path: /limited/** }
    key: [client_ip]
    limits: [{ quota: 20, window: 1s, candidate: { quota: 10, window: 1s } }]
  - name: candidate
    match: { path: /limited/** }
    key: [client_ip]
    limits: [{ quota: 5, window: 1s }]
    mode: shadow
  - name: slow
    match: { path: /slow/** }
    limits: [{ quota: 15, window: 1s, algorithm: token_bucket, burst: 1 }]
    on_deny: { delay: { wait_max: 1s } }
"""


class Prometheus(Process):
    """Scrapes one target every second into a folder of its own."""

    def __init__(self, folder, target):
        binary = shutil.which("prometheus")
        assert binary, "prometheus is missing; tests/run installs it"
        folder.mkdir(parents=True)
        self.port = free_port()
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "weir", "static_configs": [{"targets": [target]}]}],
        }
        (folder / "prometheus.json").write_text(json.dumps(config))
        super().__init__(
            [
                binary,
                f"--config.file={folder}/prometheus.json",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            folder / "prometheus.log",
            cwd=folder,
        )

    def __enter__(self):
        try:
            wait_until(lambda: self.answers(f"http://127.0.0.1:{self.port}/-/ready"), "Prometheus ready")
            # It takes its time to discover the target.
            wait_until(lambda: self.target()["health"] == "up", "the first scrape", seconds=30)
        except BaseException:
            self.stop()
            raise
        return self

    def target(self):
        targets = self.api("targets")["activeTargets"]
        return targets[0] if targets else {"health": "unknown", "lastError": "not discovered"}

    def api(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        status, _, text = fetch(url)
        answer = json.loads(text)
        assert status == 200 and answer["status"] == "success", f"{parameters}: {text}"
        return answer["data"]


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """A Weir under mixed traffic through both doors, scraped for a while:
    (Prometheus, the page of /metrics at the end)."""
    folder = tmp_path_factory.mktemp("prometheus")
    weir = Weir(folder / "weir", policies=POLICIES, redis=True)
    # One upstream that is not there, so that its errors have something to show.
    weir.config["upstreams"]["gone"] = {"endpoints": [f"http://127.0.0.1:{free_port()}"]}
    weir.config["routes"].insert(0, {"path": "/gone/**", "upstream": "gone"})
    with (
        weir,
        Envoy(folder / "envoy", weir.ports["envoy"]) as envoy,
        Prometheus(folder / "prometheus", f"127.0.0.1:{weir.ports['admin']}") as prometheus,
    ):
        make_busy(weir, envoy)
        yield prometheus, fetch(weir.admin_url("/metrics"))[2]


def make_busy(weir, envoy):
    def through(port):
        async def ask():
            deadline = time.monotonic() + BUSY_SECONDS
            async with Connection(port) as connection:
                while time.monotonic() < deadline:
                    for path in ("/limited/x", "/free", "/gone/x", "/slow/x"):
                        await connection.get(path)
                    await asyncio.sleep(0.02)

        asyncio.run(ask())

    through_envoy = threading.Thread(target=through, args=[envoy.port])
    through_envoy.start()
    with RespConnection(("127.0.0.1", weir.ports["redis"])) as redis:
        assert redis.ask("SET", "a", 1)[0] == "+"
        assert redis.ask("NOSUCH")[0] == "-"
    weir.write_policies(POLICIES.replace("quota: 20", "quota: 10"))
    through(weir.ports["proxy"])
    through_envoy.join()


def dashboard():
    return json.loads(DASHBOARD.read_text())


def queries():
    """Every query of the dashboard, as (panel title, expression)."""

    def panels(of):
        for panel in of["panels"]:
            yield panel
            yield from panels({"panels": panel.get("panels", [])})

    return [(panel["title"], target["expr"]) for panel in panels(dashboard()) for target in panel.get("targets", [])]


def filled_in(expression):
    """What Grafana puts in for the dashboard's variables when all is selected."""
    for variable, value in [("$__rate_interval", RATE_INTERVAL), ("$instance", ".+"), ("$policy", ".+")]:
        expression = expression.replace(variable, value)
    assert "$" not in expression, f"a variable that the test does not know: {expression}"
    return expression


def test_the_target_is_up(busy):
    prometheus, _ = busy
    target = prometheus.target()
    assert target["health"] == "up", target["lastError"]


def test_every_query_of_the_dashboard_returns_data(busy):
    prometheus, _ = busy
    assert len(queries()) > 10
    empty = []
    for title, expression in queries():
        answer = prometheus.api("query", query=filled_in(expression))["result"]
        values = [sample["value"][1] for sample in answer]
        if not any(value != "NaN" for value in values):
            empty.append(f"{title}: {expression} -> {values}")
    assert not empty, "\n".join(empty)


def test_every_variable_of_the_dashboard_has_values(busy):
    prometheus, _ = busy
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "datasource":
            continue
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert match, variable["query"]
        series = prometheus.api("series", **{"match[]": filled_in(match[1])})
        assert any(match[2] in one for one in series), variable["name"]


def test_every_metric_is_on_the_dashboard(busy):
    _, page = busy
    families = set(re.findall(r"^# TYPE (weir_\w+) ", page, re.MULTILINE))
    assert families
    shown = " ".join(expression for _, expression in queries())
    missing = {name for name in families if not re.search(rf"\b{name}(_bucket|_sum|_count)?\b", shown)}
    assert not missing, f"on no panel: {sorted(missing)}"


def test_names_and_types_follow_the_conventions(busy):
    """What `promtool check metrics` asks for, and our own names."""
    _, page = busy
    for name, kind in re.findall(r"^# TYPE (weir_\w+) (\w+)$", page, re.MULTILINE):
        assert re.match(r"weir_(limiter|store|function|persist|proxy|envoy|redis|admin|log)_[a-z_]+$", name), name
        assert name.endswith("_total") == (kind == "counter"), f"{name} is a {kind}"
        assert re.search(rf"^# HELP {name} \S", page, re.MULTILINE), f"{name} has no help"
        assert not re.search(r"_(ms|us|millis\w*|micros\w*|kb|mb|percent)(_|$)", name), f"{name}: base units only"


def test_nothing_taken_from_a_request_is_a_label(busy):
    _, page = busy
    labels = set(re.findall(r"[{,](\w+)=", page))
    assert labels <= {"policy", "verdict", "mode", "outcome", "upstream", "le", "reason", "phase", "class", "live", "candidate", "group", "direction", "function"}, labels
    assert page.count("\n") < 2_000
