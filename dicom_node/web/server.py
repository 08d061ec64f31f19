"""The role `web`: one process with the dashboard and the API."""

from __future__ import annotations

import threading
from pathlib import Path

import structlog
import uvicorn

from dicom_node.clock import SystemClock
from dicom_node.errors import ConfigError, StoreError
from dicom_node.serve.live import Live
from dicom_node.serve.locks import hold_numbered
from dicom_node.store import accounts
from dicom_node.store.database import Database
from dicom_node.web.app import create_app
from dicom_node.web.context import WebContext

_log = structlog.get_logger()


def run_web(config_file: Path, live: Live, database: Database) -> None:
    """Run the role until its `Live` stops; what a reload brings, the next request sees.

    Raises:
        ConfigError: There is no section `web`.
        StoreError: The server has ended by itself; the log says why.
    """
    config = live.config
    if config.web is None:
        raise ConfigError("role web", "node.yaml has no section `web`", "add `web: {}`")
    context = WebContext(config_file, config, live.bundles, database, SystemClock(), live.stop)
    with hold_numbered(config.node.data_dir, "web"):
        _tell_first_admin(context)
        _serve(context, live)


def address(context: WebContext) -> str:
    """Return where a browser on this machine finds it."""
    web = context.web
    host = f"[{web.host}]" if ":" in web.host else web.host
    return f"{'https' if web.tls else 'http'}://{host}:{web.port}"


def _serve(context: WebContext, live: Live) -> None:
    web = context.web
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(context),
            host=web.host,
            port=web.port,
            # what libraries log may hold addresses with what was searched for
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(web.proxies),
            forwarded_allow_ips=web.proxies or None,
            ssl_certfile=web.tls.certificate if web.tls else None,
            ssl_keyfile=web.tls.key if web.tls else None,
            timeout_graceful_shutdown=5,
        )
    )
    ended = threading.Event()

    def run() -> None:
        try:
            # signals are ours; a socket that cannot be had ends it by SystemExit
            server.run()
        except SystemExit:
            _log.error(
                "web_not_started",
                why=f"{web.host}:{web.port} cannot be listened on",
                fix="is another program on it? change `web.port`",
            )
        finally:
            ended.set()

    thread = threading.Thread(target=run, name="web")
    thread.start()
    _log.info("web_started", address=address(context))
    while not live.stop.is_set() and not ended.is_set():
        now = live.begin()
        context.config, context.bundles = now.config, now.bundles
        while not live.turn.wait(0.2) and not ended.is_set():
            pass
    failed = ended.is_set() and not context.stop.is_set()
    server.should_exit = True
    thread.join()
    if failed:
        raise StoreError("role web", "its server ended", "the log says why")


def _tell_first_admin(context: WebContext) -> None:
    """While there is no admin, say how to become one: no password is given in advance."""
    with context.database.write() as session:
        token = accounts.new_setup_token(session, context.clock.now())
    if token is not None:
        _log.warning(
            "no_admin_yet",
            fix="open this address once, within a day, or run `dicom-node users add`",
            address=f"{address(context)}/setup?token={token}",
        )
