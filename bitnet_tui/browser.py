"""The driver of an app whose screen is a page in a browser; `web/server.py` passes its bytes on."""

from textual.drivers.web_driver import WebDriver
from textual.messages import ExitApp


class InBrowser(WebDriver):
    """As Textual's, but the app ends when the server that it talks to is gone."""

    def run_input_thread(self) -> None:
        super().run_input_thread()
        if not self.exit_event.is_set():
            self._app.call_later(self._app.post_message, ExitApp())
