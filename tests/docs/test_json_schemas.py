"""The JSON Schemas are those of the code and of the documents."""

import json

import pytest
from jsonschema import Draft202012Validator, ValidationError

from docs import json_schemas
from tests.support import schemas

FAILURE = {
    "schema_version": 1,
    "time": "2026-01-01T00:00:00+00:00",
    "healthy": False,
    "outcome": "settings",
    "exit_code": 2,
    "phase": "settings",
    "cause": "BOOTSTRAP_NODES is required",
    "remedy": "fix the settings and run again",
}
LINE = {"event": "bus.blocked", "level": "warning", "timestamp": "2026-01-01T00:00:00Z"}


def test_schemas_are_generated() -> None:
    """`python -m docs.json_schemas` writes them."""
    assert {path.name: path.read_text() for path in json_schemas.FOLDER.iterdir()} == (
        json_schemas.schemas()
    )


@pytest.mark.parametrize("name", json_schemas.schemas())
def test_a_schema_is_valid(name: str) -> None:
    """A schema is one of the draft that it names, and the documents link to it."""
    Draft202012Validator.check_schema(json.loads(json_schemas.schemas()[name]))
    text = (json_schemas.DOCS / "command-line.md").read_text()
    assert f"](schemas/v1/{name})" in text


@pytest.mark.parametrize("name", ["plan", "status"])
def test_a_failure_is_described(name: str) -> None:
    """What is printed where nothing can be shown has a cause, and nothing unknown."""
    schemas.check(name, FAILURE)
    for wrong in ({**FAILURE, "more": 1}, {**FAILURE, "healthy": True}, FAILURE | {"cause": None}):
        with pytest.raises(ValidationError):
            schemas.check(name, wrong)


def test_a_log_line_has_the_keys_of_its_event() -> None:
    """A line without a key of its event, or with one of another event, is not valid."""
    schemas.check("log-event", {**LINE, "detail": "redis-app-0 and redis-app-1"})
    for wrong in (LINE, {**LINE, "detail": "x", "pods": []}, {**LINE, "detail": 5}):
        with pytest.raises(ValidationError):
            schemas.check("log-event", wrong)


def test_a_failed_run_has_a_cause() -> None:
    """Only the summary of a healthy run has no cause."""
    run = {"schema_version": 1, "time": FAILURE["time"], "exit_code": 0, "outcome": "healthy"}
    run |= dict.fromkeys(json_schemas.COUNTERS, 0)
    schemas.check("summary", run)
    with pytest.raises(ValidationError):
        schemas.check("summary", {**run, "outcome": "refused", "exit_code": 3})
