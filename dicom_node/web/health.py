"""`/healthz`: this process answers. `/readyz`: the node can do its work, and what of it not."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.config import NodeConfig
from dicom_node.errors import NodeError
from dicom_node.serve.away import away
from dicom_node.serve.disk import DiskLevel, disk_state
from dicom_node.serve.locks import holders
from dicom_node.store import hosts
from dicom_node.store.database import Database
from dicom_node.web.context import WebContext
from dicom_node.web.requests import Context

_ROLES = ("receiver", "coordinator", "worker")


router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Say that this process is alive; nothing else is looked at."""
    return {"status": "alive"}


@router.get("/readyz")
def readyz(context: Context) -> JSONResponse:
    """Say whether the node can do its work: 200, or 503 with what is wrong."""
    checks = {
        "database": partial(_database, context.database),
        "disk": partial(_disk, context.config),
        "ray": partial(_ray, context.config),
        **{role: partial(_role, context, role) for role in _ROLES},
    }
    wrong = {name: why for name, check in checks.items() if (why := check())}
    status = "not ready" if wrong else "ready"
    return JSONResponse({"status": status, "wrong": wrong}, 503 if wrong else 200)


def _database(database: Database) -> str:
    try:
        current, needed = database.check_revision()
    except NodeError as error:
        return f"it cannot be used ({error.fix})"
    except SQLAlchemyError as error:
        return f"it cannot be reached ({type(error).__name__})"
    if current != needed:
        return f"its tables are of revision {current or 'none'}, {needed} is needed"
    return ""


def _disk(config: NodeConfig) -> str:
    try:
        state = disk_state(config)
    except OSError as error:
        return f"it does not answer ({error.strerror})"
    return state.seen if state.level is DiskLevel.FULL else ""


def _ray(config: NodeConfig) -> str:
    return "; ".join(note.why for note in away(config))


def _role(context: WebContext, role: str) -> str:
    running = list(holders(context.config.node.data_dir))
    where = "on this data folder"
    if context.config.hosts is not None:
        where = "on any host"
        try:
            with context.database.read() as session:
                running += hosts.running(session, context.clock.now())
        except SQLAlchemyError:
            return ""  # said of the database
    there = {name.partition("-")[0] for name in running}
    return "" if role in there else f"no process of it runs {where}"
