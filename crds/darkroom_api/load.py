"""Reads job files: YAML to a `PersonalizationJob`, or every problem with its field and its fix."""

import json
import math
import re
from collections.abc import Hashable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from darkroom_api.job import PersonalizationJob
from darkroom_api.problems import Problem, kind_of, problems_of
from darkroom_api.words import counted

MAX_FILE_BYTES: Final = 1 << 20
"""Kubernetes refuses larger objects; a job file has some thousand bytes."""

MAX_VALUES: Final = 100_000
"""Most values of a document; a job has some hundred."""


class JobFileError(ValueError):
    """A job file that can't be used; says all that is wrong with it, one problem a line."""

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(source, problems)  # both, so that it survives pickling
        self.source = source
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(f"{self.source}: {problem}" for problem in self.problems)


_YAML: Final = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: dates stay strings, 5e-6 is a number, and no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _at(key_node, "a key must be a word")
            if key_node.value in seen:
                raise _at(key_node, f"the key {key_node.value!r} stands twice")
            seen.add(key_node.value)
            if key_node.tag != f"{_YAML}merge":
                key_node.tag = f"{_YAML}str"  # a field called `on` is not one called `true`
        return super().construct_mapping(node, deep=deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError, AttributeError) as error:  # of `!!int rex` and the like
            raise _at(node, f"this is no {node.tag.rpartition(':')[2]}") from error

    def construct_document(self, node: yaml.Node) -> Any:
        if _expanded(node, {}) > MAX_VALUES:
            raise _at(node, f"its aliases stand for more than {MAX_VALUES} values")
        return super().construct_document(node)


def _expanded(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Values that a node stands for when each alias is written out; few lines can mean billions."""
    if id(node) not in sizes:
        sizes[id(node)] = 1  # what a node that contains itself finds
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        items = node.value if isinstance(node, yaml.SequenceNode) else chain.from_iterable(pairs)
        sizes[id(node)] += sum(_expanded(item, sizes) for item in items)
    return sizes[id(node)]


def _at(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


_NOT_OURS = (f"{_YAML}timestamp", f"{_YAML}float", f"{_YAML}int")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NOT_OURS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# The numbers of go-yaml, which kubectl uses. PyYAML takes 5e-6 for text and 1:30 for 90.
_Loader.add_implicit_resolver(
    f"{_YAML}int",
    re.compile(r"^[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    f"{_YAML}float",
    re.compile(
        r"^([-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def load_job(path: Path) -> PersonalizationJob:
    """Reads a job file.

    Raises JobFileError with every problem found.
    """
    value, root = _read_document(path)
    return _parse(value, str(path), root)


def parse_job(value: object, source: str = "job") -> PersonalizationJob:
    """Checks a job that was read already, for example from a Kubernetes API.

    Raises JobFileError with every problem found; `source` stands before each.
    """
    return _parse(value, source, None)


def _parse(value: object, source: str, root: yaml.Node | None) -> PersonalizationJob:
    """Checks a job; `root` is what it was made of, where there is a file to quote."""
    if not isinstance(value, dict):
        raise _whole_file(source, f"is {kind_of(value)}, not a mapping", "start with apiVersion")
    try:
        # JSON mode: the models are strict, and JSON is what the apiserver would see.
        text = json.dumps(_as_stored(value))
    except (TypeError, ValueError, RecursionError) as error:
        why = "it contains itself" if isinstance(error, RecursionError) else str(error)
        message = f"has no JSON form: {why}"
        raise _whole_file(source, message, "use text, numbers and lists") from error
    try:
        return PersonalizationJob.model_validate_json(text)
    except ValidationError as error:
        details = error.errors(include_url=False)
        found = tuple(
            problem for one in details for problem in problems_of(one, _written(root, one["loc"]))
        )
        raise JobFileError(source, found) from None


def _written(root: yaml.Node | None, path: Sequence[int | str]) -> str | None:
    """What stands in the file at a path, such as the `no` that YAML reads as false; None for no scalar."""
    node = root
    for part in path:
        if isinstance(node, yaml.MappingNode):
            # Where a merged key is written again, the last one counts.
            values = [value for key, value in node.value if key.value == part]
            node = values[-1] if values else None
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
        else:
            return None
    return str(node.value) if isinstance(node, yaml.ScalarNode) else None


def _as_stored(value: Any) -> Any:
    """What kubectl and the apiserver make of a value: an empty field is absent, 800.0 is 800."""
    if isinstance(value, dict):
        return {name: _as_stored(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_as_stored(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read_document(path: Path) -> tuple[object, yaml.Node]:
    """The one document of a file, and the nodes that it was made of."""
    source = str(path)
    text = _read_text(path, source)
    try:
        documents = [found for found in _documents(text) if found[0] is not None]
    except (yaml.YAMLError, RecursionError) as error:
        why = _yaml_message(error)
        raise _whole_file(source, why, "mind the indentation and quotes") from error
    if len(documents) != 1:
        fix = "put each job into its own file" if documents else "write one with: darkroom init"
        raise _whole_file(source, f"holds {counted(len(documents), 'document')}, not one", fix)
    return documents[0]


def _documents(text: str) -> Iterator[tuple[object, yaml.Node]]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None
            yield loader.construct_document(node), node
    finally:
        loader.dispose()


def _read_text(path: Path, source: str) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _whole_file(source, "is larger than 1 MiB", "is this a job file?")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        fix = "write one with: darkroom init"
        if not path.parent.is_dir():
            fix = f"there is no folder {path.parent}: was it moved or removed?"
        raise _whole_file(source, "does not exist", fix) from None
    except OSError as error:
        why = f"can't be read: {error.strerror}"
        raise _whole_file(source, why, "check path and rights") from error
    except UnicodeDecodeError as error:
        raise _whole_file(source, "is not UTF-8 text", "save it as UTF-8") from error


def _yaml_message(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "broken YAML: it is nested too deeply"
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or getattr(error, "reason", None)
    where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"broken YAML{where}: {what}"


def _whole_file(source: str, message: str, fix: str) -> JobFileError:
    return JobFileError(source, (Problem("", message, fix),))
