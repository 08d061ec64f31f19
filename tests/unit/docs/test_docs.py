"""The documents say what the code does: keys, defaults, commands, examples, tables, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import typer
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from dicom_node.cli.app import app
from dicom_node.config import load_config
from dicom_node.config.schema import NodeConfig
from dicom_node.model.alerts import DEFAULTS, AlertRule
from dicom_node.model.pipeline import (
    ClassificationOutput,
    DetectionOutput,
    InputSelector,
    MeasurementOutput,
    PipelineSpec,
    RegionOutput,
    SaliencySpec,
    SegmentationOutput,
)
from dicom_node.model.states import DeliveryState, JobState, StudyState
from dicom_node.receive import filing
from dicom_node.receive.storing import SUCCESS
from tests.unit.docs import conformance_tables

DOCS = Path(__file__).parents[3] / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of every table row of a document."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


PLACES = {
    "peers": "peers.NAME",
    "pipelines": "pipelines.NAME",
    "routes": "routes[]",
    "alerts.channels": "alerts.channels.NAME",
    "alerts.rules": "alerts.rules.RULE",
}


def keys(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of node.yaml as the document writes it, with its default."""
    for name, field in section.model_fields.items():
        path = f"{prefix}{name}"
        inner = models_in(field.annotation)
        default = field.default
        if field.default_factory is not None:
            default = field.default_factory()  # type: ignore[call-arg]
        # a section that is always there is a heading, not a key of its own
        optional = get_origin(field.annotation) in (dict, list) or default is None
        if not inner or optional or prefix.startswith("routes[]"):
            yield path, default
        # a peer is of one of two kinds
        for section_inside in inner:
            place = PLACES.get(path, path)
            if path.endswith(".attributes"):
                place = f"{path}.KEYWORD"
            yield from keys(section_inside, f"{place}.")


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in get_args(annotation) for model in models_in(part)]


def as_written(default: Any) -> str:
    """A default as the document's second column has it."""
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "none"
    if isinstance(default, BaseModel):
        return "`{}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, float):
        return f"`{default:g}`"
    if isinstance(default, list):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{default}`"


def test_every_key_of_node_yaml_is_documented_with_its_default_and_no_other() -> None:
    documented = {
        row[0].strip("`"): row[1] for row in rows(page("configure")) if row[0].startswith("`")
    }
    expected = {path: as_written(default) for path, default in keys(NodeConfig)}
    assert "routes[].when.attributes.KEYWORD.range.max" in expected
    assert documented == expected


def test_every_key_is_explained() -> None:
    for row in rows(page("configure")):
        if row[0].startswith("`"):
            assert len(row[2]) > 7, row[0]


@pytest.mark.parametrize("name", [path.stem for path in PAGES])
def test_every_node_yaml_in_the_documents_loads(name: str, tmp_path: Path) -> None:
    examples = [text for text in blocks(page(name), "yaml") if re.match(r"node:", text)]
    if name == "configure":
        assert len(examples) >= 2
    for text in examples:
        file = tmp_path / "node.yaml"
        file.write_text(text, encoding="utf-8")
        pipelines = {
            name for route in yaml.safe_load(text).get("routes", []) for name in route["run"]
        }
        load_config(file, {*pipelines, "knee_kl_ensemble"})


def test_the_example_routes_run_pipelines_that_are_shipped(tmp_path: Path) -> None:
    from dicom_node.inference.bundles import find_bundles

    file = tmp_path / "node.yaml"
    file.write_text(blocks(page("configure"), "yaml")[0], encoding="utf-8")
    load_config(file, find_bundles())


COMMAND = typer.main.get_command(app)


def commands_in(text: str) -> Iterator[list[str]]:
    """Each `dicom-node …` of a document, in code blocks and in the text, as words."""
    lines = "\n".join(blocks(text, "(?:sh|ini)")).splitlines()
    for line in [*lines, *re.findall(r"`([^`\n]+)`", text)]:
        found = re.match(r"(?:ExecStart=)?\S*?dicom-node ([a-z-][^#]*)", line.strip())
        if found:
            yield found[1].split()


@pytest.mark.parametrize("name", [path.stem for path in PAGES])
def test_every_command_and_option_in_the_documents_exists(name: str) -> None:
    for words in commands_in(page(name)):
        command: Any = COMMAND
        while hasattr(command, "commands") and words and not words[0].startswith("-"):
            assert words[0] in command.commands, f"dicom-node {' '.join(words)}"
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for word in words:
            if word.startswith("--"):
                assert word in known, f"{command.name} {word}"


def test_the_documents_use_commands_at_all() -> None:
    assert sum(1 for path in PAGES for _ in commands_in(path.read_text())) > 20


def test_every_state_is_explained() -> None:
    told = {(row[0], row[1].strip("`")) for row in rows(page("operate")) if len(row) == 4}
    kinds = {"study": StudyState, "job": JobState, "delivery": DeliveryState}
    assert told - {("of", "state"), ("---", "---")} == {
        (kind, str(state)) for kind, states in kinds.items() for state in states
    }


def test_every_log_event_that_is_explained_exists() -> None:
    sources = "\n".join(
        path.read_text(encoding="utf-8") for path in (DOCS.parent / "dicom_node").rglob("*.py")
    )
    section = page("operate").partition("## Logs")[2].partition("\n## ")[0]
    events = [
        event
        for row in rows(section)
        if row[0].startswith("`")
        for event in re.findall(r"`(\w+)`", row[0])
    ]
    assert len(events) > 10
    for event in events:
        # "disk_low" is made of two parts
        made = f'"{event}"' in sources or f'f"{event.split("_")[0]}_{{' in sources
        assert made, event


def test_the_example_pipeline_is_one(tmp_path: Path) -> None:
    """Written to a folder as the document says, it is found, with its weights' manifest."""
    from dicom_node.inference.bundles import load_bundle
    from dicom_node.training.entries import evaluator_of

    spec, evaluate, manifest = blocks(page("add-a-pipeline"), "yaml")
    folder = tmp_path / "my_pipeline"
    (folder / "configs").mkdir(parents=True)
    (folder / "weights").mkdir()
    (folder / "configs" / "dicom.yaml").write_text(spec, encoding="utf-8")
    (folder / "configs" / "metadata.json").write_text('{"version": "1.0.0"}')
    (folder / "weights" / "manifest.yaml").write_text(manifest, encoding="utf-8")
    bundle = load_bundle(folder)
    assert (bundle.name, bundle.version, bundle.demonstration) == ("my_pipeline", "1.0.0", False)
    assert len(bundle.spec.outputs) == 2
    (folder / "configs" / "evaluate.yaml").write_text(evaluate, encoding="utf-8")
    assert callable(evaluator_of(bundle))


def test_every_key_of_dicom_yaml_is_documented() -> None:
    told = {}
    for row in rows(page("add-a-pipeline")):
        told.setdefault(row[0].strip("`"), " ".join(row[1:]))
    for key in PipelineSpec.model_fields:
        assert key in told, key
    for key in InputSelector.model_fields:
        assert key in told, key
    for key in SaliencySpec.model_fields:
        assert f"`{key}`" in told["saliency"], key
    for output in (
        ClassificationOutput,
        MeasurementOutput,
        RegionOutput,
        SegmentationOutput,
        DetectionOutput,
    ):
        (kind,) = get_args(output.model_fields["type"].annotation)
        for key in set(output.model_fields) - {"type"}:
            assert f"`{key}`" in told[kind], key


@pytest.mark.parametrize("name", list(conformance_tables.TABLES))
def test_the_conformance_statement_s_tables_are_those_of_the_code(name: str) -> None:
    drawn = conformance_tables.drawn_in(page("conformance"))
    assert drawn[name] == conformance_tables.TABLES[name](), (
        "run python -m tests.unit.docs.conformance_tables"
    )


def test_the_conformance_statement_has_every_status_of_the_receiver() -> None:
    codes = {value for name, value in vars(filing).items() if name.isupper() and name[0] != "_"}
    assert {SUCCESS, *codes} == set(conformance_tables.STATUS_MEANINGS)


def test_the_objects_that_are_sent_are_of_the_classes_that_are_named() -> None:
    """The gate lets no other class through."""
    from dicom_node.results import check_tables

    named = set(
        re.findall(r"^\| [^|]+ \| (1\.2\.840\.[\d.]+) \| SCU \|", page("conformance"), re.M)
    )
    assert set(check_tables.TYPE_1) == named - {"1.2.840.10008.1.1"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_link_to_a_file_or_heading_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]*(?:#[^)\s]+)?)\)", path.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        file, _, heading = target.partition("#")
        there = (path.parent / file) if file else path
        assert there.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in slugs, target


def test_every_alert_rule_is_explained_with_its_defaults() -> None:
    table = {row[0]: row for row in rows(page("operate")) if len(row) == 5}
    told = {name: row for first, row in table.items() for name in re.findall(r"`(\w+)`", first)}
    assert set(told) >= set(AlertRule)
    for rule, default in DEFAULTS.items():
        _, _, after, limit, what_to_do = told[rule]
        minutes = f"{default.for_minutes:g} min" if default.for_minutes else "–"
        assert minutes in after, rule
        number = "–" if default.limit is None else f"{default.limit:g} {default.unit.split()[0]}"
        assert limit == number, rule
        assert what_to_do
