"""DynamoDB: a crash at every step, leftovers, tables that are not there, other modes, and hostile replies."""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.settings.storage import DynamoOptions
from bitnet_core.storage.clients.aws import Aws
from bitnet_core.storage.clients.dynamo_table import Table
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import MIB, TEMPORARY, AlreadyThere, NoSuchObject, Refused, Target, Unreachable
from bitnet_core.storage.targets import dynamodb, s3
from tests.storage.fakes.scripted import Reply, Scripted
from tests.storage.stands.s3 import BUCKET, KEYS, address, lacks, ministack

_NUMBERS = itertools.count()


class Crash(BaseException):
    """The process ends here."""


@dataclass
class Place:
    """A table and a bucket, both of ministack."""

    port: int
    tables: str

    def options(self, *, bucket: bool = True, **other: Any) -> DynamoOptions:
        where = address(self.port)
        chosen: dict[str, Any] = {"table_prefix": self.tables, "endpoint": where, "s3_endpoint": where, **other}
        return DynamoOptions(bucket=BUCKET if bucket else "", prefix="p/", **chosen)


def blobs(target: Target) -> set[str]:
    """What its bucket has."""
    assert isinstance(target, dynamodb.DynamoTarget)
    return {found.key for found in target._blobs.list("")} if target._blobs else set()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if why := lacks("hypercorn", "ministack hypercorn")():
        pytest.skip(why)
    with ministack(tmp_path_factory.mktemp("ministack")) as started:
        yield started


@pytest.fixture
def place(port: int) -> Place:
    return Place(port, f"t{next(_NUMBERS)}_")


@pytest.fixture(scope="module", params=[True, False], ids=["with a bucket", "without"])
def used(request: pytest.FixtureRequest, port: int) -> Iterator[Target]:
    """A target with one object."""
    with dynamodb.opened(Place(port, f"used{request.param}_").options(bucket=request.param), Keys(KEYS)) as opened:
        opened.put("beside", b"kept")
        yield opened


@pytest.fixture
def target(place: Place) -> Iterator[Target]:
    with dynamodb.opened(place.options(), Keys(KEYS)) as opened:
        yield opened


def crash_at(monkeypatch: pytest.MonkeyPatch, number: int, *, done: bool) -> Callable[[], None]:
    """Let the process end at its call `number`, before it or before its reply; call the result to heal."""
    calls = itertools.count()
    call = Aws.call

    def crashing(self: Aws, operation: str, *given: Any, **parameters: Any) -> Any:
        if next(calls) == number:
            if done:
                call(self, operation, *given, **parameters)
            raise Crash
        return call(self, operation, *given, **parameters)

    monkeypatch.setattr(Aws, "call", crashing)
    return lambda: monkeypatch.setattr(Aws, "call", call)


STEPS: dict[str, tuple[bytes | None, Callable[[Target], None], bytes | None]] = {
    "the first put": (None, lambda target: target.put("x", b"new"), b"new"),
    "a put if absent": (None, lambda target: target.put("x", b"new", only_if_absent=True), b"new"),
    "a replacement": (b"older and longer", lambda target: target.put("x", b"new"), b"new"),
    "a deletion": (b"older and longer", lambda target: target.delete("x"), None),
}


@pytest.mark.parametrize("done", [False, True], ids=["before a call", "before its reply"])
@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_call_leaves_the_older_or_the_newer_object(
    used: Target, monkeypatch: pytest.MonkeyPatch, step: str, done: bool
) -> None:
    before, change, after = STEPS[step]
    crashed = True
    for number in itertools.count():
        if not crashed:
            break
        used.delete("x")
        if before is not None:
            used.put("x", before)
        heal = crash_at(monkeypatch, number, done=done)
        try:
            change(used)
            crashed = False
        except Crash:
            pass
        heal()
        seen = _content(used)
        assert seen in (before, after)
        sizes = {found.key: found.size for found in used.list("") if not found.key.startswith(TEMPORARY)}
        assert sizes == {"beside": 4, **({} if seen is None else {"x": len(seen)})}
        _clean(used)
        assert _content(used) == seen
        assert len(blobs(used)) == (0 if used.limits.object_bytes < MIB else len(sizes))
        if seen is None:
            used.put("x", b"again", only_if_absent=True)
        else:
            with pytest.raises(AlreadyThere):
                used.put("x", b"again", only_if_absent=True)
    assert seen == after
    assert number > 1


def _content(target: Target) -> bytes | None:
    try:
        return target.get("x")
    except NoSuchObject:
        return None


def _clean(target: Target) -> None:
    for found in list(target.list(TEMPORARY)):
        assert int(found.key.removeprefix(TEMPORARY).partition("-")[0]) > 1.7e9
        target.delete(found.key)
    assert not list(target.list(TEMPORARY))


@pytest.mark.parametrize("whole", [True, False], ids=["cleaned up", "being cleaned up"])
def test_what_is_cleaned_up_during_a_slow_put_is_never_named(
    target: Target, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    put = s3.S3Target.put

    def slow(self: s3.S3Target, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        put(self, key, data, only_if_absent=only_if_absent)
        with monkeypatch.context() as patch, contextlib.suppress(Crash):
            if not whole:
                patch.setattr(Table, "delete", crash)
            _clean(target)

    def crash(*_: object) -> None:
        raise Crash

    monkeypatch.setattr(s3.S3Target, "put", slow)
    for only_if_absent in (False, True):
        with pytest.raises(Unreachable):
            target.put("x", b"1", only_if_absent=only_if_absent)
        _clean(target)
    assert not list(target.list(""))
    assert not blobs(target)


def test_a_loser_leaves_nothing_behind(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    put = s3.S3Target.put

    def overtaken(self: s3.S3Target, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        put(self, key, data, only_if_absent=only_if_absent)
        monkeypatch.setattr(s3.S3Target, "put", put)
        target.put("x", b"winner", only_if_absent=True)

    monkeypatch.setattr(s3.S3Target, "put", overtaken)
    with pytest.raises(AlreadyThere):
        target.put("x", b"loser", only_if_absent=True)
    assert target.get("x") == b"winner"
    assert [found.key for found in target.list("")] == ["x"]
    assert len(blobs(target)) == 1


def test_a_table_made_without_a_bucket_goes_on_with_one(place: Place) -> None:
    with dynamodb.opened(place.options(bucket=False), Keys(KEYS)) as items:
        for name in ("read", "replaced", "deleted"):
            items.put(name, b"item")
    with dynamodb.opened(place.options(), Keys(KEYS)) as both:
        assert both.get("read") == b"item"
        both.put("replaced", b"blob")
        both.delete("deleted")
        assert {found.key: both.get(found.key) for found in both.list("")} == {"read": b"item", "replaced": b"blob"}
        assert len(blobs(both)) == 1
    with dynamodb.opened(place.options(bucket=False), Keys(KEYS)) as items:
        for call in (
            lambda: items.get("replaced"),
            lambda: items.put("replaced", b"1"),
            lambda: items.delete("replaced"),
        ):
            with pytest.raises(Refused, match="; set S3_BUCKET"):
                call()


def test_the_first_object_creates_the_table_and_a_look_does_not(place: Place, target: Target) -> None:
    for _ in range(2):
        assert "is created with the first object" in target.check().note
        assert not list(target.list(""))
        target.delete("x")
        with pytest.raises(NoSuchObject):
            target.get("x")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: target.put(f"x{number}", b"1"), range(8)))
    assert len(list(target.list(""))) == 8
    assert not target.check().note
    with Aws("DynamoDB", "dynamodb", Keys(KEYS), endpoint=address(place.port), permissions="") as service:
        table = service.call("describe_table", TableName=f"{place.tables}objects")["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"


def test_the_largest_object_fits_an_item_with_the_longest_name(place: Place) -> None:
    with dynamodb.opened(place.options(bucket=False), Keys(KEYS)) as target:
        longest = "/".join(["é" * 100] * 5)[: target.limits.key_bytes // 2]
        data = bytes(target.limits.object_bytes)
        target.put(longest, data)
        assert target.get(longest) == data


# -- by a scripted server --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def scripted_target(server: Scripted) -> Iterator[Target]:
    options = DynamoOptions(endpoint=address(server.port), bucket="", table_prefix="t_")
    with dynamodb.opened(options, Keys(KEYS)) as opened:
        yield opened


def answer(value: object, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/x-amz-json-1.0", **headers})


def failure(code: str, status: int = 400, **more: object) -> Reply:
    return answer({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "No.", **more}, status)


@pytest.mark.parametrize(
    ("reply", "fix"),
    [
        (failure("UnrecognizedClientException"), "AWS_ACCESS_KEY_ID"),
        (failure("InvalidSignatureException"), "AWS_SECRET_ACCESS_KEY"),
        (failure("ExpiredTokenException"), "new temporary keys"),
        (failure("AccessDeniedException"), "dynamodb:GetItem"),
        (failure("ValidationException"), "DYNAMO_TABLE_PREFIX"),
    ],
)
def test_a_refusal_says_what_to_do(scripted_target: Target, script: Scripted, reply: Reply, fix: str) -> None:
    script.replies = [reply]
    for call in _calls(scripted_target):
        with pytest.raises(Refused) as told:
            call()
        message = str(told.value)
        assert message.endswith(".")
        assert fix in message.partition(";")[2]


@pytest.mark.parametrize(
    "reply",
    [
        failure("ProvisionedThroughputExceededException"),
        failure("ThrottlingException"),
        failure("RequestLimitExceeded"),
        failure("InternalServerError", 500),
        failure(
            "TransactionCanceledException", CancellationReasons=[{"Code": "None"}, {"Code": "TransactionConflict"}]
        ),
        failure("TransactionCanceledException", CancellationReasons=[{"Code": "ThrottlingError"}]),
    ],
)
def test_what_may_succeed_later_is_tried_once(scripted_target: Target, script: Scripted, reply: Reply) -> None:
    script.replies = [reply]
    for tries, call in enumerate(_calls(scripted_target), 1):
        with pytest.raises(Unreachable):
            call()
        assert len(script.requests) == tries


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Log in</html>",
        b"[1]",
        b'"text"',
        b"{",
        b'{"Items": 7, "Item": 7}',
        b'{"Items": [7], "Item": {"blob_name": 7}}',
        b'{"Items": [{"object_name": {"S": 7}, "size": {"N": "x"}}], "LastEvaluatedKey": {"a": 7}, "Item": [1]}',
        b'{"Items": [{"object_name": {"B": "!"}}], "Item": {"blob_name": {"B": "!"}}}',
        b'{"Items": ' + b"[" * 200_000,
        b'{"Item": {"content": {"S": "text"}}}',
        b'{"Item": {"blob_name": {"S": "../elsewhere"}}}',
    ],
)
def test_replies_that_make_no_sense_end_in_a_sentence(scripted_target: Target, script: Scripted, body: bytes) -> None:
    script.replies = [Reply(body=body, headers={"Content-Type": "application/x-amz-json-1.0"})]
    for call in (
        *_calls(scripted_target),
        lambda: scripted_target.put("x", b"1"),
        lambda: scripted_target.delete("x"),
    ):
        try:
            call()
        except BitnetError as error:
            assert str(error).endswith("."), error


@pytest.mark.parametrize("body", [b"<html>Log in</html>", b"[1]", b"{", b""])
def test_what_is_no_reply_of_dynamodb_is_told_at_once(scripted_target: Target, script: Scripted, body: bytes) -> None:
    """It is not taken for an absent object, nor for one that is stored."""
    script.replies = [Reply(body=body)]
    for call in (
        *_calls(scripted_target),
        lambda: scripted_target.put("x", b"1"),
        lambda: scripted_target.delete("x"),
    ):
        with pytest.raises(Refused, match=r"DynamoDB at http.* is not .*DYNAMO_ENDPOINT_URL is right"):
            call()


def test_objects_carry_the_time_of_the_service(scripted_target: Target, script: Scripted) -> None:
    """This machine's clock may be wrong by years, and what is old is removed one day."""
    script.replies = [answer({}, Date="Mon, 01 Jan 2035 00:00:00 GMT")]
    scripted_target.put("x", b"1")
    (index, _content) = json.loads(script.requests[-1].body)["TransactItems"]
    assert abs(int(index["Put"]["Item"]["written"]["N"]) - 2051222400) < 60


def test_a_listing_that_does_not_go_on_is_refused(scripted_target: Target, script: Scripted) -> None:
    same = {"item_kind": {"S": "index"}, "object_name": {"S": "x"}}
    script.replies = [answer({"Items": [], "LastEvaluatedKey": same})]
    with pytest.raises(Refused, match="without an end"):
        list(scripted_target.list(""))
    assert len(script.requests) == 2


def _calls(target: Target) -> tuple[Callable[[], object], ...]:
    return (target.check, lambda: target.get("x"), lambda: list(target.list("a/")))


def test_a_region_must_be_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(Refused, match="AWS_DEFAULT_REGION"), dynamodb.opened(DynamoOptions(), Keys(KEYS)):
        pass
    other = DynamoOptions(region="http://x", endpoint="http://127.0.0.1:1")
    with (
        pytest.raises(Refused, match="correct DYNAMO_REGION or AWS_DEFAULT_REGION"),
        dynamodb.opened(other, Keys(KEYS)),
    ):
        pass
