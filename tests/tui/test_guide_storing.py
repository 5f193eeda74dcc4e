"""The guide's step "Storage" in words: addresses, fields, what a test found, and keys that are missing."""

import pytest

from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.targets import STORAGE_BACKENDS
from bitnet_core.storage.catalog import KINDS
from bitnet_core.text import wrap
from bitnet_tui.labels import label
from bitnet_tui.view.guide import addresses, doubts, storing, teachers
from bitnet_tui.view.guide.draft import BACKEND, Draft, settings
from bitnet_tui.view.guide.teachers import Found
from bitnet_tui.view.guide.words import about, plain
from bitnet_tui.view.key_rows import NO_VAULT, THE_VAULT
from bitnet_tui.view.spans import unstyled


@pytest.mark.parametrize(
    ("typed", "scheme"),
    [
        ("127.0.0.1", "http://"),
        ("127.0.0.1:18733", "http://"),
        ("10.0.0.5/v1", "http://"),
        ("[::1]:8000/v1", "http://"),
        ("Localhost", "http://"),
        ("my-box:8000/v1", "http://"),
        ("my-box", "http://"),
        ("gpu.local:8000", "http://"),
        ("s3.example.org:9000", "https://"),
        ("8.8.8.8:8000", "https://"),
        ("[2606:4700::1111]:8000", "https://"),
        ("s3.example.org:443", "https://"),
        ("10.0.0.5:443", "https://"),
        ("s3.eu-west-1.example.org", "https://"),
        ("cloud.example.org/remote.php/dav", "https://"),
        ("münchen.example", "https://"),
        *(
            (typed, "")
            for typed in ("", "http://x", "HTTPS://x", "ftp://x", "http:/x", "http:", "me:pw@x", "two words")
        ),
    ],
)
def test_an_address_without_a_scheme_gets_the_likely_one(typed: str, scheme: str) -> None:
    assert addresses.scheme(typed) == scheme
    assert addresses.scheme(f"{scheme}{typed}") == "" or not scheme


@pytest.mark.parametrize("place", [NO_VAULT, THE_VAULT, "the OS keyring"])
def test_the_hint_of_each_field_has_room_in_its_two_lines(place: str) -> None:
    kept = [
        teachers.key_hint(origin, end, place, "Create", typed=typed)
        for origin, end, typed in (("", None, False), ("", None, True), ("vault (locked)", "wxyz", False))
    ]
    for backend in STORAGE_BACKENDS:
        for name in storing.fields(backend):
            more = kept if REGISTRY[name].secret else [addresses.ADDED] if addresses.is_address(name) else [""]
            for one in more:
                assert len(wrap(f"Enter continues. {storing.what(name, backend)} {one}".strip(), 76)) <= 2, name


def _failed(problem: str, backend: str, **values: str) -> Found:
    draft = Draft().having(BACKEND, backend)
    for name, value in values.items():
        draft = draft.having(name, value)
    return storing.failed(problem, draft)


@pytest.mark.parametrize("backend", STORAGE_BACKENDS)
def test_a_form_begins_with_what_has_to_be_filled_in_and_has_no_two_fields_of_one_label(backend: str) -> None:
    fields = storing.fields(backend)
    needs = KINDS[backend].needs
    assert set(fields[: len(needs)]) == set(needs)
    server = {"s3": "S3_ENDPOINT_URL", "dynamodb": "DYNAMO_ENDPOINT_URL"}.get(backend)
    assert server is None or fields[len(needs)] == server
    may_stay = [
        bool(REGISTRY[name].default) or storing.placeholder(name, backend).startswith("empty =")
        for name in fields[len(needs) :]
        if name != server
    ]
    if "AWS_SESSION_TOKEN" in fields:
        assert (fields[-1], may_stay.pop()) == ("AWS_SESSION_TOKEN", False)
    assert may_stay == sorted(may_stay)
    assert len({label(name) for name in fields}) == len(fields)


@pytest.mark.parametrize(
    ("backend", "name", "said"),
    [
        ("s3", "S3_BUCKET", "needed"),
        ("s3", "S3_ENDPOINT_URL", "empty = AWS"),
        ("s3", "S3_PREFIX", ""),
        ("s3", "AWS_DEFAULT_REGION", "such as eu-central-1"),
        ("s3", "AWS_SESSION_TOKEN", "only for temporary keys"),
        ("amplify", "S3_BUCKET", "empty = that of the app"),
        ("dynamodb", "S3_BUCKET", "empty = all in the table"),
        ("dynamodb", "DYNAMO_REGION", "empty = same as “Region”"),
    ],
)
def test_an_empty_field_says_what_that_means(backend: str, name: str, said: str) -> None:
    assert storing.placeholder(name, backend) == said


def test_a_refused_sign_in_leads_to_the_password():
    problem = "Signing in failed; check WEBDAV_USERNAME and WEBDAV_PASSWORD."
    assert _failed(problem, "webdav").field == "WEBDAV_PASSWORD"


def test_a_server_of_ones_own_that_is_not_found_leads_to_the_endpoint_unless_there_is_one():
    problem = "S3 can't be reached (x); check AWS_DEFAULT_REGION, or set S3_ENDPOINT_URL for another server."
    assert _failed(problem, "s3", AWS_DEFAULT_REGION="eu-north-1").field == "S3_ENDPOINT_URL"
    assert _failed(problem, "s3").field == "S3_ENDPOINT_URL"
    assert _failed(problem, "s3", S3_ENDPOINT_URL="https://s3.example").field == "AWS_DEFAULT_REGION"


def test_a_value_that_the_sentence_quotes_leads_to_its_field():
    problem = (
        "S3 can't be used (Provided region_name 'http://x:1' is no region); check that S3_ENDPOINT_URL is right."
    )
    given = {"AWS_DEFAULT_REGION": "http://x:1", "S3_ENDPOINT_URL": "http://y:1"}
    assert _failed(problem, "s3", **given).field == "AWS_DEFAULT_REGION"
    assert _failed(problem, "s3", S3_ENDPOINT_URL="http://y:1").field == "S3_ENDPOINT_URL"


def test_what_a_target_lacks_can_be_created_from_its_form():
    folder = "/mnt/disk/copy is not there; mount its disk, or create its folder."
    draft = Draft().having(BACKEND, "local").having("STORAGE_LOCAL_DIR", "/mnt/disk/copy")
    assert storing.failed(folder, draft).offer == "Create the folder"
    assert unstyled(*storing.failed(folder, draft).lines).endswith("; mount its disk, or press “Create the folder”.")
    question, why, *_ = storing.create_question(draft)
    assert (question, "mount" in why) == ("Create the folder /mnt/disk/copy?", True)
    missing = "Supabase refuses looking for the bucket runs (Bucket not found); check SUPABASE_BUCKET."
    found = _failed(missing, "supabase")
    assert (found.offer, found.field) == ("Create the bucket", "")
    assert unstyled(*found.lines).endswith("(Bucket not found); press “Create the bucket”, or correct “Bucket”.")
    assert "at Supabase" in storing.create_question(draft.having(BACKEND, "supabase"))[1]
    assert _failed("There is no folder at http://x; correct WEBDAV_URL.", "webdav").offer.startswith("Go to ")


def test_a_target_out_of_reach_says_that_its_keys_were_not_checked():
    found = _failed("S3 can't be reached (Could not connect to b.s3.x); check AWS_DEFAULT_REGION.", "s3")
    assert unstyled(*found.lines).endswith("check “Region”. The keys were not checked.")
    assert (found.why, found.offer) == ("Could not connect to b.s3.x", "Go to Region")
    assert "keys" not in unstyled(*_failed("x can't be reached.", "rclone").lines)


@pytest.mark.parametrize("backend", STORAGE_BACKENDS)
def test_a_target_lacks_no_key_once_all_are_there_and_only_its_own(backend):
    draft = Draft({"STORAGE_BACKEND": backend, "WEBDAV_USERNAME": "me"})
    keys = storing.key_names(backend)
    assert doubts.missing_keys(draft, keys) == ()
    missing = doubts.missing_keys(draft, ())
    assert set(missing) <= set(keys)
    assert bool(missing) == bool(keys)


def test_a_limit_that_limits_nobody_is_not_said():
    assert about("BUDGET_TOKENS").endswith(" A whole number of at least 1.")
    assert about("MINI_DIM").endswith(" A whole number from 64 to 65,536.")


def test_a_form_does_not_say_that_its_values_are_from_a_command_line():
    said = plain("S3_ENDPOINT_URL=foo (command line) is not allowed: it must be an address.")
    assert said == "“Endpoint” = foo is not allowed: it must be an address."


def test_a_target_that_is_not_known_to_work_is_told_of_once_its_experiment_is_made() -> None:
    draft = Draft({BACKEND: "s3", "S3_BUCKET": "runs"})
    works, fails = Found(()), Found((), why="no such bucket")
    assert storing.untried(draft, None, {}).startswith("The storage target was not tested. In the experiment, W ")
    assert storing.untried(draft, fails, {}).startswith("The test of the storage target failed: no such bucket. In ")
    assert storing.untried(draft, works, {}) == storing.untried(Draft(), None, {}) == ""
    copied = settings(draft)
    assert storing.untried(draft, None, copied) == "", "its source uses it"
    assert storing.untried(draft.having("S3_BUCKET", "others"), None, copied)
