"""Steps of the dashboard's tests: changes behind the page, buttons, and what a row must show."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from json import dumps
from uuid import UUID, uuid4

from playwright.async_api import BrowserContext, Locator, Page, TimeoutError, expect

from tests.support.factories import Owner, purchase, reserve
from tests.support.row_checks import Row
from tests.support.servers import Service, started
from tests.support.streams import Api

REFUND = "select id from api.refund_purchase($1)"
UPDATE = "select id from api.update_drop($1, $2)"


async def make_named_user(api: Api, name: str) -> str:
    """A new user with this name; returns the id."""
    return str(await api.owner.fetchval("select id from api.create_user($1)", name))


async def buy(api: Api, drop_id: str, user: str) -> Row:
    """Reserve and purchase."""
    await reserve(api.http, drop_id, user)
    return await purchase(api.http, drop_id, user)


async def update_drop(api: Api, drop_id: str, **changes: object) -> None:
    """Change a drop by SQL."""
    assert await api.owner.fetchval(UPDATE, UUID(drop_id), dumps(changes))


async def set_clock(context: BrowserContext) -> None:
    """The pages of the context use a clock that the test can move, and not the server's time."""
    await context.clock.install()
    await context.route("**/dashboard/settings.json", lambda route: route.fulfill(json={"development": True}))


async def without_worker(context: BrowserContext) -> None:
    """Each page of the context has a stream of its own, so a test sees its requests, and its timers go by the test's clock."""
    await context.add_init_script("delete window.SharedWorker")


def feed_of(page: Page) -> Locator:
    """The lines of the feed, newest first."""
    return page.locator("#feed li")


async def become(page: Page) -> str:
    """Make a user with the form in the drawer; returns its name."""
    name = f"user-{uuid4().hex[:8]}"
    await open_tools(page, "Act")
    await page.get_by_label("New buyer").fill(name)
    await page.get_by_role("button", name="Make").click()
    await expect(page.locator("#user-form .answer")).to_have_text(f"You act as {name}.")
    await expect(page.locator("#user option:checked")).to_have_text(name)
    await close_tools(page)
    return name


async def open_tools(page: Page, button: str) -> None:
    """Open the drawer with the button whose text begins so: Act, Rush, Create."""
    await page.get_by_role("button", name=re.compile(f"^{button}")).first.click()
    await expect(page.locator("#tools")).to_be_visible()


async def close_tools(page: Page) -> None:
    """Close the drawer."""
    await page.locator("#tools").get_by_role("button", name="Close").click()


async def newest_drop(api: Api) -> Row:
    """The drop created last."""
    return dict(await api.owner.fetchrow("select * from inventory.drops order by id desc limit 1") or {})


def row_of(page: Page, drop_id: object) -> Locator:
    """The row of a drop in the list."""
    return page.locator(f'.row[data-drop-id="{drop_id}"]')


async def open_drop(page: Page, drop_id: object) -> None:
    """Go to the page of a drop by its row."""
    await row_of(page, drop_id).get_by_role("link").click()
    await expect(page.locator("#drop-body")).to_be_visible()


async def expect_stock(page: Page, drop_id: object, left: int, held: int, sold: int) -> None:
    """The row shows these numbers, as text and to screen readers. A row is drawn while it is near the window."""
    row, total = row_of(page, drop_id), left + held + sold
    await row.scroll_into_view_if_needed()
    label = f"{sold} sold, {held} held, {left} left of {total}"
    with suppress(TimeoutError):  # this looks more often than expect does, whose message is better
        await row.locator(f'.bar[aria-label="{label}"]').wait_for(timeout=1000)
    await expect(row.locator(".bar")).to_have_attribute("aria-label", label)
    await expect(row.locator(".counts span:visible").filter(has=page.locator("b"))).to_have_text(
        [f"{sold:,} sold", *([f"{held:,} held"] if held else []), f"{left:,} left of {total:,}"]
    )


async def press(page: Page, drop_id: object, button: str) -> None:
    """Press the button of a row whose text begins so: Reserve, Pay."""
    await row_of(page, drop_id).get_by_role("button", name=re.compile(f"^{button}")).click()


async def expect_outcome(page: Page, text: str | re.Pattern[str]) -> None:
    """The page says this of the button that was pressed last."""
    await expect(page.locator("#outcome")).to_have_text(text)


STOCK = """
select
  d.id,
  d.available_stock,
  (select count(*) from inventory.reservations r where r.drop_id = d.id and r.status = 'ACTIVE') as held_stock,
  (select count(*) from inventory.purchases p where p.drop_id = d.id and p.status = 'paid') as sold_stock
from inventory.drops d
where d.id = any ($1)
"""


async def expect_truth(page: Page, owner: Owner, drop_ids: Iterable[object]) -> None:
    """The rows of these drops show the numbers that the database holds."""
    rows = await owner.fetch(STOCK, [UUID(str(drop_id)) for drop_id in drop_ids])
    for row in rows:
        await expect_stock(page, row["id"], row["available_stock"], row["held_stock"], row["sold_stock"])
    assert rows


async def end_all_drops(owner: Owner) -> None:
    """End every drop, so that a new page shows none."""
    await owner.execute("update inventory.drops set status = 'ended' where status in ('draft', 'scheduled', 'live')")


@contextmanager
def started_at(port: int, database_url: str) -> Iterator[Service]:
    """The service at this port, where it can be started again; its sweeper sleeps."""
    with started(DATABASE_URL=database_url, PORT=str(port), EXPIRY_POLL_MS="3600000") as service:
        yield replace(service, url=f"http://127.0.0.1:{port}")
