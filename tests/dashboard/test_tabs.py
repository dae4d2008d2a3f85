"""Ten tabs of the dashboard in one browser, which opens six connections to a host: they share a stream, and all stay usable."""

import asyncio

import pytest
from playwright.async_api import expect

from tests.support.browser import Visitor
from tests.support.dashboard import buy, expect_stock, feed_of, make_named_user, press
from tests.support.streams import Api
from tests.support.waiting import eventually

TABS = 10


async def has_streams(api: Api, count: int) -> None:
    """Wait until the server has this many streams."""
    line = f'lastpair_streams{{transport="sse"}} {count}.0'

    async def is_so() -> bool:
        return line in (await api.http.get(f"{api.url}/metrics")).text

    await eventually(is_so)


@pytest.mark.slow
async def test_ten_tabs(api: Api, visitor: Visitor, drop_id: str) -> None:
    """Each tab shows what is sold, the server has one stream, and the buttons of the last and of a reloaded tab work."""
    context = await visitor.context()
    tabs = [await visitor.open(context) for _ in range(TABS)]
    await buy(api, drop_id, await make_named_user(api, "tabea"))
    await asyncio.gather(*(expect(feed_of(tab).filter(has_text="tabea")).to_have_count(1) for tab in tabs))
    await asyncio.gather(*(expect_stock(tab, drop_id, 4, 0, 1) for tab in tabs))
    await has_streams(api, 1)
    await press(tabs[-1], drop_id, "Reserve")
    await asyncio.gather(*(expect_stock(tab, drop_id, 3, 1, 1) for tab in tabs))
    await tabs[0].reload()
    await press(tabs[0], drop_id, "Pay")
    await asyncio.gather(*(expect_stock(tab, drop_id, 3, 0, 2) for tab in tabs))
    await has_streams(api, 1)
