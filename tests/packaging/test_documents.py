"""Every YAML block in the documents is what it says: it renders, or the API accepts it."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from bootstrap import __version__
from tests.support.rendering import (
    KUBECTL,
    MANIFESTS,
    ROOT,
    Object,
    Render,
    Rendered,
    only,
    pod_of,
    render,
)
from tests.support.repository import tagged

kubernetes_validate = pytest.importorskip("kubernetes_validate")

DOCUMENTS = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    (f"{path.relative_to(ROOT)}-{number}", block)
    for path in DOCUMENTS
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL))
]
KUSTOMIZATIONS = [pair for pair in BLOCKS if "kind: Kustomization" in pair[1]]
OTHERS = [pair for pair in BLOCKS if pair not in KUSTOMIZATIONS]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with the manifests, and the tag of a release."""
    return tagged(tmp_path_factory.mktemp("remote"), f"v{__version__}")


def check(folder: Path, block: str, program: Sequence[str], repository: Path) -> None:
    """Write the block beside the manifests with the files that the documents make, and render."""
    block = re.sub(r"https://github\.com/[\w.-]+/[\w.-]+//", f"file://{repository}//", block)
    lines: Object = yaml.safe_load(block)
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(block)
    for file in (one for one in lines["resources"] if one.endswith(".yaml")):
        shutil.copy(folder.parent / file, folder)
    objects = render(folder, program)
    assert {one["kind"] for one in objects} >= {"Job", "ConfigMap"}
    for one in objects:
        kubernetes_validate.validate(one, "1.36", strict=True)


@pytest.fixture
def folder(beside_manifests: Path, tmp_path: Path) -> Path:
    """A folder for an overlay, with the Services beside it that the documented line makes."""
    text = (ROOT / "docs/kubernetes.md").read_text()
    line = next(
        block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "redis-app-0" in block
    )
    subprocess.run(["sh", "-c", line], cwd=beside_manifests, check=True)
    return beside_manifests / tmp_path.name


@pytest.mark.parametrize(
    "block", [b for _, b in KUSTOMIZATIONS], ids=[n for n, _ in KUSTOMIZATIONS]
)
def test_kustomization_renders(folder: Path, block: str, repository: Path) -> None:
    """Each kustomization of the repository renders."""
    check(folder, block, KUBECTL, repository)


def test_kustomizations_render_in_other_versions(
    folder: Path, other_kustomize: Sequence[str], repository: Path
) -> None:
    """Other versions of kustomize give the same objects."""
    for name, block in KUSTOMIZATIONS:
        check(
            folder.with_name(f"{folder.name}-{name.replace('/', '-')}"),
            block,
            other_kustomize,
            repository,
        )


@pytest.mark.parametrize("block", [b for _, b in OTHERS], ids=[n for n, _ in OTHERS])
def test_other_block_is_valid(block: str) -> None:
    """An object, or a part of a pod."""
    one: Object = yaml.safe_load(block)
    if one.get("apiVersion", "").startswith("cert-manager.io"):  # its schema is not Kubernetes'
        assert one["spec"]["secretName"] == "redis-tls"
        return
    if "apiVersion" not in one:
        main = [{"name": "main", "image": "example"}]
        one = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "example"},
            "spec": {"containers": main, **one},
        }
    kubernetes_validate.validate(one, "1.36", strict=True)


def test_no_document_prunes_by_label() -> None:
    """`--prune` deletes what other kustomizations with the label have made."""
    for path in DOCUMENTS:
        assert not re.search(r"kubectl[^`]*--prune", path.read_text()), path


def labelled(objects: Rendered) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each object that is applied or that Kubernetes makes from it, with its labels."""
    for one in objects:
        name = f"{one['kind']}/{one['metadata']['name']}"
        yield name, one["metadata"]["labels"]
        if one["kind"] in ("StatefulSet", "Deployment", "Job"):
            yield f"pod of {name}", pod_of(one)["metadata"]["labels"]
        if one["kind"] == "StatefulSet":  # its claims get the labels of its selector
            yield f"claim of {name}", one["spec"]["selector"]["matchLabels"]


def selectors() -> list[tuple[str, str]]:
    """Return each label selector of a kubectl command in the documents and in comments."""
    files = [*DOCUMENTS, *sorted(MANIFESTS.rglob("*.yaml"))]
    pattern = r"kubectl [^`\n]*?(?:-l|--selector)[ =]'?([\w./=,-]+)"
    return [
        (str(path.relative_to(ROOT)), selector)
        for path in files
        for selector in re.findall(pattern, path.read_text())
    ]


def test_documented_selectors_find_objects_of_their_cluster_only(overlay: Render) -> None:
    """What is listed, read or deleted by label is no part of another cluster or of `single`."""
    everything = [f"../manifests/components/{c}" for c in ("auth", "metrics", "monitoring", "tls")]
    one = overlay(resources="../manifests", components=everything)
    others = [
        render(MANIFESTS / "components/single"),
        overlay(resources="../manifests", components=everything, namePrefix="eu-"),
        overlay(resources="../manifests", components=everything, nameSuffix="-eu"),
    ]
    found = selectors()
    assert len(found) >= 15
    for path, selector in found:
        wanted = dict(pair.split("=") for pair in selector.split(",")).items()
        if ("app.kubernetes.io/instance", "shop") in wanted:  # a release of Bitnami's chart
            continue
        assert any(wanted <= labels.items() for _, labels in labelled(one)), (path, selector)
        for objects in others:
            hit = [name for name, labels in labelled(objects) if wanted <= labels.items()]
            assert not hit, (path, selector)


@pytest.mark.parametrize("base", ["../manifests", "../manifests/overlays/production"])
def test_documented_patches_reach_the_pods(overlay: Render, base: str) -> None:
    """Each patch changes what it says, on both bases, and leaves the rest as it is."""
    blocks = [yaml.safe_load(b) for n, b in KUSTOMIZATIONS if n.startswith("docs/kubernetes.md")]
    patches, no_storage = (b for b in blocks if "volumeClaimTemplates" in str(b.get("patches")))
    before = overlay(resources=base)
    after = overlay(resources=base, **{k: patches[k] for k in ("configMapGenerator", "patches")})
    assert only(before, "Job")["metadata"]["name"] != only(after, "Job")["metadata"]["name"]
    for one in (o for o in after if o["kind"] in ("StatefulSet", "Job", "Deployment")):
        assert pod_of(one)["spec"]["imagePullSecrets"] == [{"name": "registry"}]
        assert pod_of(one)["spec"]["nodeSelector"] == {"pool": "redis"}
    was, found = only(before, "StatefulSet")["spec"], only(after, "StatefulSet")["spec"]
    claim = found["volumeClaimTemplates"][0]["spec"]
    assert claim["storageClassName"] == "fast"
    assert claim["resources"] == {"requests": {"storage": "20Gi"}}
    was, found = was["template"]["spec"], found["template"]["spec"]
    names = [c["name"] for c in found["containers"]]
    assert sorted(names) == sorted(c["name"] for c in was["containers"])
    memory = found["containers"][names.index("redis")]["resources"]
    assert memory["requests"]["memory"] == memory["limits"]["memory"] == "4Gi"
    zone = "topology.kubernetes.io/zone"
    spread = was["topologySpreadConstraints"]
    strict = {**next(c for c in spread if c["topologyKey"] == zone),
              "whenUnsatisfiable": "DoNotSchedule"}  # fmt: skip
    assert found["topologySpreadConstraints"] == [strict, *spread]
    cache = only(overlay(resources=base, patches=no_storage["patches"]), "StatefulSet")["spec"]
    assert "volumeClaimTemplates" not in cache
    volume = {"name": "redis-data", "emptyDir": {"sizeLimit": "2Gi"}}
    assert volume in cache["template"]["spec"]["volumes"]


def test_job_alone_takes_twelve_lines() -> None:
    """The overlay for a StatefulSet of somebody else has at most twelve lines."""
    blocks = {name: block for name, block in KUSTOMIZATIONS if "components/job-only" in block}
    documents = {name.rpartition("-")[0] for name in blocks}
    assert documents >= {
        "docs/kubernetes.md",
        "docs/runbooks/toolbox.md",
        "docs/runbooks/bitnami.md",
    }
    assert all(len(block.splitlines()) <= 12 for block in blocks.values())


def test_services_of_external_members_are_what_the_line_makes(folder: Path) -> None:
    """The six files of the component, and the documented line, follow one pattern."""
    component = folder.parent / "manifests/components/external-nodeport"
    first = (component / "redis-app-0.yaml").read_text()
    made = {n: component / f"redis-app-{n}.yaml" for n in range(6)}
    made |= {n: folder.parent / f"redis-app-{n}.yaml" for n in (6, 7)}
    for n, file in made.items():
        expected = first.replace("redis-app-0", f"redis-app-{n}").replace('"0"', f'"{n}"')
        expected = expected.replace("30100", str(30100 + n)).replace("30200", str(30200 + n))
        assert file.read_text() == expected
