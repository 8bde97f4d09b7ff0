"""compose.yaml is the demo for machines without Linux: what it says fits together."""

import re
import shlex
from typing import Any

import pytest
import yaml

from bootstrap import settings, settings_checks
from tests.support.rig import ROOT

TEXT = (ROOT / "compose.yaml").read_text()
CONF = (ROOT / "manifests/base/redis.conf").read_text()


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(TEXT)["services"]
    return found


def directives(service: dict[str, Any]) -> dict[str, str]:
    """Return what the server is started with."""
    words = shlex.split(service["command"])[1:]
    return {
        flag.removeprefix("--"): value for flag, value in zip(words[::2], words[1::2], strict=True)
    }


def started(services: dict[str, Any], profile: str | None = None) -> list[str]:
    """Return the servers that `up` starts."""
    names = [name for name in services if name.startswith("redis-")]
    return [name for name in names if services[name].get("profiles", [None]) == [profile]]


def endpoints(variables: dict[str, str]) -> list[str]:
    """Return the hosts as the program reads them."""
    loaded = settings_checks.load(settings.texts(variables))
    return [host for host, _ in loaded.endpoints]


def test_endpoints_are_the_servers(services: dict[str, Any]) -> None:
    """The program gets its nodes from BOOTSTRAP_ENDPOINTS, and waits for none that is not there."""
    bootstrap = services["bootstrap"]
    variables = bootstrap["environment"]
    assert variables.keys() <= settings.VARIABLES
    assert endpoints(variables) == started(services)
    assert len(started(services)) == 6
    assert bootstrap["build"] == "."
    assert "depends_on" not in bootstrap


def test_grown_endpoints_are_those_of_the_profile(services: dict[str, Any]) -> None:
    """The command that grows names the servers of the profile as well."""
    grown = re.search(r"--env (BOOTSTRAP_ENDPOINTS)=(\S+)", TEXT)
    assert grown is not None
    variables = {**services["bootstrap"]["environment"], grown[1]: grown[2]}
    assert endpoints(variables) == started(services) + started(services, "grown")


def test_servers_are_configured_as_in_the_manifests(services: dict[str, Any]) -> None:
    """Each directive that redis.conf of the manifests has too has the same value."""
    known = dict(re.findall(r"^([a-z-]+) (.+)$", CONF, re.MULTILINE))
    for name in started(services) + started(services, "grown"):
        given = directives(services[name])
        assert given["cluster-enabled"] == "yes"
        assert given.items() <= {key: value.strip('"') for key, value in known.items()}.items()


def test_commands_name_services_and_profiles(services: dict[str, Any]) -> None:
    """What the comment shows exists."""
    assert set(re.findall(r"\bredis-\d+\b|\bbootstrap\b", TEXT)) <= services.keys()
    assert set(re.findall(r"--profile (\S+)", TEXT)) == {"grown"}
