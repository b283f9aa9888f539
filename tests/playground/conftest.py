"""One browser for all tests, and for each test a server whose answers it chooses."""

from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from aiohttp import web
from browser import open_browser, open_page
from fake_api import FakeApi


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser():
    async with open_browser() as running:
        yield running


@dataclass
class FakeServer:
    """The fake API on a port that stays its own, so that it can go and come back."""

    api: FakeApi = field(default_factory=FakeApi)
    port: int = 0
    runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def start(self) -> None:
        self.runner = web.AppRunner(self.api.app(), shutdown_timeout=0.01, handler_cancellation=True)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()
        self.port = self.runner.addresses[0][1]

    async def stop(self) -> None:
        await self.runner.cleanup()


@pytest_asyncio.fixture(loop_scope="session")
async def server():
    running = FakeServer()
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def api(server) -> FakeApi:
    return server.api


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser, server):
    """The playground, connected; nothing may have gone wrong in it at the end."""
    async with open_page(browser, server.url) as page:
        await page.wait_for_selector("[data-state=live]")
        yield page
        assert [] == page.problems
