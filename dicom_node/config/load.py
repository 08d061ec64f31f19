"""Read `node.yaml`: every mistake is told with file, line, value, reason and fix, all at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from dicom_node.config.schema import NodeConfig, TlsSection
from dicom_node.config.watching import CHANNEL_KINDS, AuditSection, RuleSection, file_keys
from dicom_node.config.web import OidcSection, WebSection, WebTlsSection
from dicom_node.errors import ConfigError
from dicom_node.model.conditions import Conditions, Range, Test
from dicom_node.model.peers import PEER_KINDS, AnyPeer, Peer, PeerTls, WebAuth, WebPeer
from dicom_node.model.routes import Route

KeyPath = tuple[str | int, ...]
_PASSWORD: Final = re.compile(r"//[^/@\s]*@")
"""What stands before the host of a URL."""
Section = TypeVar("Section", bound=BaseModel)
_WEB_SECTIONS: Final[dict[str, type[BaseModel]]] = {"tls": WebTlsSection, "oidc": OidcSection}


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration file."""

    file: Path
    line: int
    key: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.key}: {self.why}\n    fix: {self.fix}"


class InvalidConfigError(ConfigError):
    """`node.yaml` has mistakes; `problems` holds every one."""

    def __init__(self, file: Path, problems: list[Problem]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{file}:{first.line}: {first.key}", first.why + more, first.fix)
        self.problems = problems


def load_config(file: Path, known_pipelines: Iterable[str] | None = None) -> NodeConfig:
    """Read and check a `node.yaml`.

    Relative paths in it are taken from the file's own folder.

    Args:
        known_pipelines: Names that routes may run; None: not checked here.

    Raises:
        InvalidConfigError: The file has mistakes; all of them are in `problems`.
        ConfigError: The file cannot be read.
    """
    return config_of_text(read_text(file), file, known_pipelines)


def read_text(file: Path) -> str:
    """Read the text of a `node.yaml`.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        return file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            str(file), "there is no such file", "name another with --config, or write one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(str(file), str(reason), "make it a readable UTF-8 file") from None


def config_of_text(
    text: str,
    file: Path,
    known_pipelines: Iterable[str] | None = None,
    mend_body_part: Callable[[str], str] | None = None,
) -> NodeConfig:
    """Check the text of a `node.yaml` that need not be in its file yet.

    Args:
        file: Where it belongs; mistakes are told with its name.
        mend_body_part: Says how to mend a body part that no image can meet, "" for any other;
            None: not checked here.

    Raises:
        InvalidConfigError: The text has mistakes; all of them are in `problems`.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = _Lines(root)
        data = _TextKeyLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        fix = error.fix if isinstance(error, _MisreadError) else "mend the YAML of this line"
        raise InvalidConfigError(
            file, [Problem(file, line, "YAML", str(error.problem), fix)]
        ) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        why = "it is not YAML" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise InvalidConfigError(
            file, [Problem(file, 1, "YAML", why, "write plain YAML as in the README")]
        ) from None
    if not isinstance(data, dict):
        raise InvalidConfigError(
            file, [Problem(file, 1, "node.yaml", "it holds no keys", "begin with `node:`")]
        )
    try:
        config = NodeConfig.model_validate(data)
    except ValidationError as error:
        raise InvalidConfigError(
            file, [_problem(file, lines, data, item) for item in error.errors()]
        ) from None
    problems = [*_homeless(file, lines, config), *_references(file, lines, config, known_pipelines)]
    if mend_body_part is not None:
        problems += _body_parts(file, lines, config, mend_body_part)
    if problems:
        raise InvalidConfigError(file, problems)
    return _absolute(config, file.resolve().parent)


class _MisreadError(yaml.constructor.ConstructorError):
    """YAML reads something otherwise than its writer meant it; it has a fix of its own."""

    def __init__(self, node: yaml.Node, why: str, fix: str) -> None:
        super().__init__(None, None, why, node.start_mark)
        self.fix = fix


class _TextKeyLoader(yaml.SafeLoader):
    """A safe loader whose keys are texts, each given once: a second would silently win.

    A value that is not what YAML or its tag takes it for (`2026-02-30`) is refused with its line.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                why = "braces or brackets stand where a key or a text belongs"
                fix = "fill in the template's `{{ … }}`, or put a text that holds them in quotes"
                raise _MisreadError(key_node, why, fix)
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                why = f"the key `{key_node.value}` is read as {_YAML_WORDS.get(type(key), key)}"
                fix = f'put the name in quotes: "{key_node.value}"'
                raise _MisreadError(key_node, why, fix)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):
            if not isinstance(node, yaml.ScalarNode):
                raise
            kind = node.tag.rpartition(":")[2]
            why = f"{node.value[:60]!r} is no {kind}, as which YAML reads it"
            raise _MisreadError(node, why, "correct it, or put a text in quotes") from None


_YAML_WORDS: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "nothing",
    date: "a date",
    datetime: "a time",
}
"""What YAML makes of a key without quotes."""


class _Lines:
    """Line numbers of a YAML document by key path."""

    def __init__(self, root: yaml.Node | None) -> None:
        self._lines: dict[KeyPath, int] = {(): 1}
        if root is not None:
            self._walk(root, ())

    def _walk(self, node: yaml.Node, path: KeyPath) -> None:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*path, str(key.value))
                self._lines[here] = key.start_mark.line + 1
                self._walk(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._walk(value, (*path, index))

    def of(self, path: KeyPath) -> int:
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)


def _problem(file: Path, lines: _Lines, data: dict[str, Any], item: Any) -> Problem:
    path: KeyPath = tuple(item["loc"])
    of_key = path[-1:] == ("[key]",)
    if of_key:
        path = path[:-1]
    peer: type[BaseModel] = Peer
    if path[:1] == ("peers",) and len(path) > 2:
        # pydantic puts the kind of the peer behind its name
        peer = PEER_KINDS[str(path[2])]
        path = (*path[:2], *path[3:])
    elif path[:2] == ("alerts", "channels") and len(path) > 3:
        peer = CHANNEL_KINDS[str(path[3])]
        path = (*path[:3], *path[4:])
    key = _dotted(path) or "node.yaml"
    kind, value = item["type"], item.get("input")
    if kind == "extra_forbidden":
        name = str(path[-1])
        allowed = sorted(_fields_at(path[:-1], peer))
        near = get_close_matches(name, allowed, n=1)
        fix = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(allowed)}"
        return Problem(file, lines.of(path), key, f"unknown key `{name}`", fix)
    if kind == "missing":
        return Problem(file, lines.of(path[:-1]), key, "it is missing", f"add `{path[-1]}:` here")
    why = str(item["msg"]).removeprefix("Value error, ")
    found = _PASSWORD.sub("//…@", repr(value))
    shown = "" if isinstance(value, dict | list) else f" (found: {found})"
    if kind == "value_error" and repr(value) in why:
        shown = ""
    fix = "correct the key as the reason says" if of_key and kind == "value_error" else ""
    return Problem(file, lines.of(path), key, why + shown, fix or _fix_for(kind, item))


def _fix_for(kind: str, item: Any) -> str:
    context = item.get("ctx") or {}
    if kind in ("int_parsing", "int_type", "float_parsing", "float_type"):
        return "write a number, without quotes"
    if kind in ("bool_parsing", "bool_type"):
        return "write true or false"
    if kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than"):
        return "write a number in the range"
    if kind == "enum":
        return f"write one of: {context.get('expected', '')}"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return "write keys with values here, indented under it"
    return "change the value as the reason says"


def _fields_at(path: KeyPath, peer: type[BaseModel]) -> Iterable[str]:
    """Names of the keys that the schema knows at a key path, by the kind of a peer or channel."""
    section: type[BaseModel] = NodeConfig
    known: dict[str, type[BaseModel]] = {
        "peers": peer,
        "channels": peer,
        "rules": RuleSection,
        "audit": AuditSection,
        "routes": Route,
        "when": Conditions,
        "attributes": Test,
        "range": Range,
        "slice_thickness_mm": Range,
    }
    for part in path:
        if isinstance(part, str):
            field = section.model_fields.get(part)
            kind = field.annotation if field else None
            if path[0] == "web":
                section = _WEB_SECTIONS.get(part, WebSection)
            elif part == "tls":
                section = PeerTls if path[0] == "peers" else TlsSection
            elif part == "auth" and path[0] == "peers":
                section = WebAuth
            elif isinstance(kind, type) and issubclass(kind, BaseModel):
                section = kind
            elif part in known:
                section = known[part]
            elif part == "pipelines":
                from dicom_node.config.schema import PipelineSection

                section = PipelineSection
    return section.model_fields


def _references(
    file: Path, lines: _Lines, config: NodeConfig, known_pipelines: Iterable[str] | None
) -> Iterator[Problem]:
    def unknown(path: KeyPath, name: str, kind: str, among: Iterable[str]) -> Problem:
        names = sorted(among)
        near = get_close_matches(name, names, n=1)
        fix = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(names) or 'none'}"
        return Problem(file, lines.of(path), _dotted(path), f"no {kind} is called `{name}`", fix)

    if not config.anyone_may_send:
        for index, name in enumerate(config.accept_from):
            if name not in config.peers:
                yield unknown(("accept_from", index), name, "peer", [*config.peers, "anyone"])
            elif isinstance(config.peers[name], WebPeer):
                yield Problem(
                    file,
                    lines.of(("accept_from", index)),
                    f"accept_from[{index}]",
                    f"`{name}` has a `url` and no AE title: it receives by STOW-RS and cannot send",
                    "leave it out, or give the sender a peer of its own with `ae_title`",
                )
    asked = config.settle.ask_peer
    if asked is not None and asked not in config.peers:
        yield unknown(("settle", "ask_peer"), asked, "peer", config.peers)
    pipelines = None if known_pipelines is None else set(known_pipelines)
    for number, route in enumerate(config.routes):
        for index, name in enumerate(route.send_to):
            if name not in config.peers:
                yield unknown(("routes", number, "send_to", index), name, "peer", config.peers)
        for index, name in enumerate(route.run):
            if pipelines is not None and name not in pipelines:
                yield unknown(("routes", number, "run", index), name, "pipeline", pipelines)
    for name in config.pipelines:
        if pipelines is not None and name not in pipelines:
            yield unknown(("pipelines", name), name, "pipeline", pipelines)


def _body_parts(
    file: Path, lines: _Lines, config: NodeConfig, mend: Callable[[str], str]
) -> Iterator[Problem]:
    for number, route in enumerate(config.routes):
        for index, text in enumerate(route.when.body_part or ()):
            if fix := mend(text):
                path = ("routes", number, "when", "body_part", index)
                why = f"the anatomy vocabulary does not know `{text}`: no image would meet it"
                yield Problem(file, lines.of(path), _dotted(path), why, fix)


def _homeless(file: Path, lines: _Lines, value: object, path: KeyPath = ()) -> Iterator[Problem]:
    """Tell of files that are named by the home folder of a user who is not there."""
    if isinstance(value, Path):
        try:
            value.expanduser()
        except RuntimeError:
            why = f"no home folder is known for `{value.parts[0]}`"
            fix = "name the file by its whole path"
            yield Problem(file, lines.of(path), _dotted(path), why, fix)
        return
    inner: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, BaseModel | Mapping):
        inner = value.items() if isinstance(value, Mapping) else value
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, item in inner:
        yield from _homeless(file, lines, item, (*path, key))


def _absolute(config: NodeConfig, base: Path) -> NodeConfig:
    def moved(path: Path) -> Path:
        path = path.expanduser()
        return path if path.is_absolute() else base / path

    def peer_moved(peer: AnyPeer) -> AnyPeer:
        changed: dict[str, BaseModel] = {}
        if peer.tls is not None:
            changed["tls"] = files_moved(peer.tls, "ca", "certificate", "key")
        if isinstance(peer, WebPeer) and peer.auth is not None:
            changed["auth"] = files_moved(peer.auth, "token_file", "password_file")
        return peer.model_copy(update=changed)

    def files_moved(section: Section, *keys: str) -> Section:
        files = {key: getattr(section, key) for key in keys}
        return section.model_copy(
            update={key: moved(file) if file else None for key, file in files.items()}
        )

    tls = config.receive.tls
    if tls is not None:
        tls = files_moved(tls, "certificate", "key", "client_ca")
    channels = {
        name: files_moved(channel, *file_keys(channel))
        for name, channel in config.alerts.channels.items()
    }
    audit = config.audit and files_moved(config.audit, *file_keys(config.audit))
    web = config.web
    if web is not None:
        changed = {
            "tls": files_moved(web.tls, "certificate", "key") if web.tls else None,
            "oidc": files_moved(web.oidc, "client_secret_file") if web.oidc else None,
        }
        web = web.model_copy(update=changed)
    hosts = config.hosts and files_moved(config.hosts, "certificate", "key", "ca", "token_file")
    return config.model_copy(
        update={
            "hosts": hosts,
            "peers": {name: peer_moved(peer) for name, peer in config.peers.items()},
            "receive": config.receive.model_copy(update={"tls": tls}),
            "alerts": config.alerts.model_copy(update={"channels": channels}),
            "audit": audit,
            "web": web,
            "node": config.node.model_copy(update={"data_dir": moved(config.node.data_dir)}),
            "pipelines_path": [moved(path) for path in config.pipelines_path],
            "pipelines": {
                name: section.model_copy(
                    update={"weights": moved(section.weights) if section.weights else None}
                )
                for name, section in config.pipelines.items()
            },
        }
    )


def _dotted(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text
