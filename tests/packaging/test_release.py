"""`make release` in a clone, and what can be done with the tag that it makes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.rendering import (
    KUBECTL,
    ROOT,
    Rendered,
    load_all,
    only,
    pod_of,
    render,
    settings_of,
)
from tests.support.repository import git, tagged

OWNER, VERSION = "Some-Body", "9.8.7"
IMAGE = "ghcr.io/some-body/redis-cluster-bootstrap"  # names of images have no capitals
DIGEST = f"sha256:{'5' * 64}"
CHANGE = "## [Unreleased]\n\n### Fixed\n\n- Something.\n"


def release(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script of a repository."""
    return subprocess.run(
        [sys.executable, "scripts/release", *arguments],
        cwd=repository, capture_output=True, text=True, check=False,
    )  # fmt: skip


def clone(repository: Path, folder: Path) -> Path:
    """Clone a repository, so that a test may change it."""
    git(folder, "clone", "--quiet", str(repository), "clone")
    for key in ("name", "email"):
        git(folder / "clone", "config", f"user.{key}", "tests@example.com")
    return folder / "clone"


def write_changes(repository: Path, text: str) -> None:
    """Write the section Unreleased, and commit it."""
    path = repository / "CHANGELOG.md"
    path.write_text(
        re.sub(
            r"## \[Unreleased\]\n.*?(?=^## )", lambda _: f"{text}\n", path.read_text(),
            flags=re.MULTILINE | re.DOTALL,
        )
    )  # fmt: skip
    git(repository, "commit", "--quiet", "--all", "--allow-empty", "--message", "Changes")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository with one entry that no version has."""
    folder = tagged(tmp_path_factory.mktemp("source"))
    write_changes(folder, CHANGE)
    return folder


@pytest.fixture(scope="module")
def released(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which a release was prepared."""
    folder = clone(source, tmp_path_factory.mktemp("released"))
    done = release(folder, "prepare", OWNER, VERSION)
    assert done.returncode == 0, done.stderr
    assert f"git push origin HEAD v{VERSION}" in done.stdout
    return folder


def search(repository: Path, pattern: str, *places: str) -> str:
    """Return the lines of a repository that match."""
    return subprocess.run(
        ["git", "grep", "-nE", pattern, "--", *places],
        cwd=repository, capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip


def images_of(objects: Rendered) -> set[str]:
    """Return how the pods and the settings name the image of the program."""
    found = {settings_of(objects)["JOB_IMAGE"]}
    for kind in ("Job", "Deployment"):
        containers = pod_of(only(objects, kind, "redis-bootstrap"))["spec"]["containers"]
        found.add(containers[0]["image"])
    return found


def test_places_agree_here() -> None:
    """Package, manifests and documents of this repository name one owner, image and version."""
    done = release(ROOT, "check")
    assert (done.returncode, done.stderr) == (0, "")


def test_release_agrees_with_its_tag_and_owner(released: Path) -> None:
    """The comparison that the workflow makes passes on the tag, and prints what the image is."""
    done = release(released, "check", "--tag", f"v{VERSION}", "--owner", OWNER)
    assert (done.stdout, done.stderr) == (f"version={VERSION}\nimage={IMAGE}\n", "")
    assert release(released, "image").stdout == f"{IMAGE}:{VERSION}\n"
    assert git(released, "status", "--porcelain") == ""
    assert git(released, "tag", "--points-at", "HEAD").split() == [f"v{VERSION}"]


def test_documents_of_a_release_name_its_owner(released: Path) -> None:
    """No document of a release has a placeholder, but for the one that explains it."""
    found = git(released, "grep", "--name-only", "OWNER", "--", "*.md", "*.toml", "manifests")
    assert found.split() == ["CONTRIBUTING.md", "SECURITY.md"]
    local = r"(^|[^/])\bredis-cluster-bootstrap:[0-9]+\.[0-9]"
    places = ("*.md", "manifests", ":!CHANGELOG.md")
    assert not search(released, local, *places)
    readme = (released / "README.md").read_text()
    assert f"github.com/{OWNER}/redis-cluster-bootstrap//manifests?ref=v{VERSION}" in readme
    assert f"--name redis {IMAGE}:{VERSION}\n" in readme
    done = subprocess.run([sys.executable, "-m", "docs.translations"], cwd=released, check=False)
    assert done.returncode == 0


def test_overlays_of_the_documents_change_the_image_of_a_release(released: Path) -> None:
    """An overlay that names another registry does so for the image that a release names."""
    text = (released / "docs/kubernetes.md").read_text()
    block = next(b for b in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "newName" in b)
    folder = released / "mine"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(block)
    names = {f"registry.example.com/redis-cluster-bootstrap{tag}" for tag in ("", f":{VERSION}")}
    assert images_of(render(folder)) <= names
    (folder / "kustomization.yaml").unlink()


def test_notes_are_the_section_of_the_changelog(released: Path) -> None:
    """The notes of a release are the entries that were under Unreleased."""
    assert release(released, "notes").stdout == "### Fixed\n\n- Something.\n"


@pytest.mark.parametrize("folder", ["manifests", "manifests/overlays/production"])
def test_tag_of_a_remote_is_applied_without_a_clone(released: Path, folder: str) -> None:
    """Kubectl renders a tag of a git repository, with the image of that release."""
    address = f"file://{released}//{folder}?ref=v{VERSION}"
    done = subprocess.run([*KUBECTL, address], capture_output=True, text=True, check=True)
    assert all(one.startswith(f"{IMAGE}:{VERSION}") for one in images_of(load_all(done.stdout)))


def test_overlay_on_a_remote_tag_names_size_and_components(released: Path, tmp_path: Path) -> None:
    """An overlay builds on a tag of a git repository as it does on a folder."""
    lines = {
        "resources": [f"file://{released}//manifests?ref=v{VERSION}"],
        "components": [f"file://{released}//manifests/components/nodeport?ref=v{VERSION}"],
        "replicas": [{"name": "redis-app", "count": 8}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(lines))
    objects = render(tmp_path)
    assert settings_of(objects)["BOOTSTRAP_NODES"] == "8"
    assert only(objects, "Service", "redis-access")["spec"]["type"] == "NodePort"


def test_objects_of_a_release_name_the_image_by_its_digest(released: Path) -> None:
    """The file that a release carries has all objects, and the digest in place of the tag."""
    done = release(released, "install", DIGEST)
    assert done.returncode == 0, done.stderr
    objects = load_all(done.stdout)
    assert images_of(objects) == {f"{IMAGE}@{DIGEST}"}
    assert [one["kind"] for one in objects] == [
        one["kind"] for one in render(released / "manifests")
    ]
    assert release(released, "install", "latest").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--tag", "v1.0.0"], "the tag is v1.0.0"),
        (["--owner", "somebody-else"], "not ghcr.io/somebody-else/redis-cluster-bootstrap"),
    ],
)
def test_wrong_tag_or_owner_is_reported(released: Path, arguments: list[str], fault: str) -> None:
    """The workflow of a fork, or of a tag that was made by hand, stops before it builds."""
    done = release(released, "check", *arguments)
    assert done.returncode == 1
    assert fault in done.stderr


def test_document_with_another_version_is_reported(released: Path, tmp_path: Path) -> None:
    """A document that names another version than the package fails the comparison."""
    folder = clone(released, tmp_path)
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace(f"?ref=v{VERSION}", "?ref=v1.0.0"))
    done = release(folder, "check")
    assert done.stderr.startswith("README.md names another")


def test_next_release_changes_the_version_only(released: Path, tmp_path: Path) -> None:
    """The second release of an owner has the same image with another tag."""
    folder = clone(released, tmp_path)
    write_changes(folder, CHANGE)
    assert release(folder, "prepare", OWNER, "9.9.0").returncode == 0
    assert release(folder, "image").stdout == f"{IMAGE}:9.9.0\n"
    assert VERSION not in "".join(
        (folder / name).read_text() for name in ("README.md", "docs/kubernetes.md")
    )


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["", "1.2.3"], "name the account"),
        ([OWNER, "next"], "no version"),
        ([OWNER, VERSION], "exists already"),
    ],
)
def test_release_that_cannot_be_made_changes_nothing(
    released: Path, arguments: list[str], fault: str
) -> None:
    """Without an owner, or with a version that exists, nothing is written."""
    done = release(released, "prepare", *arguments)
    assert done.returncode == 1
    assert fault in done.stderr
    assert git(released, "status", "--porcelain") == ""


def test_entries_without_a_version_are_not_released(source: Path, tmp_path: Path) -> None:
    """A version that has its section is not released with other entries under Unreleased."""
    folder = clone(source, tmp_path)
    present = release(folder, "image").stdout.strip().rpartition(":")[2]
    done = release(folder, "prepare", OWNER, present)
    assert "entries under [Unreleased]" in done.stderr
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "tag") == ""


def test_workflow_uses_the_script() -> None:
    """The release workflow compares, renders and writes notes with the script of `make release`."""
    text = (ROOT / ".github/workflows/release.yaml").read_text()
    assert set(re.findall(r"scripts/release (\w+)", text)) == {"check", "install", "notes"}
