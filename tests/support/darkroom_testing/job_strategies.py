"""Generates specs for property tests: of the schema, of the models, damaged, and close to each rule."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Node = dict[str, Any]
"""A node of a schema, or of a job file."""
FieldPath = tuple[str, ...]
Strategy = st.SearchStrategy[Any]

COMMIT = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
OUTPUTS = st.sampled_from(["pvc://models", "file:models", "s3://bucket/a/b", "gs://b.c-d/x/"])
CONSENTS = st.fixed_dictionaries(
    {
        "recordRef": st.fixed_dictionaries({"name": st.just("consent-ada")}),
        "expires": st.datetimes().map(lambda time: f"2{time:%y}0-{time:%m-%dT%H:%M:%SZ}"),
    }
)
JUNK = st.sampled_from(
    [None, True, False, 0, -1, 1, 7, 2**31, 2**63, 10**30, 0.5, 1.0, 1e300, "", "x", "1", "1.0",
     "0", "5e-6", "1e1", "-1", "nan", "Infinity", "0x1", "rex\n", " rex", "é", "None", "CPU",
     "Person", "FP16", "dog", "2027-02-30T00:00:00Z", "2027-06-30T00:00:00Z", "2027-06-30T24:00:00Z",
     [], [None], ["a"], ["a"] * 17, {}, {"uri": "file:a"}, {"name": "a"}]
)  # fmt: skip
WORDS = st.sampled_from(["uri", "configMap", "extra", "name", "maxSteps", "status"])


SHORT_LIST = 3
"""Items that differ from each other: more of them make examples slow, and show no more."""

# Values on both sides of every rule over several fields, and of the forms of decimals.
DECIMALS = st.sampled_from(
    ["0", "0.99", "1", "1.01", "30", "30.1", "100", "100.1", "1e2", "5e-6", "0e1"]
)
DECIMALS |= st.sampled_from(["", "-1", ".5", "1.", "1e", "1e100", "+1", "1,0", "nan", "0x1", " 1"])
NEAR_RULES = {
    "subject": {
        "kind": st.sampled_from(["Person", "Animal"]),
        "identifier": st.sampled_from(["dog", "sks"]),
        "classNoun": st.sampled_from(["dog", "sks"]),
        "images": st.sampled_from([{}, {"uri": "file:a"}, {"configMap": "a"}])
        | st.just({"uri": "file:a", "configMap": "a"}),
    },
    "training": {
        "learningRate": DECIMALS,
        "method": st.sampled_from(["Full", "LoRA", "TextualInversion"]),
        "optimizer": st.sampled_from(["AdamW", "AdamW8bit", "Prodigy"]),
        "textEncoderStopStep": st.just(5),
        "trainTextEncoder": st.booleans(),
        "lora": st.just({}),
        "newTokens": st.fixed_dictionaries({}, optional={"learningRate": DECIMALS}),
        "ema": st.fixed_dictionaries({}, optional={"decay": DECIMALS}),
    },
    "priorPreservation": {
        "weight": st.sampled_from(["0", "100", "100.1", "1e2", "1e3", "-1"]),
        "guidanceScale": st.sampled_from(["0.99", "1", "30", "30.1"]) | DECIMALS,
    },
    "scale": {
        "gpusPerWorker": st.sampled_from([0, 1]),
        "precision": st.sampled_from(["FP16", "BF16", "FP32"]),
        "zeroStage": st.sampled_from([0, 1, 3]),
        "offload": st.sampled_from(["None", "CPU"]),
    },
}


def node_values(schema: Node) -> Strategy:
    """Valid values of a schema's node, and values right beside its bounds."""
    if "enum" in schema:
        return st.sampled_from([*schema["enum"], schema["enum"][0].lower()])
    if schema["type"] == "integer":
        low, high = schema["minimum"], schema["maximum"]
        return st.sampled_from([low - 1, low, high, high + 1]) | st.integers(low, high)
    if schema["type"] == "boolean":
        return st.booleans()
    if schema["type"] == "array":
        return lists(node_values(schema["items"]), schema["maxItems"])
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    if schema["type"] == "string":
        limit = schema["maxLength"]
        return st.text(max_size=20) | st.sampled_from(["x" * limit, "x" * (limit + 1), "é" * limit])
    return objects(schema)


def lists(items: Strategy, limit: int) -> Strategy:
    """Short lists, and lists of one item that are as long as may be or longer by one."""
    repeated = st.builds(lambda item, number: [item] * number, items, st.integers(limit, limit + 1))
    return st.lists(items, max_size=min(limit, SHORT_LIST)) | repeated


def objects(schema: Node) -> Strategy:
    """Objects with the required and any of the optional fields."""
    fields = {name: node_values(inner) for name, inner in schema["properties"].items()}
    required = set(schema.get("required", []))
    return st.fixed_dictionaries(
        {name: value for name, value in fields.items() if name in required},
        optional={name: value for name, value in fields.items() if name not in required},
    )


def paths(schema: Node, path: FieldPath = ()) -> Iterator[tuple[FieldPath, Strategy]]:
    """Paths of all fields below a schema, with their values."""
    for name, inner in schema.get("properties", {}).items():
        yield (*path, name), node_values(inner)
        yield from paths(inner, (*path, name))


@st.composite
def valid_specs(draw: st.DrawFn) -> Node:
    """Specs that hold all rules."""
    person = draw(st.booleans())
    gpu = draw(st.booleans())
    images = st.sampled_from(
        [{"uri": "builtin:mascot"}, {"configMap": "rex"}, {"uri": "pvc://a/b"}]
    )
    subject: Node = {
        "kind": "Person" if person else draw(st.sampled_from(["Object", "Animal", "Style"])),
        "identifier": draw(st.sampled_from(["sks", "<zwx1>"])),
        "classNoun": draw(st.sampled_from(["dog", "teddy bear", "child's toy"])),
        "images": draw(images),
    }
    if person:
        subject["consent"] = {"recordRef": {"name": "ada"}, "expires": "2027-06-30T00:00:00Z"}
    spec: Node = {
        "baseModel": {"uri": draw(st.sampled_from(["builtin:miniature", f"hf://o/n@{COMMIT}"]))},
        "subject": subject,
        "output": {"uri": draw(OUTPUTS)},
        "scale": {
            "gpusPerWorker": int(gpu),
            "precision": draw(
                st.sampled_from(["FP16", "BF16", "FP32"] if gpu else ["BF16", "FP32"])
            ),
        },
    }
    if draw(st.booleans()):
        spec["training"] = {"maxSteps": draw(st.integers(1, 1_000_000))}
    if draw(st.booleans()):
        spec["validation"] = {"prompts": draw(st.lists(st.just("a dog"), min_size=1, max_size=3))}
    if draw(st.booleans()):
        spec["runPolicy"] = {"suspend": draw(st.booleans())}
    return spec


def damaged(draw: st.DrawFn, spec: Node, places: list[tuple[FieldPath, Strategy]]) -> None:
    """The spec with one field replaced, removed, or added."""
    path, values = draw(st.sampled_from(places))
    parent: Any = spec
    for name in path[:-1]:
        parent = parent.setdefault(name, {}) if isinstance(parent, dict) else None
    if not isinstance(parent, dict):
        return
    kind = draw(st.sampled_from(["set", "set", "junk", "remove", "add"]))
    if kind == "set":
        parent[path[-1]] = draw(values)
    elif kind == "junk":
        parent[path[-1]] = copy.deepcopy(draw(JUNK))
    elif kind == "remove":
        parent.pop(path[-1], None)
    else:
        parent[draw(WORDS)] = copy.deepcopy(draw(JUNK))
