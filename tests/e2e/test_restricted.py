"""Namespaces that admit only restricted pods, and platforms that choose the user."""

from collections.abc import Callable

from tests.support.story import Story, patch

USER = 1000680000


def test_any_user_will_do(new_story: Callable[..., Story]) -> None:
    """Pods work as on OpenShift, with a high user id, group 0 and a volume group of that number."""
    chosen = {"runAsUser": USER, "runAsGroup": 0, "fsGroup": USER}
    story = new_story("any-user")
    story.apply(
        patches=[
            patch(
                kind,
                name,
                *(
                    {
                        "op": "add",
                        "path": f"/spec/template/spec/securityContext/{key}",
                        "value": value,
                    }
                    for key, value in chosen.items()
                ),
            )
            for kind, name in (("StatefulSet", "redis-app"), ("Job", "redis-bootstrap"))
        ]
    )
    assert story.wait_for_job()["outcome"] == "healthy"
    assert story.missing() == ""
    assert story.k("exec", "redis-app-0", "--", "id", "-u").strip() == str(USER)
    written = story.k("exec", "redis-app-0", "--", "sh", "-c", "echo x >/etc/x", check=False)
    assert "Read-only file system" in written
