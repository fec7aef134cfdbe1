"""Names of images, credentials of registries and the progress of a pull."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.executor.docker.images import ImageName, PullProgress, RegistryAuth, bears_name

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/team/app:1", "docker.io/team/app:1"),
        ("registry:5000/team/app", "registry:5000/team/app:latest"),
        ("registry:5000/team/app:2", "registry:5000/team/app:2"),
        ("localhost/app", "localhost/app:latest"),
        (f"app@{DIGEST}", f"docker.io/library/app@{DIGEST}"),
        (f"registry.example/app:2@{DIGEST}", f"registry.example/app@{DIGEST}"),
    ],
)
def test_short_names_are_completed_and_a_digest_counts_more_than_a_tag(text: str, complete: str) -> None:
    assert str(ImageName.parse(text)) == complete


@given(st.from_regex(r"[a-z][a-z0-9./:-]{0,40}", fullmatch=True))
def test_a_complete_name_is_its_own_completion(text: str) -> None:
    once = ImageName.parse(text)
    assert ImageName.parse(str(once)).version == once.version


def test_an_image_is_found_by_its_name_and_never_by_its_id() -> None:
    image = {"Id": DIGEST, "RepoTags": ["team/app:1"], "RepoDigests": [f"team/app@{DIGEST}"]}
    assert bears_name(image, ImageName.parse("team/app:1"))
    assert bears_name(image, ImageName.parse("docker.io/team/app:1"))
    assert bears_name(image, ImageName.parse(f"team/app:1@{DIGEST}"))
    assert not bears_name(image, ImageName.parse(DIGEST))
    assert not bears_name(image, ImageName.parse("abababababab"))
    assert not bears_name(image, ImageName.parse("team/app:2"))
    assert not bears_name(image, ImageName.parse(f"other/app@{DIGEST}"))
    assert not bears_name({"RepoTags": None}, ImageName.parse("team/app:1"))


def test_a_password_is_in_one_header_and_nowhere_else() -> None:
    auth = RegistryAuth("ann", "s3cr3t")
    assert "s3cr3t" not in repr(auth)
    told = json.loads(base64.urlsafe_b64decode(auth.header("registry.example")["X-Registry-Auth"]))
    assert told == {"username": "ann", "password": "s3cr3t", "serveraddress": "registry.example"}


def test_progress_counts_layers_and_bytes() -> None:
    progress = PullProgress()
    assert str(progress) == "asking the registry"
    for report in (
        {"status": "Pulling from library/app", "id": "latest"},
        {"status": "Pulling fs layer", "id": "a"},
        {"status": "Already exists", "id": "b"},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 1_500_000, "total": 3_000_000}},
    ):
        progress.feed(report)
    assert str(progress) == "1 of 2 layers, 1.5 of 3.0 MB"
    progress.feed({"status": "Pull complete", "id": "a"})
    progress.feed({"status": f"Digest: {DIGEST}"})
    assert str(progress) == "2 of 2 layers, 3.0 of 3.0 MB"
    assert progress.digest == DIGEST


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["status", "id", "progressDetail", "error"]),
            st.one_of(
                st.none(),
                st.text(max_size=5),
                st.integers(),
                st.sampled_from(["Downloading", "Pull complete"]),
                st.dictionaries(st.sampled_from(["current", "total"]), st.one_of(st.none(), st.integers())),
            ),
        ),
        max_size=10,
    )
)
def test_no_report_of_an_engine_breaks_the_progress(reports: list[dict[str, object]]) -> None:
    progress = PullProgress()
    for report in reports:
        progress.feed(report)
    assert str(progress)
