"""A real nginx as the upstream. Runs in the foreground, as one process, with
every file of its own in one folder."""

import shutil

from process import Process, free_port, wait_until

CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 64m;
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        # Which connection, and what Weir sent on.
        location / {{ return 200 "$connection $request_method $request_uri $http_connection\\n"; }}
        location /files/ {{ alias {folder}/files/; dav_methods PUT; }}
        location /teapot {{ return 418; }}
    }}
}}
"""


class Nginx(Process):
    """Listens on `self.port`; serves and takes what is in `self.files`."""

    def __init__(self, folder):
        binary = shutil.which("nginx")
        assert binary, "nginx is missing; tests/run installs it"
        self.files = folder / "files"
        self.files.mkdir(parents=True)
        # The one process runs as root where the tests do, and must own its files.
        self.port = free_port()
        path = folder / "nginx.conf"
        path.write_text(CONFIG.format(folder=folder, port=self.port))
        super().__init__([binary, "-c", path, "-p", folder, "-e", "stderr"], folder / "nginx.log", cwd=folder)

    def __enter__(self):
        try:
            wait_until(lambda: self.answers(f"http://127.0.0.1:{self.port}/"), "nginx ready")
        except BaseException:
            self.stop()
            raise
        return self
