"""Notes that are pasted into the guide, as people write them: the labels of their lines are those of its forms."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bitnet_core.settings.registry import SECRET_NAMES
from bitnet_core.storage.catalog import KINDS
from bitnet_tui.labels import label
from bitnet_tui.view.guide import labelled, pasted, storing
from bitnet_tui.view.guide.draft import BACKEND, EMBEDDED, HERE, TEACHER, Draft
from tests.tui.guides import KEY, taken

_A, _M, _K = "http://lab:8000/v1", "qwen2.5", "k-17abc"
_E, _B, _U, _P = "http://s3.lab:9000", "runs", "AKUSER", "pAss/99+x"
_OF_TEACHER = [
    "teacher address: {A}\nteacher model: {M}\nteacher key: {K}",
    "Teacher URL = {A}\nTeacher name = {M}\nTeacher token = {K}",
    "teacher's address: {A}\nteacher's model: {M}\nteacher's key: {K}",
    "Teacher server: {A}\nTeacher model name: {M}\nTeacher API key: {K}",
    "teacher - {A}\nmodel - {M}\nkey - {K}",
    "teacher address {A}\nteacher model {M}\nteacher key {K}",
    "teacher: {A} {M}\nkey: {K}",
    "address: {A}\r\nmodel: {M}\r\nkey: {K}\r\n",
    "* **Address**: {A}\n* **Model**: {M}\n* **Key**: {K}",
    "**Address:** {A}\n**Model:** `{M}`\n**Key:** **{K}**",
    "- `address`: `{A}`\n- `model`: `{M}`\n- `key`: `{K}`",
    "1. address: {A}\n2. model: {M}\n3. key: {K}",
    "1) address: {A}\n2) model: {M}\n3) key: {K}",
    "- [ ] address: {A}\n- [ ] model: {M}\n- [x] key: {K}",
    "## Teacher\nURL: {A}\nmodel: {M}\nkey: {K}",
    "## Teacher: {A}\nmodel: {M}\nkey: {K}",
    "Teacher:\n  url: {A}\n  model: {M}\n  key: {K}",
    "[teacher]\nurl = {A}\nmodel = {M}\nkey = {K}",
    "The teacher\n\naddress -> {A}\nmodel => {M}\nkey → {K}",
    'address:   "{A}",\nmodel:     "{M}",\nkey:       "{K}",',
    "| address | {A} |\n| model | {M} |\n| key | {K} |",
    "| Setting | Value |\n|---|:--|\n| **Address** | {A} |\n| Model | {M} |\n| Key | `{K}` |",
    "> address: <{A}>\n> model: {M}\n> key: {K}",
    "address is {A}\nmodel is {M}\nkey is {K}, ask Jo.",
    "LLM url: {A}\nLLM model: {M}\nLLM key: {K}",
    "model server: {A}\nmodel id: {M}\naccess token: {K}",
    "Address (teacher): {A}\nModel (teacher): {M}\nKey (teacher): {K}",
    "my teacher address: {A}\nmy model: {M}\nmy key: {K}",
    "the address： {A}\nthe model： {M}\nthe key： {K}",
    "Address:\n{A}\nModel:\n{M}\nKey:\n{K}",
    "address: {A} (in the lab)\nmodel: {M}  # the small one\nkey: '{K}' (until June)",
    "address: {A}; model: {M}; key: {K}",
    "Teacher: {A}, model {M}, key {K}",
    "🔗 address: {A}\n🤖 model: {M}\n🔑 key: {K}",
    "teacher address / model: {A} / {M}\nteacher key: {K}",
    "address={A} model={M} key={K}",
    "teacher address: {A} model: {M} API key: {K}",
    "curl {A}/chat/completions -H 'Authorization: Bearer {K}' -d '{{\"model\": \"{M}\"}}'",
    'client = OpenAI(base_url="{A}", api_key="{K}")\nclient.chat.completions.create(model="{M}")',
    "set CUSTOM_BASE_URL={A}\r\nset CUSTOM_MODEL={M}\r\nset CUSTOM_API_KEY={K}",
    '$env:CUSTOM_BASE_URL = "{A}"\n$env:CUSTOM_MODEL = "{M}"\n$env:CUSTOM_API_KEY = "{K}"',
    "environment:\n  - CUSTOM_BASE_URL={A}\n  - CUSTOM_MODEL={M}\n  - CUSTOM_API_KEY={K}",
]
_OF_TARGET = [
    "s3 endpoint: {E}\ns3 bucket: {B}\ns3 user: {U}\ns3 password: {P}",
    "s3 endpoint {E}\ns3 bucket {B}\ns3 user {U}\ns3 password {P}",
    "S3 address = {E}\nS3 bucket = {B}\nS3_USER = {U}\nS3_PASS = {P}",
    "S3:\n- endpoint: {E}\n- bucket: {B}\n- access key: {U}\n- secret key: {P}",
    "## S3 storage\n\nendpoint: {E}\nbucket: {B}\naccess key: {U}\nsecret: {P}",
    "S3 storage\nendpoint {E}\nbucket {B}\naccess key {U}\nsecret {P}",
    "s3 user/password: {U}/{P}\ns3 endpoint: {E}\nbucket: {B}",
    "s3 user / password: {U} / {P}\ns3 endpoint: {E}\nbucket: {B}",
    "endpoint: {E}\nbucket: {B}\naccess key and secret key: {U} {P}",
    "endpoint: {E}\nbucket: {B}\naccess/secret: {U}, {P}",
    "minio endpoint: {E}\nminio bucket: {B}\nminio user: {U}\nminio password: {P}",
    "MinIO: {E}\nbucket: {B}\nlogin: {U}\npassword: {P}",
    "storage endpoint: {E}\nstorage bucket: {B}\nstorage user: {U}\nstorage password: {P}",
    "storage: S3\nendpoint: {E}\nbucket: s3://{B}\naccess key: {U}\nsecret: {P}",
    "bucket: {B}\nserver: {E}\nID: {U}\nsecret: {P}",
    "AccessKeyId: {U}\nSecretAccessKey: {P}\nBucket: {B}\nEndpoint: {E}",
    "s3.endpoint: {E}\ns3.bucket: {B}\ns3.access_key: {U}\ns3.secret_key: {P}",
    "s3:\n  endpoint: {E}\n  bucket: {B}\n  credentials:\n    access_key: {U}\n    secret_key: {P}",
    "[default]\naccess_key = {U}\nsecret_key = {P}\nhost_base = {E}\nbucket = {B}",
    "- `S3_ENDPOINT_URL={E}`\n- `S3_BUCKET={B}`\n- AWS_ACCESS_KEY_ID={U}\n- AWS_SECRET_ACCESS_KEY={P}",
]
_OF_BOTH = [
    f"{_OF_TEACHER[0]}\n\n{_OF_TARGET[0]}",
    f"{_OF_TARGET[4]}\n\n{_OF_TEACHER[14]}",
    "Teacher:\naddress: {A}\nmodel: {M}\nkey: {K}\nS3:\naddress: {E}\nbucket: {B}\nkey: {U}\nsecret: {P}",
    "# S3\naddress: {E}\nbucket: {B}\nuser: {U}\npassword: {P}\n# Teacher\naddress: {A}\nmodel: {M}\nkey: {K}",
    "**Teacher**\nurl: {A}\nmodel: {M}\nkey: {K}\n*Storage*\nurl: {E}\nbucket: {B}\naccess key: {U}\nsecret key: {P}",
    "[teacher]\nurl={A}\nmodel={M}\nkey={K}\n[s3]\nurl={E}\nbucket={B}\naccess key={U}\nsecret={P}",
    "Teacher\n-------\nurl: {A}\nmodel: {M}\nkey: {K}\n\nS3\n==\nurl: {E}\nbucket: {B}\nuser: {U}\npassword: {P}",
    "bucket: {B}\ns3 endpoint: {E}\ns3 key: {U}\ns3 secret: {P}\nteacher address: {A}\nteacher key: {K}\nmodel: {M}",
    "teacher address: {A}\ns3 endpoint: {E}\nteacher key: {K}\ns3 user: {U}\nmodel: {M}\ns3 pass: {P}\nbucket: {B}",
    "TEACHER\naddress {A}\nmodel {M}\nkey {K}\nSTORAGE\nendpoint {E}\nbucket {B}\nuser {U}\npassword {P}",
    "Teacher: {A}\nModel: {M}\nKey: {K}\nS3: {E}\nBucket: {B}\nUser: {U}\nPassword: {P}",
    "Our teacher runs in the lab.\nteacher address: {A}\nteacher model: {M}\nteacher key: {K}\nResults go to MinIO:\n"
    "endpoint: {E}\nbucket: {B}\naccess key: {U}\nsecret: {P}\nAsk Jo if it fails.",
]


def _written(note: str) -> str:
    return note.format(A=_A, M=_M, K=_K, E=_E, B=_B, U=_U, P=_P)


@pytest.mark.parametrize("note", [*_OF_TEACHER, *_OF_TARGET, *_OF_BOTH])
def test_a_note_as_people_write_them_fills_the_forms(note: str) -> None:
    for step in ("machine", "teacher", "storage"):
        found = pasted.read(_written(note), draft=Draft(step=step), bare=True)
        assert found is not None, step
        said = found.words(200)
        assert not any(secret in said for secret in (_K, _U, _P)), said
        draft, keys = pasted.with_pasted(Draft(step=step), {}, found)
        if note in _OF_TARGET:
            assert draft.teacher.name == EMBEDDED
        else:
            assert (draft.teacher.name, draft.address, draft.model) == ("custom", _A, _M), step
            assert keys.pop("CUSTOM_API_KEY") == _K
        if note in _OF_TEACHER:
            assert (draft.backend, keys) == ("", {})
        else:
            assert (draft.backend, draft.get("S3_ENDPOINT_URL"), draft.get("S3_BUCKET")) == ("s3", _E, _B), step
            assert keys == {"AWS_ACCESS_KEY_ID": _U, "AWS_SECRET_ACCESS_KEY": _P}


@pytest.mark.parametrize(
    ("note", "teacher", "address"),
    [
        ("vLLM address: {A}\nvLLM model: {M}\nvLLM key: {K}", "vllm", _A),
        ("Ollama server:\n- url: {A}\n- model: {M}\n- key: {K}", "ollama", _A),
        ("Teacher (llama.cpp)\nurl: {A}\nmodel: {M}\nkey: {K}", "llamacpp", _A),
        ("OpenAI\nurl: {A}\nmodel: {M}\nkey: {K}", "custom", _A),
        ("## DeepSeek\nmodel: {M}\nAPI key: {K}", "deepseek", ""),
    ],
)
def test_a_heading_or_a_label_names_the_provider(note: str, teacher: str, address: str) -> None:
    draft, keys = taken(_written(note), Draft(step="teacher"))
    assert (draft.teacher.name, draft.address, draft.model) == (teacher, address, _M)
    assert list(keys.values()) == [_K]


def test_what_is_not_understood_is_said_and_nothing_that_may_be_a_key_is_shown() -> None:
    found = pasted.read(f"teacher address: {_A}\nteacher floor: 2\nuser/password: {_K}\nsee there", draft=Draft())
    assert found is not None
    assert found.words(200) == "Taken: Address. Not taken: teacher floor and 2 other lines."
    for note in (
        f"The teacher is at {_A} and its key is {KEY}",
        f"teacher: {KEY}",
        f"model: {KEY}\nteacher address: {_A}",
        f"teacher address: {_A}\n{KEY}: the key",
        f"teacher address: {_A}\n{KEY[3:]}: the key",
        f"S3: {KEY}\nbucket: runs",
        f"teacher address: http://me:{KEY}@lab:8000/v1\nkey: {_K}",
        f"address={_A} floor=2 key={KEY[3:]}",
        f"bucket: runs, secret {KEY[3:]}",
    ):
        found = pasted.read(note, draft=Draft(step="teacher"), bare=True)
        assert found is None or KEY[3:12] not in f"{found.values} {found.words(200)}", note


def test_a_line_with_a_key_in_it_is_left_to_no_field_that_shows_it() -> None:
    for text, names in (
        (f"Jo says that its key is {KEY[3:]}, or was", ("key",)),
        (f"vllm serve qwen --api-key {KEY[3:]} --port 8000", ("api-key",)),
        (f"Hi! The model's password {KEY[3:]} is new.", ("password",)),
    ):
        assert pasted.read(text) == pasted.Pasted({}, {}, names)
    for text in ("the key is in the safe", "keys: 12", "token budget 100k", "secret sauce"):
        assert pasted.read(text) is None


_PIECES = [
    "teacher",
    "key",
    "s3",
    "bucket",
    "address",
    _A,
    ":",
    "=",
    "-",
    "**",
    "`",
    "|",
    "\n",
    " ",
    ",",
    "(",
    "#",
    "is",
]


@settings(max_examples=150, deadline=None)
@example(["a,b", "\n", '"c', "\n"])
@given(st.lists(st.sampled_from([*_PIECES, KEY, "/", "[s3]", "1.", "curl ", "'", '"', "\t", "\r"]), max_size=30))
def test_whatever_is_pasted_a_key_is_not_named_in_what_is_said(pieces: list[str]) -> None:
    found = pasted.read(" ".join(pieces), draft=Draft(step="storage"), bare=True)
    assert found is None or KEY[3:18] not in found.words(200)


def test_the_file_of_an_aws_key_is_read_by_its_columns() -> None:
    rows = f'\ufeff"User name","Access key ID","Secret access key"\r\n"jo","{_U}","{_P}"\r\n'
    draft, keys = taken(rows, Draft(step="storage"))
    assert keys == {"AWS_ACCESS_KEY_ID": _U, "AWS_SECRET_ACCESS_KEY": _P}
    assert draft.backend == "s3"


@pytest.mark.parametrize("none", ["none", "-", "n/a", "not needed", "no key", "(none)", "None, it is local"])
@pytest.mark.parametrize("named", ["key: ", "CUSTOM_API_KEY="])
def test_a_word_for_no_key_is_none(none: str, named: str) -> None:
    found = pasted.read(f"address: lab:8000/v1\nmodel: llama\n{named}{none}", draft=Draft(step="teacher"))
    assert found is not None
    assert found.words(60) == "Taken from what was pasted: Address and Model."
    stored = pasted.read("STORAGE_BACKEND=s3\nS3_BUCKET=runs", draft=Draft(step="storage"))
    assert stored is not None
    assert stored.words(70) == "Taken from what was pasted: Storage target and Bucket.", "“Target” is no field"
    draft, keys = pasted.with_pasted(Draft(step="teacher"), {"CUSTOM_API_KEY": "of another server"}, found)
    assert (draft.address, keys) == ("http://lab:8000/v1", {"CUSTOM_API_KEY": ""})
    _, keys = taken(f"model: m\nkey: sk{none}", Draft(step="teacher").having(TEACHER, "custom"))
    assert keys == {"CUSTOM_API_KEY": f"sk{none}"}, "a key may end so"


@pytest.mark.parametrize(
    "note",
    [
        "address: http://lab:8000/v1\nmodel: llama\nkey: k1",
        "Base URL = http://lab:8000/v1\rModel name = 'llama'\rAPI key = k1",
        "- endpoint:http://lab:8000/v1\n- MODEL:llama\n- Token:k1",
        "host: lab:8000/v1\nmodel: llama\nsecret: k1\nprovider: Custom",
        "Provider = Other server\nAddress\thttp://lab:8000/v1\nModel\tllama\nKey\tk1",
        "TEACHER_BASE_URL: http://lab:8000/v1\nTEACHER_MODEL: llama\nTEACHER_API_KEY: k1",
        "teacher: http://lab:8000/v1\nmodel name: llama\nkey: k1",
        "server http://lab:8000/v1\nteacher: llama\napi key: k1",
        "address: http://lab:8000/v1\nmodel: llama\nPAT: Bearer k1",
        '{"base_url": "http://lab:8000/v1", "model": "llama", "api_key": "k1", "proxy": null}',
        "{'custom': {'baseURL': 'http://lab:8000/v1', 'model': 'llama', 'apiKey': 'k1'}}",
        '  "base_url": "http:\\/\\/lab:8000/v1",\n  "model": "llama",\n  "api_key": "k1"',
    ],
)
@pytest.mark.parametrize("chosen", ["embedded", "openai", "custom"])
def test_a_note_with_the_labels_of_the_teachers_form_fills_it(note: str, chosen: str) -> None:
    before = Draft(step="teacher").having(TEACHER, chosen)
    draft, keys = taken(note, before)
    assert (draft.teacher.name, draft.address, draft.model) == ("custom", "http://lab:8000/v1", "llama")
    assert keys == {"CUSTOM_API_KEY": "k1"}
    assert draft.get(BACKEND) == HERE


@pytest.mark.parametrize("backend", sorted(KINDS))
def test_a_note_with_the_labels_of_a_targets_form_fills_it_in_any_step(backend: str) -> None:
    names = storing.fields(backend)
    values = {name: f"https://x.example/{name}" if name.endswith("_URL") else f"/v/{name}" for name in names}
    note = "\n".join(f"{label(name).upper()} : {value}" for name, value in values.items())
    draft, keys = taken(note, Draft(step="storage").having(BACKEND, backend))
    assert {**{name: draft.get(name) for name in names if name not in SECRET_NAMES}, **keys} == values
    assert draft.backend == backend


@pytest.mark.parametrize(
    ("note", "step", "backend", "taken"),
    [
        ("endpoint: http://m:9000\nbucket: b\naccess key: A\nsecret: S", "teacher", "s3", "http://m:9000 b A S"),
        ("RootUser: A\nRootPass: S\nURL: http://m:9000\nRegion: eu", "storage", "s3", "A S http://m:9000 eu"),
        ("S3 URL: http://m:9000\nBucket name: b\nS3 key: A\nS3 secret = S", "machine", "s3", "http://m:9000 b A S"),
        (
            "Host: m:9000\nS3 bucket = b\nRegion name: eu\nAWS access key ID: A",
            "storage",
            "s3",
            "http://m:9000 b eu A",
        ),
        ("url: https://x.example/dav\nuser: me\npassword: P", "teacher", "webdav", "https://x.example/dav me P"),
        ("S3: http://m:9000\nbucket lab-bucket\nregion eu-1", "machine", "s3", "http://m:9000 lab-bucket eu-1"),
        ("MinIO m:9000\nS3: lab-bucket", "storage", "s3", "http://m:9000 lab-bucket"),
        ("folder: /mnt/x", "storage", "local", "/mnt/x"),
        ("folder: /mnt/x", "teacher", HERE, None),
        ("user: me", "machine", HERE, None),
    ],
)
def test_a_note_in_other_words_chooses_the_target(note: str, step: str, backend: str, taken: str | None) -> None:
    found = pasted.read(note, draft=Draft(step=step))
    if found is None:
        assert taken is None
        return
    draft, keys = pasted.with_pasted(Draft(step=step), {}, found)
    assert draft.get(BACKEND) == backend
    filled = {name: value for name, value in {**draft.values, **keys}.items() if name != BACKEND}
    assert sorted(filled.values()) == sorted((taken or "").split())


@pytest.mark.parametrize("step", ["machine", "teacher", "storage"])
@pytest.mark.parametrize("teacher_first", [True, False])
def test_a_note_of_teacher_and_target_fills_both(step: str, *, teacher_first: bool) -> None:
    parts = ["The model\nAddress: http://lab:8000/v1\nModel: llama\nKey: k1"]
    parts.insert(teacher_first, "Storage\nEndpoint: http://s3:9000\nBucket: b\nAccess key: A\nSecret key: S")
    draft, keys = taken("\n\n".join(parts), Draft(step=step))
    assert (draft.teacher.name, draft.address, draft.model) == ("custom", "http://lab:8000/v1", "llama")
    assert (draft.backend, draft.get("S3_ENDPOINT_URL"), draft.get("S3_BUCKET")) == ("s3", "http://s3:9000", "b")
    assert keys == {"CUSTOM_API_KEY": "k1", "AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S"}


@pytest.mark.parametrize("step", ["teacher", "storage", "review"])
def test_what_is_the_teachers_goes_to_no_target_wherever_it_is_pasted(step: str) -> None:
    before = Draft(step=step).having(BACKEND, "s3").having("S3_ENDPOINT_URL", "http://m:9000")
    draft, _ = taken("server: http://h:8091/v1", before)
    assert (draft.address, draft.get("S3_ENDPOINT_URL")) == ("http://h:8091/v1", "http://m:9000")
    own = before.having(TEACHER, "custom").having("CUSTOM_BASE_URL", "http://h:8091/api/")
    draft, _ = taken("url: h:8091/api", own)
    assert draft.get("S3_ENDPOINT_URL") == "http://m:9000"
    draft, keys = taken("bucket: b\nmodel: llama\naccess key: A\nsecret: S", before)
    assert (draft.get("S3_BUCKET"), draft.model, len(keys)) == ("b", "llama", 2)


def test_one_line_of_the_teachers_is_taken_in_its_step_whatever_the_target() -> None:
    for backend in ("s3", "webdav"):
        draft = Draft(step="teacher").having(BACKEND, backend).having(TEACHER, "custom")
        assert taken(f"key: {KEY}", draft)[1] == {"CUSTOM_API_KEY": KEY}


def test_of_two_lines_for_one_field_its_own_label_counts_and_the_other_line_is_named() -> None:
    found = pasted.read("Endpoint: http://s3:9000\nBucket: b\nHost: gateway", draft=Draft(step="storage"))
    assert found is not None
    assert found.values == {"S3_ENDPOINT_URL": "http://s3:9000", "S3_BUCKET": "b", BACKEND: "s3"}
    assert found.unknown == ("Host",)
    found = pasted.read("Provider: nobody\nModel: m", draft=Draft(step="teacher"))
    assert found is not None
    assert found.words(48) == f"Taken: Model. Not taken: {label(TEACHER)}."


def test_a_note_of_keys_that_no_field_takes_is_refused_without_showing_them() -> None:
    step = Draft(step="storage").having(BACKEND, "local")
    found = pasted.read(f"folder: /mnt/x\napi key: {KEY}\nsee the wiki\nfloor: 2", draft=step)
    assert found is not None
    assert found.values == {"STORAGE_LOCAL_DIR": "/mnt/x"}
    assert found.words(48) == "Taken: Folder. Not taken: api key, floor and 1 other line."
    assert pasted.read(f"Authorization: Bearer {KEY}") == pasted.Pasted({}, {}, ("Authorization",))
    assert pasted.read(f"secret_key={KEY}") == pasted.Pasted({}, {}, ("secret_key",))
    assert pasted.read(f"App secret: {KEY}") == pasted.Pasted({}, {}, ("App secret",))
    assert labelled.only_secret(f" API key: '{KEY}'\n") == KEY
    assert labelled.only_secret(f"{KEY}:{KEY}") == ""
    assert labelled.only_secret("user-key:xyz") == "", "it is a key as a whole"
    for written in (f"Bearer {KEY}", f"Authorization: Bearer {KEY}", f"pat:{KEY}", f'{{"jwt": "{KEY}"}}'):
        assert labelled.only_secret(written) == KEY
    assert pasted.read("user-key:xyz") == pasted.Pasted({}, {}, ("user-key",))
    assert pasted.read("App password hunter22") == pasted.Pasted({}, {}, ("App password",))
    assert pasted.read('{"a": {"db_pwd": "x"}}') == pasted.Pasted({}, {}, ("db_pwd",))


@pytest.mark.parametrize("written", ["http://lab:8000/v1", "lab:8000/v1"])
def test_lines_without_labels_are_told_by_their_form(written: str) -> None:
    draft = Draft(step="teacher").having(TEACHER, "custom")
    found = pasted.read(f"{written}\r\nllama3:8b\r\n{KEY}\r\n", draft=draft, bare=True)
    assert found is not None
    filled, keys = pasted.with_pasted(draft, {}, found)
    assert (filled.address, filled.model, keys) == ("http://lab:8000/v1", "llama3:8b", {"CUSTOM_API_KEY": KEY})
    only = pasted.read(KEY, draft=draft, bare=True)
    assert only == pasted.Pasted({}, {"TEACHER_API_KEY": KEY})
    found = pasted.read(f"{written}\nllama\n{KEY[5:]}", draft=draft, bare=True)
    assert found == pasted.Pasted({"TEACHER_BASE_URL": "http://lab:8000/v1"}, {}, left=2), "a key of no known form"
    for neither in ("llama", f"see {KEY}", f"http://me:{KEY}@lab/v1", f"{KEY}\n{KEY}2", "one\ntwo", f"{KEY}\n" * 30):
        assert pasted.read(neither, draft=draft, bare=True) is None
    target = Draft(step="storage").having(BACKEND, "s3")
    found = pasted.read("http://m:9000\nAKIA0123456789ABCDEF\nruns", draft=target, bare=True)
    assert found is not None
    assert (found.values["S3_ENDPOINT_URL"], found.keys, found.left) == (
        "http://m:9000", {"AWS_ACCESS_KEY_ID": "AKIA0123456789ABCDEF"}, 1
    )  # fmt: skip
    assert pasted.read("http://m:9000", draft=Draft(step="storage"), bare=True) is None, "of no target"
