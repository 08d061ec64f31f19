"""What a role runs with now, and how it takes another configuration while it runs."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from dicom_node.config import InvalidConfigError, NodeConfig, Problem, config_of_text
from dicom_node.errors import ConfigError, NodeError, PipelineError
from dicom_node.inference.bundles import FILL_IN, Bundle, find_bundles
from dicom_node.logs import error_facts, place_of
from dicom_node.routing.vocabulary import vocabulary
from dicom_node.serve.signals import by_thread

_log = structlog.get_logger()

_AT_START_ONLY: Final[Mapping[str, frozenset[str] | None]] = {
    "node": None,
    "receive": None,
    "web": None,
    "hosts": None,
    "ray": frozenset({"address"}),
    "inference": frozenset(
        {
            "executor",
            "device",
            "workers",
            "threads",
            "max_memory_mb",
            "cpu_fallback",
            "model_memory_mb",
            "deterministic",
        }
    ),
}
"""Keys that are taken at the start only, by section; None: all of it."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be run with.

    Attributes:
        text: Of the file.
        needs_restart: Keys that the file changes and that are taken at the next start only.
    """

    text: str
    config: NodeConfig
    bundles: Mapping[str, Bundle]
    needs_restart: tuple[str, ...] = ()


def bundles_of(config: NodeConfig) -> Mapping[str, Bundle]:
    """Find the pipelines that a configuration may run, a site's own weights put in."""
    weights = {
        name: section.weights for name, section in config.pipelines.items() if section.weights
    }
    return find_bundles(config.pipelines_path, weights=weights)


def load_text(text: str, file: Path) -> Loaded:
    """Check a text that belongs into `file`, and find the pipelines that it names.

    Raises:
        ConfigError: It has mistakes, or we make one in reading it: nothing else comes out.
        PipelineError: A pipeline's files are wrong.
    """
    with _refused(file):
        config = config_of_text(text, file)
        bundles = bundles_of(config)
        mend = vocabulary().mend_body_part
        config = config_of_text(text, file, bundles, mend)
        for bundle in bundles.values():
            _check_body_parts(bundle, mend)
        return Loaded(text, config, bundles)


def _check_body_parts(bundle: Bundle, mend: Callable[[str], str]) -> None:
    for text in bundle.spec.input.when.body_part or ():
        # what a person has yet to fill in is told when it is to run
        if FILL_IN not in text and (fix := mend(text)):
            raise PipelineError(
                f"{bundle.folder / 'configs' / 'dicom.yaml'}: input.when.body_part",
                f"the anatomy vocabulary does not know `{text}`: no image would meet it",
                fix,
            )


@contextmanager
def _refused(file: Path) -> Iterator[None]:
    """Refuse a text that we fail to read: whoever loads meets nothing but a NodeError."""
    try:
        yield
    except NodeError:
        raise
    except Exception as error:  # noqa: BLE001 - no text may end a node or a page that runs
        kind = type(error).__name__
        raise ConfigError(
            str(file),
            f"the node makes a mistake of its own in reading it: {kind} at {place_of(error)}",
            "undo the last change of the file or of a pipeline, and report this line",
        ) from None


def live_config(started: NodeConfig, fresh: NodeConfig) -> tuple[NodeConfig, tuple[str, ...]]:
    """Return what runs now of a fresh configuration, and which keys wait for a restart.

    Args:
        started: What the process was started with.
    """
    kept: dict[str, object] = {}
    waiting: list[str] = []
    for name, keys in _AT_START_ONLY.items():
        was, will = getattr(started, name), getattr(fresh, name)
        if keys is None:
            kept[name] = was
            waiting += _changed(name, was, will)
        else:
            kept[name] = will.model_copy(update={key: getattr(was, key) for key in keys})
            waiting += [
                f"{name}.{key}" for key in sorted(keys) if getattr(was, key) != getattr(will, key)
            ]
    return fresh.model_copy(update=kept), tuple(waiting)


def _changed(name: str, was: object, will: object) -> list[str]:
    if was == will:
        return []
    if was is None or will is None:
        return [name]
    keys = type(was).model_fields  # type: ignore[attr-defined]
    return [f"{name}.{key}" for key in keys if getattr(was, key) != getattr(will, key)]


def load_beside(started: NodeConfig, text: str, file: Path) -> Loaded:
    """Check a text, and return what of it a process runs with that was started with another.

    Raises:
        ConfigError: It has mistakes, or cannot run before a restart.
        PipelineError: A pipeline's files are wrong.
    """
    loaded = load_text(text, file)
    with _refused(file):
        config, waiting = live_config(started, loaded.config)
    tls = config.receive.tls
    if (tls is None or tls.client_certificate == "none") and any(
        peer.needs_certificate for peer in config.dicom_peers.values()
    ):
        why = "a peer needs a certificate, and the node that runs asks for none"
        fix = "restart the node: `receive.tls` is taken at the start only"
        raise InvalidConfigError(file, [Problem(file, 1, "receive.tls", why, fix)])
    return Loaded(text, config, loaded.bundles, waiting)


class Live:
    """A role's configuration, which may change while it runs. Safe for threads.

    Args:
        load: Returns what is to be taken; raises when it cannot be used.
        stop: Set when the role is to end.
    """

    def __init__(
        self, first: Loaded, load: Callable[[], Loaded] | None, stop: threading.Event
    ) -> None:
        self.stop = stop
        self.turn = threading.Event()
        """Set when the role ends, and when it has to begin again with what is new."""
        self._now = first
        self._load = load
        self._asked = threading.Event()
        self._over = threading.Event()

    @classmethod
    def fixed(
        cls,
        config: NodeConfig,
        bundles: Mapping[str, Bundle],
        stop: threading.Event | None = None,
    ) -> Live:
        """Return one that never changes, as tests and single commands need it."""
        live = cls(Loaded("", config, bundles), None, stop or threading.Event())
        threading.Thread(target=live._follow_stop, name="follow-stop", daemon=True).start()
        return live

    @property
    def config(self) -> NodeConfig:
        return self._now.config

    @property
    def bundles(self) -> Mapping[str, Bundle]:
        return self._now.bundles

    @property
    def text(self) -> str:
        """The text that it runs with."""
        return self._now.text

    def begin(self) -> Loaded:
        """Begin a turn: what is set from now on is for the next one."""
        self.turn.clear()
        if self.stop.is_set():
            self.turn.set()
        return self._now

    def ask(self) -> None:
        """Take the configuration again, soon."""
        self._asked.set()

    @contextmanager
    def following(self) -> Iterator[None]:
        """Take, in a thread, what is asked for; the role's end ends its turn."""
        for work in (self._follow, self._follow_stop):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()
        try:
            yield
        finally:
            self._over.set()
            self._asked.set()

    def _follow(self) -> None:
        while not self._over.is_set():
            self._asked.wait()
            self._asked.clear()
            if not self._over.is_set() and not self.stop.is_set():
                self.take()

    def _follow_stop(self) -> None:
        self.stop.wait()
        self.turn.set()

    def take(self) -> None:
        """Take the configuration as it is now; one that cannot be used changes nothing."""
        if self._load is None:
            return
        try:
            self._now = self._load()
        except Exception as error:  # noqa: BLE001 - the thread that follows must live on
            _log.error("configuration_refused", **error_facts(error))
            return
        _log.info("configuration_taken", routes=len(self.config.routes))
        self.turn.set()


def on_hangup(work: Callable[[], None]) -> None:
    """Call `work` on SIGHUP, one that came before we were ready included."""
    ask = by_thread(work)
    signal.signal(signal.SIGHUP, lambda *_: ask())
    # the supervisor starts its roles with it blocked, so that none dies of it while it begins
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


CONFIGURATION: Final = "DICOM_NODE_CONFIGURATION"
"""Set in a child's environment: the folder with what the supervisor runs."""

_DATA_DIR: Final = re.compile(r"\bdata_dir\s*:\s*([^\s,}#]+)")
_STARTED: Final = "started.yaml"
_RUNNING: Final = "running.yaml"


def configuration_folder(data_dir: Path) -> Path:
    """Return where the supervisor keeps what it runs."""
    return data_dir / "configuration"


def started_file(folder: Path) -> Path:
    """Return the file with the text that the supervisor was started with."""
    return folder / _STARTED


def running_file(folder: Path) -> Path:
    """Return the file with the text that the supervisor runs."""
    return folder / _RUNNING


def running_config(file: Path) -> NodeConfig | None:
    """Return what a node runs with whose file has mistakes by now; None: not known.

    Of the file only `data_dir` is looked for: there lies what the supervisor runs.
    """
    try:
        found = _DATA_DIR.search(file.read_text(encoding="utf-8", errors="replace"))
        if found is None:
            return None
        folder = Path(found[1].strip("\"'")).expanduser()
        kept = running_file(configuration_folder(file.resolve().parent / folder))
        return config_of_text(kept.read_text(encoding="utf-8"), file)
    except (OSError, RuntimeError, NodeError):
        return None  # RuntimeError: the home folder of nobody
