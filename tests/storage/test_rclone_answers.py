"""What rclone answers, read with care. Nothing is started here: its answers are given."""

import json
from collections.abc import Callable
from typing import Any, cast

import pytest

from bitnet_core.network.trickle import Patience
from bitnet_core.storage.clients.http import Http, Response
from bitnet_core.storage.target import Found, Nonsense, NoSuchObject, Refused, Target, Unreachable
from bitnet_core.storage.targets.rclone import RcloneTarget


class Answers(Http):
    """rclone, answering each command with a given status and JSON."""

    def __init__(self, answers: dict[str, tuple[int, Any]]) -> None:
        super().__init__("rclone")
        self.seconds: dict[str, float] = {}
        self.patience: Patience = lambda: 0.0
        self._answers = {"fsinfo": (200, {"Features": {"BucketBased": True}}), **answers}

    def send(self, method: str, url: str, **options: Any) -> Response:
        self.seconds[url.partition("?")[0].rpartition("/")[2]] = options["silence_seconds"]
        self.patience = options.get("patience", self.patience)
        status, value = self._answers.get(url.partition("?")[0].rpartition("/")[2], (404, {"error": "not found"}))
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return Response(status, body, {}, url)


def target_that(**answers: tuple[int, Any]) -> Target:
    return RcloneTarget(Answers(answers), "it:", "place/")


@pytest.mark.parametrize(
    ("words", "error", "fix"),
    [
        ("Forbidden: 403 AccessDenied", Refused, "correct the keys"),
        ("couldn't fetch token: invalid_grant", Refused, "config reconnect"),
        ("write /x: no space left on device", Refused, "free space"),
        (
            "NewFs: couldn't connect SSH: ssh: handshake failed: knownhosts: key mismatch",
            Refused,
            "it is your server",
        ),
        (
            "NewFs: couldn't connect SSH: ssh: handshake failed: knownhosts: key is unknown",
            Refused,
            "it is your server",
        ),
        ("couldn't parse known_hosts_file: open /etc/known: no such file or directory", Refused, "the SSH files"),
        ("failed to read private key file: open /u/key: no such file or directory", Refused, "the SSH files"),
        ("failed to parse private key file: ssh: this private key is passphrase protected", Refused, "the SSH files"),
        ("ssh: handshake failed: ssh: no common algorithm for client to server cipher; we", Refused, "rclone lsf"),
        ("NewFs: couldn't initialise SFTP: ssh: subsystem request failed", Refused, "rclone lsf"),
        ("ssh: handshake failed: read tcp 127.0.0.1:9: connection reset by peer", Unreachable, ""),
        ('Update ReadFrom failed: sftp: "Failure" (SSH_FX_FAILURE)', Unreachable, ""),
        ("googleapi: Error 403: Rate Limit Exceeded, rateLimitExceeded", Unreachable, ""),
        ("dial tcp 127.0.0.1:9: connect: connection refused", Unreachable, ""),
        ("HTTP error 503 (Service Unavailable)", Unreachable, ""),
        ("something never heard of", Unreachable, ""),
    ],
)
def test_its_words_decide_what_an_error_is(words: str, error: type[Exception], fix: str) -> None:
    answer = (500, {"error": words})
    target = target_that(uploadfile=answer, x=answer, list=answer, deletefile=answer)
    for call in (
        lambda: target.put("x", b"1"), lambda: target.get("x"), lambda: list(target.list("")),
        lambda: target.delete("x"), target.check,
    ):  # fmt: skip
        with pytest.raises(error, match=fix or None) as raised:
            call()
        assert words[:20] in str(raised.value)


def test_a_service_that_drips_is_not_waited_for_as_long_as_one_that_lists() -> None:
    """rclone says nothing while it works, and waits as long as bytes come, however few."""
    small = {"item": None}
    answers = Answers(
        {
            "fsinfo": (200, {"Features": {"Move": True}}),
            "stat": (200, small),
            "uploadfile": (200, {}),
            "movefile": (200, {}),
            "about": (200, {}),
            "deletefile": (200, {}),
            "list": (200, {"list": []}),
            "x": (200, b"1"),
        }
    )
    target = RcloneTarget(answers, "it:", "place/")
    target.put("x", b"1", only_if_absent=True)
    target.delete("x")
    target.check()
    assert len(answers.seconds) == 8
    assert max(answers.seconds.values()) < 200, answers.seconds
    target.put("large", bytes(target.limits.object_bytes))
    assert 1000 < answers.seconds["uploadfile"] < 2000
    list(target.list(""))
    assert 600 < answers.seconds["list"] < 1000


def test_an_upload_must_go_on_where_it_is_known_how_far_it_is() -> None:
    """rclone itself says nothing of it, and a drip of 32 MiB would be waited for half an hour."""
    written, answers = [1000], Answers({"uploadfile": (200, {})})
    RcloneTarget(answers, "it:", "place/", lambda: written[-1]).put("x", bytes(1_000_000))
    assert answers.patience() == 180
    for more, seconds in ((20_000, 181), (400_000, 200), (5_000_000, 230)):
        written.append(1000 + more)
        assert answers.patience() == seconds
    RcloneTarget(answers, "it:", "place/", lambda: None).put("x", bytes(1_000_000))
    assert answers.patience() == 230


def test_the_words_of_a_name_decide_nothing() -> None:
    """`invalid_grant` in a file's name is not what the server said."""
    name = "runs/invalid_grant 403 quota/x"
    answer = (500, {"error": f"open /mnt/quota/place/{name}: input/output error"})
    with pytest.raises(Unreachable):
        target_that(uploadfile=answer).put(name, b"1")


def test_a_service_that_is_not_found_is_not_taken_for_an_empty_one() -> None:
    answer = (500, {"error": "lookup: host not found"})
    target = target_that(list=answer, x=answer)
    for call in (lambda: list(target.list("")), lambda: target.get("x")):
        with pytest.raises(Unreachable):
            cast(Callable[[], object], call)()


FAILURE = {"error": 'Update ReadFrom failed: sftp: "Failure" (SSH_FX_FAILURE)'}


@pytest.mark.parametrize(
    ("about", "error"),
    [
        ((200, {"free": 3}), Refused),
        ((200, {"free": 4}), Unreachable),
        ((200, {}), Unreachable),
        ((500, {"error": "not supported"}), Unreachable),
        ((200, b"<html>"), Unreachable),
    ],
)
def test_a_failure_without_a_reason_is_a_full_disk_where_too_little_is_free(
    about: tuple[int, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        target_that(uploadfile=(500, FAILURE), about=about).put("x", b"1234")
    assert ("no space left" in str(raised.value)) == (error is Refused)


@pytest.mark.parametrize(
    ("told", "error", "words"),
    [
        ((500, {"error": "failed to open file place/x: Open failed: permission denied"}), Refused, "permission"),
        ((500, {"error": "failed to open file place/x: connection lost"}), Unreachable, "connection lost"),
        ((404, {"error": "object not found"}), NoSuchObject, "not there"),
        ((404, {"error": "couldn't find method"}), Unreachable, "did not open place/x"),
        ((200, {"hash": "00"}), Unreachable, "did not open place/x"),
    ],
)
def test_a_file_that_can_not_be_opened_is_not_taken_for_a_missing_one(
    told: tuple[int, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        target_that(x=(404, b"Not Found\n"), hashsumfile=told).get("x")


def test_an_address_with_a_signature_is_masked() -> None:
    words = 'Get "https://host.example/x?X-Amz-Signature=0123456789abcdef0123": 403 Forbidden'
    with pytest.raises(Refused) as refused:
        target_that(x=(500, {"error": words})).get("x")
    assert "0123456789abcdef" not in str(refused.value)


def test_a_listing_of_nonsense_harms_nothing() -> None:
    entries = [
        {"Path": "place/good", "Size": 3, "ModTime": "2026-11-27T17:00:48.859485807Z"},
        {"Path": "place/undated", "Size": 3, "ModTime": "soon"},
        *({"Path": path, "Size": 1} for path in (7, None, "elsewhere/x", "place/../x", "place/a//b", "place/")),
        *({"Path": "place/x", "Size": size} for size in (-1, "1", None, 1.5)),
        "text", None, 5, [],
    ]  # fmt: skip
    found = list(target_that(list=(200, {"list": entries})).list(""))
    assert [one.key for one in found] == ["good", "undated"]
    assert found[0].modified == pytest.approx(1795798848.859)
    assert found[1] == Found("undated", 3, None)


@pytest.mark.parametrize("answer", [{"list": 5}, {}, [], "text", None])
def test_a_listing_of_another_kind_is_not_taken_for_an_empty_one(answer: Any) -> None:
    with pytest.raises(Nonsense):
        list(target_that(list=(200, answer)).list(""))
    assert not list(target_that(list=(200, {"list": None}), stat=(200, {"item": None})).list(""))


def test_an_answer_that_is_not_json_is_told() -> None:
    target = target_that(list=(200, b"<html>"), deletefile=(500, b"<html>"))
    with pytest.raises(Nonsense):
        list(target.list(""))
    with pytest.raises(Unreachable):
        target.delete("x")


def test_an_object_of_another_program_may_be_too_large() -> None:
    target = target_that(x=(200, b"12345"))
    target.limits = type(target.limits)(object_bytes=4)
    with pytest.raises(Refused, match="larger"):
        target.get("x")
