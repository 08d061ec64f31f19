"""Gives out this host's files to the other hosts, by HTTPS and with the token that they share.

| request | answer |
|---|---|
| `GET /instances/ID/SHA256`, `GET /reports/ID/SHA256` | the file as it lies on the disk |
| `GET /instances/ID/SHA256/disk` | the SHA-256 of its data set, read again from the disk itself |
| `GET /` | 204: the host is there |

Everything else is 404, a file that another host holds included; without the token all is 401. ID
is the row's; no name, UID or path is in an address. Nothing can be listed, changed or written.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from dicom_node.config.hosts import HostsSection
from dicom_node.errors import ConfigError
from dicom_node.logs import error_facts
from dicom_node.requestor import CIPHERS
from dicom_node.secret import secret_of
from dicom_node.store.database import Database
from dicom_node.store.kept import KeptFile, KeptKind, kept_instance, kept_report
from dicom_node.store.seal import reread_sha256
from dicom_node.store.tables import Instance, Report

_log = structlog.get_logger()

_STOPPING: Final = 5


class FileServer:
    """Serves the files of this host while it is entered.

    Args:
        folders: Where the files of each kind lie.
    """

    def __init__(
        self, section: HostsSection, database: Database, folders: dict[KeptKind, Path]
    ) -> None:
        self._section = section
        self._server = uvicorn.Server(
            uvicorn.Config(
                file_app(section, database, folders),
                host=section.listen,
                port=section.port,
                # what libraries log is not ours to vouch for
                log_config=None,
                access_log=False,
                server_header=False,
                ssl_certfile=section.certificate,
                ssl_keyfile=section.key,
                ssl_ciphers=CIPHERS,
                timeout_graceful_shutdown=_STOPPING,
            )
        )
        self._thread = threading.Thread(target=self._run, name="files", daemon=True)

    @property
    def alive(self) -> bool:
        """False when it has ended by itself; the log says why."""
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def _run(self) -> None:
        section = self._section
        try:
            # signals are the role's; a socket that cannot be had ends it by SystemExit
            self._server.run()
        except SystemExit:
            why = f"{section.listen}:{section.port} cannot be listened on"
            fix = "is another program on it? change `hosts.port`"
            _log.error("files_not_served", why=why, fix=fix)
        except Exception as error:  # noqa: BLE001 - told, and the role ends by `alive`
            _log.error("files_not_served", **error_facts(error))


def file_app(section: HostsSection, database: Database, folders: dict[KeptKind, Path]) -> Starlette:
    """Return the application, for a server or a test."""
    name = section.name

    def find(request: Request) -> tuple[KeptFile, Path]:
        given = request.path_params
        if given["kind"] not in set(KeptKind):
            raise HTTPException(404)
        kind = KeptKind(given["kind"])
        kept = _kept(database, kind, given["id"], given["sha256"])
        if kept is None or kept.host != name:
            raise HTTPException(404)
        root = folders[kind].resolve()
        file = (root / kept.path).resolve()
        if not file.is_relative_to(root) or not file.is_file():
            raise HTTPException(404)
        return kept, file

    def give(request: Request) -> Response:
        _, file = find(request)
        return FileResponse(file, media_type="application/octet-stream")

    def reread(request: Request) -> Response:
        kept, file = find(request)
        try:
            return PlainTextResponse(reread_sha256(file))
        except OSError as error:
            why = error.strerror or type(error).__name__
            _log.error("file_not_read_again", id=kept.id, why=why)
            return PlainTextResponse("")

    def alive(_: Request) -> Response:
        return Response(status_code=204)

    def guarded(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def wrapped(request: Request) -> Response:
            if not _has_token(request, section.token_file):
                _log.warning("files_refused", address=request.client and request.client.host)
                raise HTTPException(401)
            try:
                return answer(request)
            except SQLAlchemyError as error:
                _log.warning("database_away", **error_facts(error))
                raise HTTPException(503) from None

        return wrapped

    one = "/{kind:str}/{id:int}/{sha256:str}"
    return Starlette(
        routes=[
            Route("/", guarded(alive)),
            Route(one, guarded(give)),
            Route(f"{one}/disk", guarded(reread)),
        ]
    )


def _kept(database: Database, kind: KeptKind, row_id: int, sha256: str) -> KeptFile | None:
    with database.read() as session:
        if kind is KeptKind.INSTANCE:
            row = session.get(Instance, row_id)
            found = [kept_instance(row)] if row is not None else []
        else:
            made = session.get(Report, row_id)
            forms = [None, *(made.alternatives or ())] if made is not None else []
            found = [kept_report(made, form) for form in forms] if made is not None else []
    return next((item for item in found if item.sha256 == sha256), None)


def _has_token(request: Request, file: Path) -> bool:
    try:
        wanted = f"Bearer {secret_of(file)}"
    except ConfigError as error:
        _log.error("files_not_served", **error_facts(error))
        return False
    given = request.headers.get("authorization", "")
    return hmac.compare_digest(given.encode(), wanted.encode())
