"""Pages in a real browser: Debian's Chromium, driven by playwright; tests are skipped where one of them is missing."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Debian's package chromium is not installed")

DEADLINE_MS = 30_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-sync",
]
SCHEMES = ("light", "dark")
PHONE = {"width": 375, "height": 812}


@asynccontextmanager
async def chromium(**options) -> AsyncIterator:
    """A page of a fresh browser that fails the test on a script's error or a refused resource."""
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            context = await browser.new_context(**options)
            page = await context.new_page()
            page.set_default_timeout(DEADLINE_MS)
            faults: list[str] = []
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on(
                "console",
                lambda line: faults.append(line.text) if "Content Security" in line.text else None,
            )
            yield page
            assert faults == []
        finally:
            await browser.close()


def text(page, selector: str, expected: str):
    """Wait until an element has this text."""
    return playwright.expect(page.locator(selector)).to_contain_text(expected, timeout=DEADLINE_MS)
