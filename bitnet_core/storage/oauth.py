"""Logins by OAuth 2.0: where a service has them, a refresh token into access tokens, and how to get the first one.

Knows nothing of the services' files. A login is by a code on another device (RFC 8628), or by a browser that comes
back to this machine (RFC 8252, with PKCE).
"""

import base64
import hashlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from bitnet_core.errors import UsageError
from bitnet_core.secrets.known import remember
from bitnet_core.settings.storage import BoxOptions, DropboxOptions, GoogleDriveOptions, OneDriveOptions
from bitnet_core.storage.catalog import Kind
from bitnet_core.storage.clients.http import Http, Response
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.redirect import Redirect
from bitnet_core.storage.target import Nonsense, Refused, Unreachable
from bitnet_core.storage.untrusted import text_of
from bitnet_core.text import finite, flat

LOGIN_SECONDS = 600.0
"""How long to wait for the browser."""
_EARLY_SECONDS = 120.0
"""How long before its end an access token is renewed."""
_LONGEST_CODE_SECONDS = 3600.0
_MOST_BYTES = 1 << 16
_LONGEST_WORDS = 300
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_ABOUT_A_LOGIN = "about a login"
_AGAIN = "run `bitnet store login` again"
_TOKEN = re.compile(r"[!-~]+")
"""What an Authorization header can carry."""
_pause = time.sleep

Options = OneDriveOptions | GoogleDriveOptions | DropboxOptions | BoxOptions


@dataclass(frozen=True)
class Service:
    """Where a service's logins are. `client` and `secret` are the settings with the app's id and secret."""

    client: str
    secret: str
    token: str
    device: str = ""
    """The address that gives device codes; empty if there is none."""
    authorize: str = ""
    """The login page; empty if the browser can't come back to this machine."""
    redirect: str = ""
    """Where it comes back to. Port 0 = any; where the app's registration must name the port, it is a fixed one."""
    scope: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    """What the login page needs to give a refresh token."""


SERVICES = {
    "onedrive": Service(
        "ONEDRIVE_CLIENT_ID",
        "ONEDRIVE_CLIENT_SECRET",
        "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
        device="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/devicecode",
        scope="Files.ReadWrite offline_access",
    ),
    # With this scope the app sees only files that it made: the widest that Google's device login gives for Drive.
    "gdrive": Service(
        "GDRIVE_CLIENT_ID",
        "GDRIVE_CLIENT_SECRET",
        "https://oauth2.googleapis.com/token",
        device="https://oauth2.googleapis.com/device/code",
        authorize="https://accounts.google.com/o/oauth2/v2/auth",
        redirect="http://127.0.0.1:0/",
        scope="https://www.googleapis.com/auth/drive.file",
        extra={"access_type": "offline", "prompt": "consent"},
    ),
    "dropbox": Service(
        "DROPBOX_APP_KEY",
        "DROPBOX_APP_SECRET",
        "https://api.dropboxapi.com/oauth2/token",
        authorize="https://www.dropbox.com/oauth2/authorize",
        redirect="http://localhost:53682/",
        extra={"token_access_type": "offline"},
    ),
    "box": Service(
        "BOX_CLIENT_ID",
        "BOX_CLIENT_SECRET",
        "https://api.box.com/oauth2/token",
        authorize="https://account.box.com/api/oauth2/authorize",
        redirect="http://127.0.0.1:53682/",
    ),
}


@dataclass(frozen=True)
class Prompt:
    """What a person has to open, and the code to type there; without a code, the page comes back by itself."""

    url: str
    code: str = ""


class AccessToken:
    """Access tokens from the kind's refresh token, renewed before they end. Safe to use from threads."""

    def __init__(self, kind: Kind, options: Options, keys: Keys) -> None:
        self._app = _App(kind, options, keys)
        self._keys = keys
        self._refresh = keys.get(kind.login)
        if not self._refresh:
            raise UsageError(f"{kind.login} is not set; `bitnet store login` gets it.")
        self._lock = threading.Lock()
        self._value = ""
        self._until = 0.0

    def headers(self, renew: bool) -> Mapping[str, str]:
        """What a request carries; `Http` calls it. Refused, if the login has ended, and Unreachable."""
        with self._lock:
            if renew or not self._value or time.monotonic() > self._until:
                self._renew()
            return {"Authorization": f"Bearer {self._value}"}

    def _renew(self) -> None:
        with Http(self._app.title) as http:
            given = self._app.granted(http, {"grant_type": "refresh_token", "refresh_token": self._refresh})
        newer = text_of(given.get("refresh_token"))
        if newer and newer != self._refresh:
            # First of all: the older one may be worthless from now on.
            remember([newer])
            self._refresh = newer
            self._keys.keep(self._app.kind.login, newer)
        seconds = finite(given.get("expires_in")) or 0.0
        self._value = given["access_token"]
        self._until = time.monotonic() + max(seconds - _EARLY_SECONDS, seconds / 2, 1.0)


def login(kind: Kind, options: Options, keys: Keys, show: Callable[[Prompt], object]) -> str:
    """Let a person log in, whom `show` tells what to open; return the refresh token, which the caller keeps.

    Refused if the person declines, is too late, or the app's registration is wrong. UsageError without its id.
    """
    app = _App(kind, options, keys)
    with Http(app.title) as http:
        if app.service.device:
            code = app.device_code(http)
            if code is not None:
                return app.refresh_token(_by_device(app, http, code, show))
        return app.refresh_token(_by_browser(app, http, show))


class _App:
    """The registered app at its service."""

    def __init__(self, kind: Kind, options: Options, keys: Keys) -> None:
        self.kind = kind
        self.title = kind.title
        self.service = SERVICES[kind.backend]
        self.id = options.app_key if isinstance(options, DropboxOptions) else options.client_id
        if not self.id:
            raise UsageError(f"{self.service.client} is not set; register an app at {kind.title} and set its id.")
        self._tenant = (isinstance(options, OneDriveOptions) and options.tenant) or "common"
        self._secret = keys.get(self.service.secret)

    def ask(self, http: Http, address: str, form: Mapping[str, str]) -> tuple[Response, dict[str, Any]]:
        """The response of one of the service's login addresses, and its JSON. Unreachable while it is busy."""
        secret = {"client_secret": self._secret} if self._secret and address != self.service.device else {}
        url = address.format(tenant=self._tenant)
        response = http.send(
            "POST", url, form={"client_id": self.id, **secret, **form}, authorized=False, most_bytes=_MOST_BYTES
        )
        return response, response.object(_ABOUT_A_LOGIN)

    def granted(self, http: Http, form: Mapping[str, str]) -> dict[str, Any]:
        """What the token address gives, with an access token. Refused if it says no."""
        response, body = self.ask(http, self.service.token, form)
        token = body.get("access_token")
        if response.status == 200 and isinstance(token, str) and _TOKEN.fullmatch(token):
            remember([token])
            return body
        raise self.without_token(response, body, form)

    def without_token(self, response: Response, body: Mapping[str, Any], form: Mapping[str, str]) -> Refused:
        """The error for a response without a token."""
        return self.refused(body, form) if text_of(body.get("error")) else response.nonsense(_ABOUT_A_LOGIN)

    def refused(self, body: Mapping[str, Any], form: Mapping[str, str]) -> Refused:
        """The error for an answer that says why it has no token."""
        words = self._words(body, form)
        if body.get("error") in ("invalid_client", "unauthorized_client"):
            what = f"{self.title} does not accept the app ({words})"
            return Refused(f"{what}; check {self.service.client} and {self.service.secret}.")
        return Refused(f"{self.title}: the login has ended or was refused ({words}); {_AGAIN}.")

    def _words(self, body: Mapping[str, Any], form: Mapping[str, str]) -> str:
        said = [body.get(name) for name in ("error", "error_description")]
        words = flat(": ".join(one for one in said if isinstance(one, str)))
        for hidden in (self._secret, *(form.get(name, "") for name in _HIDDEN)):
            words = words.replace(hidden, "…") if hidden else words
        return words[:_LONGEST_WORDS] or "no reason given"

    def device_code(self, http: Http) -> dict[str, Any] | None:
        """A device code. None if this app can only log in by the browser, as Google decides by the app's type."""
        response, body = self.ask(http, self.service.device, {"scope": self.service.scope})
        if response.status != 200:
            words = self._words(body, {}).lower()
            if self.service.authorize and ("client type" in words or "clients of type" in words):
                return None
            raise self.without_token(response, body, {})
        is_code = all(text_of(body.get(name)) for name in ("device_code", "user_code"))
        if not is_code or not _is_web(_page_of(body)):
            raise response.nonsense("a code for a login")
        return body

    def refresh_token(self, given: Mapping[str, Any]) -> str:
        token = text_of(given.get("refresh_token"))
        if not token:
            raise Refused(f"{self.title} gave no refresh token; allow the app offline access, and {_AGAIN}.")
        remember([token])
        return token


_HIDDEN = ("refresh_token", "code", "code_verifier", "device_code")


def _by_device(app: _App, http: Http, code: dict[str, Any], show: Callable[[Prompt], object]) -> dict[str, Any]:
    url, device, typed = _page_of(code), code["device_code"], code["user_code"]
    remember([device])
    wait = min(max(finite(code.get("interval")) or 5.0, 1.0), 60.0)
    ends = time.monotonic() + min(finite(code.get("expires_in")) or LOGIN_SECONDS, _LONGEST_CODE_SECONDS)
    show(Prompt(flat(url), flat(typed)))
    form = {"grant_type": _DEVICE_GRANT, "device_code": device}
    while time.monotonic() < ends:
        _pause(wait)
        try:
            response, body = app.ask(http, app.service.token, form)
        except (Nonsense, Unreachable) as error:
            after = error.after if isinstance(error, Unreachable) else None
            wait = min(max(wait * 2, after or 0.0), 60.0)
            continue
        if response.status == 200 and isinstance(body.get("access_token"), str):
            return body
        error_code = body.get("error")
        if error_code == "slow_down":
            wait = min(wait + 5, 60.0)
        elif error_code in ("access_denied", "authorization_declined"):
            raise Refused(f"{app.title}: the login was declined; {_AGAIN}.")
        elif error_code in ("expired_token", "code_expired"):
            break
        elif error_code != "authorization_pending":
            raise app.without_token(response, body, form)
    raise Refused(f"{app.title}: nobody logged in while the code was good; {_AGAIN}.")


def _by_browser(app: _App, http: Http, show: Callable[[Prompt], object]) -> dict[str, Any]:
    service, state, verifier = app.service, secrets.token_urlsafe(32), secrets.token_urlsafe(64)
    remember([verifier])  # and not the state: people are shown the address that holds it
    digest = hashlib.sha256(verifier.encode()).digest()
    with Redirect(service.redirect, state) as redirect:
        query = {
            "client_id": app.id,
            "response_type": "code",
            "redirect_uri": redirect.url,
            "state": state,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
            **({"scope": service.scope} if service.scope else {}),
            **service.extra,
        }
        show(Prompt(f"{service.authorize}?{urlencode(query)}"))
        try:
            answer = redirect.wait(LOGIN_SECONDS)
        except TimeoutError:
            raise Refused(
                f"{app.title}: the browser did not come back to {redirect.url}; see that the app's registration "
                f"names this address, and {_AGAIN}."
            ) from None
        if "code" not in answer:
            if answer["error"] == "access_denied":
                raise Refused(f"{app.title}: the login was declined; {_AGAIN}.")
            raise app.refused(answer, {})
        form = {"grant_type": "authorization_code", "code": answer["code"], "code_verifier": verifier}
        return app.granted(http, {**form, "redirect_uri": redirect.url})


def _page_of(code: Mapping[str, Any]) -> str:
    """The page on which a device code is typed, as Microsoft and as Google name it."""
    return text_of(code.get("verification_uri") or code.get("verification_url"))


def _is_web(url: str) -> bool:
    try:
        return urlsplit(url).scheme == "https"
    except ValueError:
        return False
