"""S3's errors, hostile replies, keys and addresses, by a scripted server."""

import base64
import hashlib
import signal
import socket
from collections.abc import Iterator

import pytest
from botocore import exceptions

from bitnet_core.errors import BitnetError, Stopped, UsageError
from bitnet_core.settings.storage import S3Options
from bitnet_core.storage.clients import aws
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import MIB, Refused, Target, Unreachable
from bitnet_core.storage.targets import s3
from tests.storage.fakes.scripted import Reply, Scripted
from tests.storage.stands.s3 import BUCKET, KEYS, address

STORED = Reply(headers={"ETag": '"1"'})
TOKEN = "session-token-0123456789"


@pytest.fixture(scope="module")
def target(server: Scripted) -> Iterator[Target]:
    keys = Keys({**KEYS, "AWS_SESSION_TOKEN": TOKEN})
    with s3.opened(S3Options(bucket=BUCKET, prefix="p", endpoint=address(server.port)), keys) as opened:
        yield opened


def error(code: str, message: str = "No.", status: int = 400, **headers: str) -> Reply:
    return Reply(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode(), headers)


def listing(*entries: str, more: str = "<IsTruncated>false</IsTruncated>") -> Reply:
    found = "".join(f"<Contents>{entry}</Contents>" for entry in entries)
    return Reply(body=f"<ListBucketResult>{more}{found}</ListBucketResult>".encode())


def sentence(told: pytest.ExceptionInfo[BitnetError]) -> str:
    message = str(told.value)
    assert message.endswith("."), message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("reply", "fix"),
    [
        (error("InvalidAccessKeyId", status=403), " correct AWS_ACCESS_KEY_ID."),
        (error("SignatureDoesNotMatch", status=403), " correct AWS_SECRET_ACCESS_KEY."),
        (error("InvalidToken"), "AWS_SESSION_TOKEN"),
        (error("ExpiredToken"), "new temporary keys"),
        (error("AccessDenied", status=403), "s3:PutObject"),
        (error("NoSuchBucket", status=404), f"`aws s3 mb s3://{BUCKET} --endpoint-url http://127.0.0.1:"),
        (error("PermanentRedirect", status=301), "AWS_DEFAULT_REGION"),
        (error("AuthorizationHeaderMalformed"), "AWS_DEFAULT_REGION"),
        (error("RequestTimeTooSkewed", status=403), "clock"),
        (error("QuotaExceeded", status=403), "free space"),
        (error("XMinioStorageFull", status=507), "free space"),
        (error("NotImplemented", status=501), "check the settings"),
        (Reply(302, b"", {"Location": "http://127.0.0.1:1/login"}), "correct its address"),
    ],
)
def test_a_refusal_says_what_to_do(target: Target, script: Scripted, reply: Reply, fix: str) -> None:
    script.replies = [reply]
    for call in (target.check, lambda: target.put("x", b"1"), lambda: target.get("x"), lambda: list(target.list(""))):
        with pytest.raises(Refused) as told:
            call()
        assert fix in sentence(told).partition(";")[2]


@pytest.mark.parametrize(
    "reply",
    [
        error("SlowDown", status=503, **{"Retry-After": "7"}),
        error("InternalError", status=500, **{"Retry-After": "7"}),
        error("RequestTimeout", status=400, **{"Retry-After": "7"}),
        error("Whatever", status=429, **{"Retry-After": "7"}),
        error("ConditionalRequestConflict", status=409, **{"Retry-After": "7"}),
        error("BadDigest", status=400, **{"Retry-After": "7"}),
        Reply(502, b"<html>Bad gateway</html>", {"Retry-After": "7"}),
    ],
)
def test_what_may_succeed_later_is_tried_once_and_says_when(target: Target, script: Scripted, reply: Reply) -> None:
    script.replies = [reply]
    for tries, call in enumerate((lambda: target.put("x", b"1"), lambda: target.get("x")), 1):
        with pytest.raises(Unreachable) as told:
            call()
        assert told.value.after == 7
        assert len(script.requests) == tries


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"12345", length=10),  # cut
        Reply(body=b"12345", length=-1),  # nobody can tell whether it was cut
    ],
)
def test_part_of_an_object_is_never_taken_for_it(target: Target, script: Scripted, reply: Reply) -> None:
    script.replies = [reply]
    with pytest.raises(Unreachable) as told:
        target.get("x")
    sentence(told)


def test_no_more_is_read_than_an_object_can_have(target: Target, script: Scripted) -> None:
    script.replies = [Reply(body=bytes(MIB), times=34)]
    with pytest.raises(Refused, match="larger"):
        target.get("x")
    script.replies = [Reply(body=b"", length=1 << 40)]
    with pytest.raises(Refused, match="larger"):
        target.get("x")


@pytest.mark.parametrize("status", [200, 403])
def test_no_listing_or_error_is_read_without_an_end(target: Target, script: Scripted, status: int) -> None:
    script.replies = [Reply(status, b"<ListBucketResult>" + b" " * MIB, times=64)]
    with pytest.raises(Refused, match="more than was asked for"):
        list(target.list(""))


def test_an_error_and_a_page_of_a_listing_are_small(target: Target, script: Scripted) -> None:
    """30 MB of an error's words took a minute and a gigabyte."""
    script.replies = [error("X", "a b" * 100_000)]
    for call in (lambda: target.get("x"), lambda: target.put("x", b"y"), lambda: list(target.list(""))):
        with pytest.raises(Refused, match="more than was asked for"):
            call()
    script.replies = [listing(*["<Key>p/x</Key>"] * 300_000)]
    with pytest.raises(Refused, match="more than was asked for"):
        list(target.list(""))


@pytest.mark.parametrize("body", [b"<html>Not Found</html>", b"<Error/>", b"", b"Not Found"])
def test_a_server_of_another_kind_is_told_by_its_setting(target: Target, script: Scripted, body: bytes) -> None:
    script.replies = [Reply(404, body)]
    for call in (target.check, lambda: target.put("x", b"y")):
        with pytest.raises(Refused, match=r"refuses \((HTTP )?404.*\); check that S3_ENDPOINT_URL is right"):
            call()


BOMB = b"<!DOCTYPE x [<!ENTITY a0 'aaaaaaaaaa'>%s]><ListBucketResult><Prefix>&a9;</Prefix></ListBucketResult>" % (
    b"".join(b"<!ENTITY a%d '%s'>" % (n, b"&a%d;" % (n - 1) * 30) for n in range(1, 10))
)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"<html><p>Log in<br></html>"),
        Reply(body=b'{"not": "xml"}'),
        Reply(body=b""),
        Reply(body=BOMB),
        Reply(body=b"<a>" * 100_000),
        Reply(body=b"\x1b[31mhello"),
        Reply(body=b"<Error/>"),
        listing("<Key>p/&#27;</Key><Size>1</Size>"),
        listing("<Size>1</Size>"),
        listing("<Key>p/x</Key>"),
        listing("<Key>p/x</Key><Size>-1</Size>"),
        listing(f"<Key>p/x</Key><Size>{'9' * 400}</Size>"),
        listing("<Key>p/x</Key><Size>many</Size>"),
        listing("<Key>p/x</Key><Size>1</Size><LastModified>99999-99-99</LastModified>"),
        error("PermanentRedirect", status=301, **{"x-amz-bucket-region": "\x1b[31m"}),
    ],
)
def test_what_is_no_listing_is_told_at_once(target: Target, script: Scripted, reply: Reply) -> None:
    """Waiting makes no S3 of a web page."""
    script.replies = [reply]
    with pytest.raises(Refused, match=rf"S3 at http://127\.0\.0\.1:{script.port} answers with something that is not"):
        list(target.list(""))
    with pytest.raises(Refused, match="S3_ENDPOINT_URL is right") as told:
        list(target.list(""))
    sentence(told)


_WHOLE = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated></ListBucketResult>
"""


@pytest.mark.parametrize("end", range(_WHOLE.index(b" xmlns"), _WHOLE.index(b"\n", 60), 9))
def test_an_answer_that_is_cut_may_be_whole_the_next_time(target: Target, script: Scripted, end: int) -> None:
    """Its connection ended as it should, and it says no length: so it looks like an answer of another service."""
    script.replies = [Reply(body=_WHOLE[:end], length=-1)]
    with pytest.raises(Unreachable, match=r"^S3 sent a part of an answer\.$"):
        list(target.list(""))
    script.replies = [Reply(body=_WHOLE, length=-1)]
    assert not list(target.list(""))


@pytest.mark.parametrize(
    "body",
    [
        b'<?xml version="1.0"?><html><body>Log in',
        b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0">\n<HTML><head>',
        b"<ListBucketResult><IsTruncated>",  # S3 begins with a declaration
        b'<?xml version="1.0"?>' + b" " * 99,
        b'<?xml version="1.0"?><a></b></a>',
    ],
)
def test_a_page_that_is_cut_is_still_no_answer_of_s3(target: Target, script: Scripted, body: bytes) -> None:
    script.replies = [Reply(body=body, length=-1)]
    with pytest.raises(Refused, match="answers with something that is not"):
        list(target.list(""))


def test_an_error_that_is_sent_as_a_success_is_told_as_any_other(target: Target, script: Scripted) -> None:
    script.replies = [error("AccessDenied", status=200)]
    with pytest.raises(Refused, match="s3:ListBucket"):
        list(target.list(""))
    script.replies = [error("SlowDown", status=200)]
    with pytest.raises(Unreachable, match="busy"):
        list(target.list(""))


def test_a_server_that_only_says_ok_has_stored_nothing(target: Target, script: Scripted) -> None:
    script.replies = [Reply(body=b"<html>Log in</html>")]
    with pytest.raises(Refused, match="not a confirmation of the upload"):
        target.put("x", b"1")


def test_a_server_that_sends_requests_in_a_circle_is_left(target: Target, script: Scripted) -> None:
    script.replies = [error("PermanentRedirect", status=301)]
    with pytest.raises(Refused, match="elsewhere"):
        target.get("x")
    assert len(script.requests) <= 4


def test_a_listing_skips_what_others_wrote(target: Target, script: Scripted) -> None:
    names = ("p/", "p/a//b", "p/../x", "elsewhere", "p/a%00", "p/e%CC%81", "p/ok")
    entries = [f"<Key>{name}</Key><Size>1</Size>" for name in names]
    encoded = "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
    script.replies = [listing(*entries, more=encoded)]
    assert [found.key for found in target.list("")] == ["ok"]


@pytest.mark.parametrize(
    "more", ["", "<NextContinuationToken>same</NextContinuationToken>", "<NextContinuationToken/>"]
)
def test_a_listing_that_does_not_go_on_is_not_taken_for_whole(target: Target, script: Scripted, more: str) -> None:
    script.replies = [listing(more=f"<IsTruncated>true</IsTruncated>{more}")]
    with pytest.raises(Refused, match="without an end"):
        list(target.list(""))
    assert len(script.requests) <= 2


def test_a_listing_of_ever_new_pages_ends(target: Target, script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "MOST_PAGES", 5)
    one = "<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>"
    script.replies = [listing(more=one.format(number)) for number in range(9)]
    with pytest.raises(Refused, match="without an end"):
        list(target.list(""))
    assert len(script.requests) == 5


def test_no_message_shows_a_key_or_moves_the_cursor(target: Target, script: Scripted) -> None:
    words = f"{KEYS['AWS_ACCESS_KEY_ID']} {KEYS['AWS_SECRET_ACCESS_KEY']} {TOKEN} &#10; \u202e end"
    for status in (403, 400, 500):
        script.replies = [error("Odd", words, status)]
        with pytest.raises(BitnetError) as told:
            target.get("x")
        message = sentence(told)
        assert message.isprintable()
        assert "end" in message
        for secret in (*KEYS.values(), TOKEN):
            assert secret not in message
            assert secret not in repr(target.place)


def test_a_put_carries_what_the_server_must_judge(target: Target, script: Scripted) -> None:
    script.replies = [Reply(404), STORED]
    target.put("a b/c", b"data", only_if_absent=True)
    look, put = script.requests
    assert (look.method, put.method, put.path) == ("HEAD", "PUT", f"/{BUCKET}/p/a%20b/c")
    assert put.headers["if-none-match"] == "*"
    assert put.headers["x-amz-checksum-sha256"] == base64.b64encode(hashlib.sha256(b"data").digest()).decode()
    assert put.body == b"data"


def test_amazon_judges_the_condition_alone(target: Target, script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that may not list gets 403 for an object that is not there, so it must not be asked for one."""
    assert isinstance(target, s3.S3Target)
    monkeypatch.setattr(target._s3, "is_amazon", True)
    script.replies = [STORED]
    target.put("x", b"1", only_if_absent=True)
    assert [request.method for request in script.requests] == ["PUT"]


def test_amazon_is_known_by_its_address() -> None:
    for endpoint, amazon in (("", True), ("http://127.0.0.1:1", False), ("https://s3.example.org", False)):
        with s3.open_s3(Keys(KEYS), "eu-central-1", endpoint) as service:
            assert service.is_amazon is amazon


def test_a_key_unknown_to_amazon_leads_to_the_endpoint(script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    refused = exceptions.ClientError({"Error": {"Code": "InvalidAccessKeyId"}}, "ListObjectsV2")
    silent = exceptions.EndpointConnectionError(endpoint_url="https://b.s3.amazonaws.com")
    for endpoint, named in (("", True), (address(script.port), False)):
        with s3.open_s3(Keys(KEYS), "eu-central-1", endpoint) as service:
            for error in (service._answered("InvalidAccessKeyId", refused), service._unreached(silent)):
                assert ("set S3_ENDPOINT_URL for another server than Amazon's" in str(error)) is named


@pytest.mark.usefixtures("no_aws_keys")
def test_without_any_key_the_way_to_set_one_is_said(script: Scripted) -> None:
    options = S3Options(bucket=BUCKET, endpoint=address(script.port))
    with s3.opened(options, Keys()) as target, pytest.raises(Refused) as told:
        target.check()
    assert sentence(told) == (
        "S3 can't be used (no access keys are set, and this machine has none of its own); "
        "run `bitnet keys set` for AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `aws configure`."
    )
    assert not script.requests


def test_half_a_key_is_a_mistake_in_the_settings() -> None:
    half = Keys({"AWS_ACCESS_KEY_ID": "AKIDFORTESTS"})
    with pytest.raises(UsageError, match="AWS_SECRET_ACCESS_KEY"), s3.opened(S3Options(bucket=BUCKET), half):
        pass


@pytest.mark.parametrize("endpoint", ["example.org", "ftp://example.org", "http://", "http://[", "http://a b"])
def test_an_address_that_is_none_is_refused(endpoint: str) -> None:
    with (
        pytest.raises(BitnetError) as told,
        s3.opened(S3Options(bucket=BUCKET, endpoint=endpoint), Keys(KEYS)) as one,
    ):
        one.put("x", b"1")
    assert "S3_ENDPOINT_URL" in sentence(told)


def test_an_address_where_nobody_answers_is_named_by_its_setting() -> None:
    with (
        pytest.raises(Unreachable, match="check that S3_ENDPOINT_URL is right and its server runs"),
        s3.opened(S3Options(bucket=BUCKET, endpoint=address(1)), Keys(KEYS)) as target,
    ):
        target.put("x", b"1")


@pytest.mark.parametrize("bucket", ["a/b", "", "UPPER case", "../x"])
def test_a_bucket_that_can_have_no_such_name_is_refused(script: Scripted, bucket: str) -> None:
    script.replies = [error("NoSuchBucket", status=404)]
    options = S3Options(bucket=bucket, endpoint=address(script.port))
    with s3.opened(options, Keys(KEYS)) as target, pytest.raises(Refused) as told:
        target.put("x", b"1")
    assert ";" in sentence(told)


def test_a_bucket_given_as_an_address_is_told_what_to_leave_out() -> None:
    options = S3Options(bucket="s3://mine/folder", endpoint=address(1))
    with s3.opened(options, Keys(KEYS)) as target, pytest.raises(Refused, match=r"^S3_BUCKET .* without s3://"):
        target.check()


@pytest.mark.usefixtures("no_aws_keys")
def test_a_profile_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "gone")
    with pytest.raises(Refused, match="gone"), s3.opened(S3Options(bucket=BUCKET), Keys()):
        pass


def test_a_bucket_whose_name_is_taken_is_not_created(script: Scripted) -> None:
    script.replies = [error("", status=404), error("BucketAlreadyExists", status=409)]
    with pytest.raises(Refused, match=r"choose another name \(S3_BUCKET\)"):
        s3.create(S3Options(bucket=BUCKET, endpoint=address(script.port)), Keys(KEYS))
    assert [one.method for one in script.requests] == ["HEAD", "PUT"]


@pytest.mark.parametrize(
    ("region", "told"), [("us-east-1", {}), ("eu-north-1", {"LocationConstraint": "eu-north-1"})]
)
def test_amazon_is_told_in_which_region_a_bucket_is_to_be(region: str, told: dict[str, str]) -> None:
    with s3.open_s3(Keys(KEYS), region, "") as amazon, s3.open_s3(Keys(KEYS), region, address(1)) as other:
        assert amazon.location.get("CreateBucketConfiguration", {}) == told
        assert other.location == {}


def test_ctrl_c_during_a_silent_request_stops() -> None:
    """It is raised by the handler of a signal, wherever the main thread is: here inside a read from the socket."""

    def stop(*_: object) -> None:
        raise Stopped("Stopped.")

    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        s3.opened(S3Options(bucket=BUCKET, endpoint=address(silent.getsockname()[1])), Keys(KEYS)) as target,
    ):
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        try:
            with pytest.raises(Stopped):
                target.get("x")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
