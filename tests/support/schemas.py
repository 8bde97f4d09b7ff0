"""The JSON Schemas of docs/schemas, stricter than they are shipped: no key is left undescribed."""

import json
from pathlib import Path
from typing import cast

from jsonschema import Draft202012Validator

FOLDER = Path(__file__).resolve().parents[2] / "docs/schemas/v1"


def _closed(schema: object) -> object:
    """Forbid keys that objects do not describe."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(each) for key, each in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed["additionalProperties"] = False
    return closed


def _strict(name: str) -> Draft202012Validator:
    schema = json.loads((FOLDER / f"{name}.json").read_text())
    # The parts of a log line are described in two places, of which neither knows all keys.
    is_split = name == "log-event"
    return Draft202012Validator(
        {**schema, "unevaluatedProperties": False}
        if is_split
        else cast("dict[str, object]", _closed(schema)),
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )


_VALIDATORS = {name: _strict(name) for name in ("plan", "status", "summary", "log-event")}


def check(name: str, document: object) -> None:
    """Raise the most telling error of a document; see `jsonschema.ValidationError`."""
    _VALIDATORS[name].validate(document)
