"""What the dashboard's tests do again and again."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from json import dumps
from uuid import UUID, uuid4

from playwright.async_api import BrowserContext, Locator, Page, TimeoutError, expect

from tests.support.factories import Owner, purchase, reserve
from tests.support.servers import Service, started
from tests.support.shapes import Row
from tests.support.streams import Stage

REFUND = "select id from api.refund_purchase($1)"
UPDATE = "select id from api.update_drop($1, $2)"


async def make_named_user(stage: Stage, name: str) -> str:
    """A new user of this name; returns the id."""
    return str(await stage.owner.fetchval("select id from api.create_user($1)", name))


async def buy(stage: Stage, drop_id: str, user: str) -> Row:
    """Reserve and purchase."""
    await reserve(stage.http, drop_id, user)
    return await purchase(stage.http, drop_id, user)


async def update_drop(stage: Stage, drop_id: str, **changes: object) -> None:
    """Change a drop by SQL."""
    assert await stage.owner.fetchval(UPDATE, UUID(drop_id), dumps(changes))


async def set_clock(context: BrowserContext) -> None:
    """Let the context's pages go by a clock that the test can put forward, and not by the server's."""
    await context.clock.install()
    await context.route("**/dashboard/settings.json", lambda route: route.fulfill(json={"development": True}))


def news_of(page: Page) -> Locator:
    """The lines of news, newest first."""
    return page.locator("#news li")


async def become(page: Page) -> str:
    """Make a user with the form; returns the name."""
    name = f"user-{uuid4().hex[:8]}"
    await page.get_by_label("New user").fill(name)
    await page.get_by_role("button", name="Make").click()
    await expect(page.locator("#user-form .answer")).to_have_text(f"You are {name}.")
    await expect(page.locator("#user option:checked")).to_have_text(name)
    return name


async def newest_drop(stage: Stage) -> Row:
    """The drop created last."""
    return dict(await stage.owner.fetchrow("select * from inventory.drops order by id desc limit 1") or {})


def card_of(page: Page, drop_id: object) -> Locator:
    """The card of a drop."""
    return page.locator(f'.card[data-drop-id="{drop_id}"]')


async def expect_stock(page: Page, drop_id: object, left: int, held: int, sold: int) -> None:
    """The card shows these numbers, in writing and to those who listen."""
    card, total = card_of(page, drop_id), left + held + sold
    label = f"{left} left, {held} held, {sold} sold of {total}"
    with suppress(TimeoutError):  # this looks more often than expect, which tells more
        await card.locator(f'.bar[aria-label="{label}"]').wait_for(timeout=1000)
    await expect(card.locator(".bar")).to_have_attribute("aria-label", label)
    await expect(card.locator(".legend")).to_have_text(f"{left:,} left {held:,} held {sold:,} sold of {total:,}")


async def press(page: Page, drop_id: object, button: str) -> None:
    """Press a card's button, named as people see it."""
    await card_of(page, drop_id).get_by_role("button", name=button, exact=True).click()


async def expect_answer(page: Page, drop_id: object, text: str) -> None:
    """The card says what became of a button."""
    await expect(card_of(page, drop_id).locator(".answer")).to_have_text(text)


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
    """The cards of these drops show the numbers that the database holds."""
    rows = await owner.fetch(STOCK, [UUID(str(drop_id)) for drop_id in drop_ids])
    for row in rows:
        await expect_stock(page, row["id"], row["available_stock"], row["held_stock"], row["sold_stock"])
    assert rows


async def end_all_drops(owner: Owner) -> None:
    """Leave none for a new page to show."""
    await owner.execute("update inventory.drops set status = 'ended' where status in ('draft', 'scheduled', 'live')")


@contextmanager
def started_at(port: int, database_url: str) -> Iterator[Service]:
    """The service at a port of our choice, where it can be started again; its poller sleeps."""
    with started(DATABASE_URL=database_url, PORT=str(port), EXPIRY_POLL_MS="3600000") as service:
        yield replace(service, url=f"http://127.0.0.1:{port}")
