"""The login servers of Microsoft, Google, Dropbox and Box: tokens, device codes and login pages as RFC 6749, 7636 and
8628 and the vendors describe them."""

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.storage.fakes.replies import json_reply
from tests.storage.tls_proxy import Reply, Request

HOSTS = (
    *("login.microsoftonline.com", "oauth2.googleapis.com", "accounts.google.com"),
    *("api.dropboxapi.com", "www.dropbox.com", "api.box.com", "account.box.com"),
)
TOKEN = {
    "login.microsoftonline.com": "/oauth2/v2.0/token",
    "oauth2.googleapis.com": "/token",
    "api.dropboxapi.com": "/oauth2/token",
    "api.box.com": "/oauth2/token",
}
DEVICE = {"login.microsoftonline.com": "/oauth2/v2.0/devicecode", "oauth2.googleapis.com": "/device/code"}
PAGES = {"accounts.google.com", "www.dropbox.com", "account.box.com"}
DEVICE_SCOPES = {
    "oauth2.googleapis.com": {"https://www.googleapis.com/auth/drive.file"},
    "login.microsoftonline.com": {"Files.ReadWrite", "offline_access"},
}


@dataclass
class Device:
    """A device code: `state` is what the token address answers as long as nobody has approved."""

    user_code: str
    state: str = "authorization_pending"


@dataclass
class Identity:
    """One app at one of the servers, and what its user has allowed."""

    client_id: str = "the-client"
    client_secret: str = ""
    refresh_tokens: set[str] = field(default_factory=set)
    rotates: bool = False
    """Whether a refresh token is worthless after its use."""
    seconds: float = 3600.0
    devices_allowed: bool = True
    interval: int = 5
    access: dict[str, float] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    """Forms of the token address, oldest first."""

    def accepts(self, request: Request) -> bool:
        """Whether a request to the service carries a good access token."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        return kind == "Bearer" and self.access.get(token, 0.0) > time.monotonic()

    def answer(self, request: Request) -> Reply | None:
        """The reply of a login server; None for a request to another host."""
        if request.host not in TOKEN and request.host not in PAGES:
            return None
        path = request.path
        if request.host == "login.microsoftonline.com":
            path = f"/{path.split('/', 2)[2]}"
        if request.method != "POST" or request.headers.get("content-type") != "application/x-www-form-urlencoded":
            return json_reply(405, {"error": "invalid_request"})
        if path == TOKEN.get(request.host):
            self.asked.append(request.form())
            return self._token(request.form())
        if path == DEVICE.get(request.host):
            return self._device(request)
        return json_reply(404, {"error": "invalid_request"})

    def _token(self, form: dict[str, str]) -> Reply:
        if form.get("client_id") != self.client_id:
            return json_reply(
                401, {"error": "invalid_client", "error_description": "The OAuth client was not found."}
            )
        if (self.client_secret or "client_secret" in form) and form.get("client_secret") != self.client_secret:
            return json_reply(401, {"error": "invalid_client", "error_description": "Unauthorized"})
        match form.get("grant_type"):
            case "refresh_token":
                return self._refresh(form.get("refresh_token", ""))
            case "authorization_code":
                return self._code(form)
            case "urn:ietf:params:oauth:grant-type:device_code":
                return self._poll(form.get("device_code", ""))
        return json_reply(400, {"error": "unsupported_grant_type"})

    def _refresh(self, token: str) -> Reply:
        if token not in self.refresh_tokens:
            return json_reply(400, {"error": "invalid_grant", "error_description": f"{token} has been revoked."})
        if not self.rotates:
            return self._grant()
        self.refresh_tokens.discard(token)
        return self._grant(refresh=True)

    def _code(self, form: dict[str, str]) -> Reply:
        asked = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if (
            asked is None
            or asked["redirect_uri"] != form.get("redirect_uri")
            or asked.get("code_challenge") != challenge
            or not 43 <= len(form.get("code_verifier", "")) <= 128
        ):
            return json_reply(400, {"error": "invalid_grant", "error_description": "Malformed auth code."})
        return self._grant(refresh=True)

    def _poll(self, code: str) -> Reply:
        device = self.devices.get(code)
        if device is None:
            return json_reply(400, {"error": "invalid_grant"})
        if device.state == "approved":
            del self.devices[code]
            return self._grant(refresh=True)
        statuses = {"authorization_pending": 428, "slow_down": 403, "access_denied": 403}
        reply = json_reply(statuses.get(device.state, 400), {"error": device.state})
        if device.state == "slow_down":
            device.state = "authorization_pending"
        return reply

    def _device(self, request: Request) -> Reply:
        form = request.form()
        if form.get("client_id") != self.client_id:
            return json_reply(
                401, {"error": "invalid_client", "error_description": "The OAuth client was not found."}
            )
        if not self.devices_allowed:
            return json_reply(401, {"error": "invalid_client", "error_description": "Invalid client type."})
        if not form.get("scope") or not set(form["scope"].split()) <= DEVICE_SCOPES[request.host]:
            return json_reply(400, {"error": "invalid_scope"})
        code, device = secrets.token_urlsafe(20), Device(f"ABC-{secrets.randbelow(1000):03}")
        self.devices[code] = device
        address = "verification_url" if "google" in request.host else "verification_uri"
        given = {"device_code": code, "user_code": device.user_code, address: "https://example.com/device"}
        return json_reply(200, {**given, "expires_in": 900, "interval": self.interval})

    def _grant(self, *, refresh: bool = False) -> Reply:
        token = secrets.token_urlsafe(20)
        self.access[token] = time.monotonic() + self.seconds
        given: dict[str, Any] = {"access_token": token, "token_type": "Bearer", "expires_in": int(self.seconds)}
        if refresh:
            given["refresh_token"] = secrets.token_urlsafe(20)
            self.refresh_tokens.add(given["refresh_token"])
        return json_reply(200, given)

    def consent(self, url: str, *, declined: bool = False) -> str:
        """What a person does on the login page of this address: where the browser is sent to."""
        asked = {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
        assert urlsplit(url).hostname in PAGES, url
        assert asked["client_id"] == self.client_id, url
        assert asked["response_type"] == "code", url
        assert asked["code_challenge_method"] == "S256", url
        back = urlsplit(asked["redirect_uri"])
        assert back.scheme == "http", url
        assert back.hostname in ("127.0.0.1", "localhost"), url
        given = {"error": "access_denied"} if declined else {"code": secrets.token_urlsafe(20)}
        if not declined:
            self.codes[given["code"]] = asked
        return f"{asked['redirect_uri']}?{urlencode({**given, 'state': asked['state']})}"
