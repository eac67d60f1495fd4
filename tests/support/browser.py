"""A headless Chromium that records console messages and requests."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REQUIRED = "GAUNTLET_TEST_BROWSER"
"""Environment variable that makes a missing browser a failure."""

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # root has no other
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def require_browser() -> None:
    """Skip if Chromium, its driver or Selenium is missing, or fail if they are required."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        problem = "Selenium is not installed"
    else:
        missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
        if not missing:
            return
        problem = f"{' and '.join(missing)} cannot be found (tests/support/install/browser.sh)"
    (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(problem)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a browser with an empty profile, and end it."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(prefix="gauntlet-browser-", ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.binary_location = shutil.which("chromium") or ""
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = Chrome(options, Service(shutil.which("chromedriver")))
        try:
            driver.get("about:blank")
            browser = Browser(driver)
            # A new window requests files of its own.
            browser.console_messages()
            browser.requests()
            yield browser
        finally:
            driver.quit()


class Browser:
    """Wrapper of the Selenium driver for tests of the page."""

    def __init__(self, driver) -> None:
        self.driver = driver

    def open(self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file in a window of a given size, in light or dark mode."""
        self.media(dark=dark)
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get(path.resolve().as_uri())

    def media(self, *, dark: bool = False, kind: str = "") -> None:
        """Set the preference for light or dark mode, and the medium: screen or print."""
        wanted = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wanted.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": features})

    def run_script(self, script: str, *arguments):
        """Run JavaScript and return its result."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str):
        """Return the first element that matches."""
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str):
        """Return all elements that match."""
        return self.driver.find_elements("css selector", selector)

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def console_messages(self) -> list[str]:
        """Return the console messages since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the URLs requested since the last call, without data URLs."""
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [one["params"]["request"]["url"] for one in entries if one["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Save a picture of the whole page, or of the window."""
        import base64

        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": whole})
        path.write_bytes(base64.b64decode(taken["data"]))
