"""Writes the JSON Schemas of what programs read: plan, status, summary and log events.

`python -m docs.json_schemas` after a change of one of them; tests compare, and check real output.
Keys of log events come from docs/log-events.md, words and actions from the code.
"""
# ruff: noqa: INP001 - a program in a folder of documents

import json
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from bootstrap.core import actions, topology
from bootstrap.core.findings import FindingCode
from bootstrap.core.slots import SlotSet
from bootstrap.core.verdict import State
from bootstrap.errors import ExitCode, Outcome
from bootstrap.process.summary import SCHEMA_VERSION, Counters

DOCS = Path(__file__).resolve().parent
FOLDER = DOCS / "schemas" / f"v{SCHEMA_VERSION}"
Schema = dict[str, Any]
LINE_CHARS = 110

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SECONDS: Schema = {"type": "number", "minimum": 0}
YES_NO: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}


def record(required: Schema, optional: Schema | None = None, description: str = "") -> Schema:
    """Return the schema of an object; other keys may be added to it in the same version."""
    about = {"description": description} if description else {}
    properties = {**required, **(optional or {})}
    return {**about, "type": "object", "properties": properties, "required": list(required)}


def words(values: Iterable[str]) -> Schema:
    """Return the schema of a word out of several."""
    return {"enum": [str(value) for value in values]}


def many(of: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": of}


def or_null(schema: Schema) -> Schema:
    """Return the schema of a value that may be unknown."""
    return {**schema, "type": [schema["type"], "null"]}


def ref(name: str) -> Schema:
    """Return a reference to a definition of the same document."""
    return {"$ref": f"#/$defs/{name}"}


SLOTS, NODE_ID, CODE = ref("slots"), ref("node_id"), ref("finding_code")


def _action() -> Schema:
    """Return the schema of an action; pod names stand beside the ids of nodes that answered."""
    kinds = {
        int: COUNT,
        bool: YES_NO,
        SlotSet: SLOTS,
        topology.NodeId: NODE_ID,
        FindingCode: CODE,
        actions.FailoverMode: words(actions.FailoverMode),
    }
    of_each = []
    for action in get_args(actions.Action):
        keys = {key: kinds[hint] for key, hint in get_type_hints(action).items()}
        names = {f"{key}_name": TEXT for key, schema in keys.items() if schema is NODE_ID}
        of_each.append(record({"action": {"const": action.__name__}, **keys}, names))
    return {"oneOf": of_each}


HEAD: Schema = {"schema_version": {"const": SCHEMA_VERSION}, "time": TIME}
REASON: Schema = {"phase": TEXT, "cause": TEXT, "remedy": TEXT}
VERDICT: Schema = {"verdict": ref("verdict")}
ABOUT_RUN: Schema = {"run_id": TEXT, "cluster": TEXT, "node": TEXT, **REASON, **VERDICT}
ENDED: Schema = {"outcome": words(Outcome), "exit_code": {"enum": [int(code) for code in ExitCode]}}
COUNTERS: Schema = {
    each.name: SECONDS if each.name.endswith("_s") else COUNT for each in fields(Counters)
}
DEFINITIONS: Schema = {
    "finding_code": words(FindingCode),
    "node_id": {"type": "string", "pattern": "^[0-9a-f]{40}$"},
    "slots": {
        "type": "string",
        "pattern": r"^(\d+(-\d+)?(,\d+(-\d+)?)*)?$",
        "description": "ranges, such as 0-5460,7000; empty for none",
    },
    "stage": {"enum": [*words(actions.Stage)["enum"], None]},
    "verdict": record(
        {
            "state": words(State),
            "severity": words(("ok", "info", "warning", "critical")),
            "reason": TEXT,
            "since": TEXT,
            "next": TEXT,
        },
        description="how bad it is, why, since when (empty if unknown) and what happens next",
    ),
    "action": _action(),
    "finding": record(
        {"code": CODE, "node": TEXT, "detail": TEXT},
        description="node is empty where it concerns the cluster as a whole",
    ),
    "refusal": record({"cause": TEXT, "remedy": TEXT, "node": or_null(TEXT)}),
    "absent": record(
        {
            "name": TEXT,
            "ordinal": {"type": "integer"},
            "phase": words(("dns", "connect", "serve", "command")),
            "cause": TEXT,
            "address": TEXT,
            "remedy": TEXT,
        },
        description="a pod that gave no view; address and remedy may be empty",
    ),
    "reason": record(ENDED, ABOUT_RUN),
    "summary": record({"time": TIME, **ENDED, **COUNTERS}, ABOUT_RUN),
    "failure": record(
        {**HEAD, "healthy": {"const": False}, **ENDED, **REASON},
        {"cluster": TEXT, "node": TEXT, **VERDICT},
        "printed instead where nothing can be shown",
    ),
}
STAGE: Schema = {"stage": ref("stage")}
ACTIONS: Schema = {"actions": many(ref("action"))}
SEEN: Schema = {
    "findings": many(ref("finding")),
    "refusals": many(ref("refusal")),
    "absent": many(ref("absent")),
    "notices": many(ref("finding")),
}
PLAN = record(
    {
        **HEAD,
        "cluster": TEXT,
        "healthy": YES_NO,
        "has_work": YES_NO,
        **STAGE,
        "fingerprint": TEXT,
        **ACTIONS,
        "forecast": many(record({**STAGE, **ACTIONS})),
        "cost": record({"slots": COUNT, "keys": COUNT, "bytes": COUNT}),
        **SEEN,
    },
    {**VERDICT, "blocked": YES_NO},
)
NODE = record(
    {
        "name": TEXT,
        "ordinal": {"type": "integer"},
        "address": TEXT,
        "node_id": NODE_ID,
        "role": words(topology.Role),
        "primary": or_null(TEXT),
        "slots": SLOTS,
        "slot_count": COUNT,
        "keys": COUNT,
        "config_epoch": COUNT,
        "state": words(("ok", "fail")),
        "link_up": YES_NO,
        "zone": TEXT,
        "node": TEXT,
        "engine": TEXT,
        "version": TEXT,
        "used_memory": COUNT,
        "stays": YES_NO,
    }
)
SHARD = record(
    {
        "primary": or_null(TEXT),
        "replicas": many(TEXT),
        "slots": SLOTS,
        "slot_count": COUNT,
        "keys": or_null(COUNT),
    },
    {"number": or_null(COUNT), "primary_id": or_null(TEXT)},
)
STATUS = record(
    {
        **HEAD,
        "cluster": TEXT,
        "healthy": YES_NO,
        "nodes": many(NODE),
        "shards": many(SHARD),
        "slots": record(
            {"owned": COUNT, "total": COUNT, "uncovered": SLOTS, "open": SLOTS}, {"unknown": SLOTS}
        ),
        "shared_domains": many(record({"shard": TEXT, "nodes": many(TEXT)})),
        **SEEN,
    },
    VERDICT,
)
SUMMARY: Schema = {
    **record({**HEAD, **ENDED, **COUNTERS}, ABOUT_RUN),
    "if": {"properties": {"outcome": {"const": Outcome.HEALTHY.value}}},
    "else": {"required": [*REASON]},
}
# Values of log events by their key, where an event has no other schema for it.
KEYS: Schema = {
    **dict.fromkeys(("actions", "keys_moved", "keys_per_s", "nodes", "replicas"), COUNT),
    **dict.fromkeys(("slots_moved", "slots_total"), COUNT),
    **dict.fromkeys(("cluster", "detail", "path", "phase", "stage"), TEXT),
    **dict.fromkeys(("cause", "holder", "node", "reason", "remedy"), or_null(TEXT)),
    **dict.fromkeys(("pods", "variables"), many(TEXT)),
    "code": CODE,
    "findings": many(CODE),
    "kinds": {"type": "object", "additionalProperties": COUNT},
    "left_s": or_null(SECONDS),
    "since": TIME,
    "state": words(State),
    "waited_s": SECONDS,
}
# What the table of log events says of keys that are described elsewhere.
OF = {
    "action": "of the action",
    "summary": "of the summary",
    "reason": "of the summary, without times and counters",
}


def table(text: str, first: str) -> dict[str, list[str]]:
    """Return the rows of a Markdown table by their first cell, without the marks of code."""
    rows = {}
    _, _, below = text.partition(f"| {first} |")
    for line in below.splitlines()[2:]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[cells[0].strip("`")] = cells[1:]
    return rows


def log_event() -> Schema:
    """Return the schema of a log line in JSON: what all have, and one of the events."""
    documented = table((DOCS / "log-events.md").read_text(), "event")
    level = words(("debug", "info", "warning", "error"))
    line = {"event": words(documented), "level": level, "timestamp": TIME}
    each = [_event(name, *row) for name, row in documented.items()]
    return {**record(line, {"cluster": TEXT, "run_id": TEXT}), "oneOf": each}


def _event(name: str, levels: str, keys: str, when: str) -> Schema:
    """Return what lines of one event have."""
    event = {"event": {"const": name}, "level": words(levels.split(", "))}
    if known := next((name for name, told in OF.items() if keys == told), None):
        return {"description": when, "properties": event, **ref(known)}
    properties = {key: KEYS[key] for key in re.findall(r"`(\w+)`", keys)}
    return {"description": when, "properties": event | properties, "required": [*properties]}


def _with_definitions(schema: Schema) -> Schema:
    """Add the definitions that a schema refers to."""
    found: Schema = {}
    while used := set(re.findall(r"#/\$defs/(\w+)", json.dumps([schema, found]))) - found.keys():
        found |= {name: DEFINITIONS[name] for name in DEFINITIONS if name in used}
    return {**schema, "$defs": found} if found else schema


def _text(value: object, indent: str = "") -> str:
    """Return JSON, with what fits into a line on one."""
    line, deeper = json.dumps(value), indent + "  "
    if len(indent) + len(line) < LINE_CHARS or not isinstance(value, dict | list):
        return line
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_text(each, deeper)}" for key, each in value.items()]
    else:
        parts = [_text(each, deeper) for each in value]
    inside = ",\n".join(deeper + part for part in parts)
    return f"{line[0]}\n{inside}\n{indent}{line[-1]}"


def schemas() -> dict[str, str]:
    """Return the text of each schema by the name of its file."""
    documents = {
        "plan": {"anyOf": [PLAN, ref("failure")]},
        "status": {"anyOf": [STATUS, ref("failure")]},
        "summary": SUMMARY,
        "log-event": log_event(),
    }
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    identity = f"urn:redis-cluster-bootstrap:v{SCHEMA_VERSION}:"
    return {
        f"{name}.json": _text(_with_definitions({**head, "$id": identity + name, **each})) + "\n"
        for name, each in documents.items()
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in schemas().items():
        (FOLDER / name).write_text(text)
