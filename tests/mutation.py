"""Run mutmut over core and the loop, and compare what survives with survivors.toml.

`python -m tests.mutation` tests every mutant. With patterns of names, such as
`'bootstrap.core.slots.*'`, it tests those alone, and keeps what is known of the others.
"""

import shutil
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import libcst
import mutmut.__main__ as mutmut
from mutmut.configuration import config
from mutmut.mutation import file_mutation
from mutmut.mutation.data import MutantLineSpans, SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.type_checking import run_type_checker
from mutmut.utils.file_utils import change_cwd, walk_mutatable_files
from mutmut.utils.format_utils import get_mutant_name

LEAST_KILLED = 0.95
LIST = Path(__file__).parent / "survivors.toml"
PROPERTIES = {"property", "cached_property"}
SURVIVED = {"survived", "no tests"}

skips = file_mutation.MutationVisitor._skip_node_and_children
arrange = file_mutation.function_trampoline_arrangement


def without_property(node: libcst.CSTNode) -> libcst.CSTNode:
    """Return a property as a plain function, and other nodes as they are."""
    match node:
        case libcst.FunctionDef(decorators=[libcst.Decorator(decorator=libcst.Name(value=kind))]):
            return node.with_changes(decorators=[]) if kind in PROPERTIES else node
    return node


def skips_decorated(visitor: file_mutation.MutationVisitor, node: libcst.CSTNode) -> bool:
    """Return whether mutmut is to leave a node as it is: properties are not among those."""
    return skips(visitor, without_property(node))


def arrange_properties(
    function: libcst.FunctionDef, *mutants: Any, **names: Any
) -> tuple[Sequence[Any], ...]:
    """Arrange the mutants of a function: only what chooses between them is a property."""
    declared, (chooser, *versions), assigned, found = arrange(function, *mutants, **names)
    return declared, [chooser, *map(without_property, versions)], assigned, found


def refused_by_types() -> dict[str, Any]:
    """Return the mutants with type errors; mutmut's own function takes minutes to parse them."""
    with change_cwd("mutants"):
        errors = run_type_checker(config().type_check_command)
    refused = {}
    for path in walk_mutatable_files():
        here = [error for error in errors if error.file_path == Path("mutants", path).absolute()]
        spans = MutantLineSpans.load(path)
        for name, span in spans.span_by_function_name.items() if spans and here else ():
            for error in here:
                if span.start <= error.line_number <= span.end:
                    refused[get_mutant_name(path, name)] = SimpleNamespace(error=error)
    return refused


def statuses() -> dict[str, str]:
    """Return what became of each mutant that was tested, by name."""
    found: dict[str, str] = {}
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        tested = {name: code for name, code in data.exit_code_by_key.items() if code is not None}
        found |= {name: status_by_exit_code[code] for name, code in tested.items()}
    return found


def describe(name: str) -> str:
    """Return function and change of a mutant, without numbers that depend on other lines."""
    lines = get_diff_for_mutant(name).splitlines()[2:]
    old, new = (" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    function = name.partition("__mutmut_")[0].replace(".x_", ".").replace(".xǁ", ".")
    return f"{function.removeprefix('bootstrap.').replace('ǁ', '.')}: {old} → {new}"


def main() -> int:
    """Return 0 when enough mutants were killed and every survivor is listed."""
    patterns = sys.argv[1:]
    if not patterns:
        shutil.rmtree("mutants", ignore_errors=True)
    visitor = file_mutation.MutationVisitor
    with (
        mock.patch.object(visitor, "_skip_node_and_children", skips_decorated),
        mock.patch.object(file_mutation, "function_trampoline_arrangement", arrange_properties),
        mock.patch.object(mutmut, "filter_mutants_with_type_checker", refused_by_types),
    ):
        mutmut.cli(["run", *patterns], standalone_mode=False)
    tested = {name: what for name, what in statuses().items() if what != "caught by type check"}
    survivors = [describe(name) for name, what in tested.items() if what in SURVIVED]
    groups = tomllib.loads(LIST.read_text())["survivors"]
    listed = {each for group in groups for each in group["mutants"]}
    unlisted = sorted(set(survivors) - listed)
    print(*(f"survived and is not listed: {each}" for each in unlisted), sep="\n")
    if not patterns:
        print(*(f"listed but killed: {each}" for each in listed - set(survivors)), sep="\n")
    killed = 1 - len(survivors) / len(tested)
    print(
        f"{len(tested)} mutants that mypy accepts: {killed:.1%} killed, {len(survivors)} survived"
    )
    return 0 if killed >= LEAST_KILLED and not unlisted else 1


if __name__ == "__main__":
    sys.exit(main())
