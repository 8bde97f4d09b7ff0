"""Bad input ends in one sentence with cause and remedy, and changes nothing."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from bootstrap.sandbox.binary import ServerBinary
from tests.support import rig
from tests.support.bad_input import CASES, Case, Stage
from tests.support.evidence import untouched

# No retry fixes the other codes; a connection that is cut may hide the reason once or twice.
MOST_PASSES = 10


@pytest.mark.redis
@pytest.mark.parametrize("case", [pytest.param(c, id=c.given, marks=c.marks) for c in CASES])
def test_bad_input(
    case: Case,
    server: ServerBinary,
    tls_server: ServerBinary | None,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Exit code, outcome, names in the cause and an untouched cluster are those of the table."""

    def with_tls() -> ServerBinary:
        return tls_server or pytest.skip("no installed server speaks TLS")

    with ExitStack() as resources:
        given = case.build(
            Stage(server=server, tls_server=with_tls, tmp_path=tmp_path, resources=resources)
        )
        with untouched(given.pods, moves_by_itself=given.restless):
            result = rig.run(given.variables, tmp_path=tmp_path)
        assert result.code == case.code, result.stderr
        last = result.last
        assert (last["outcome"], last["exit_code"]) == (case.outcome, case.code)
        assert all(name in str(last["cause"]) for name in given.names), last["cause"]
        assert last["remedy"]
        assert "Traceback" not in result.stderr
        assert json.loads(result.message)["cause"] == last["cause"]
        assert case.code == 5 or int(str(last["passes"])) <= MOST_PASSES
    sentence = f"{last['cause']}; {last['remedy']}".replace(str(tmp_path), "/secrets")
    record_property("bad_input", [CASES.index(case), case.given, case.code, sentence])
