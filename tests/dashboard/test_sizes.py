"""A drop with sizes: what its page shows of them, and how one is chosen, held and bought."""

import re
from collections.abc import Awaitable
from typing import Any

from playwright.async_api import Locator, Page, expect

from tests.support.browser import Visitor
from tests.support.dashboard import expect_outcome, open_drop, row_of, update_drop
from tests.support.factories import make_drop, make_user, reserve
from tests.support.streams import Api
from tests.support.waiting import eventually

SIZES = [{"name": "41", "total_stock": 1}, {"name": "42", "total_stock": 3}, {"name": "43", "total_stock": 2, "price": 12.5}]


def size_of(page: Page, name: str) -> Locator:
    """The choice of this size."""
    return page.locator("#sizes").get_by_role("radio", name=name)


async def choose(page: Page, name: str) -> None:
    """Click on this size."""
    await page.locator(".size").filter(has=page.get_by_text(name, exact=True)).click()
    await expect(size_of(page, name)).to_be_checked()


async def test_every_price_is_told(api: Api, visitor: Visitor) -> None:
    """A size without a price beside it has the lowest, which stands above, though that is not the drop's own."""
    sizes = [{"name": name, "total_stock": 2, "price": price} for name, price in (("41", 8), ("42", None), ("43", 12.5))]
    drop = await make_drop(api.http, await make_user(api.owner), price=10, total_stock=None, variants=sizes)
    page = await visitor.open(path=f"/drops/{drop['id']}")
    await expect(page.locator("#drop-terms")).to_contain_text("from $8.00")
    await expect(page.locator(".size-price")).to_have_text(["", "$10.00", "$12.50"])
    await page.goto(f"/d/{drop['id']}")
    await expect(page.locator("#price")).to_have_text("From $8.00")
    await expect(page.locator(".sizes label small:last-child")).to_have_text(["", "$10.00", "$12.50"])


async def test_many_sizes(api: Api, visitor: Visitor) -> None:
    """The button is near, however many sizes there are."""
    sizes = [{"name": str(size), "total_stock": 1} for size in range(60)]
    drop = await make_drop(api.http, await make_user(api.owner), total_stock=None, variants=sizes)
    page = await visitor.open(path=f"/drops/{drop['id']}", viewport={"width": 1280, "height": 900})
    await expect(page.locator(".size")).to_have_count(60)
    await expect(page.locator("#buy")).to_be_in_viewport()
    await choose(page, "59")


async def test_a_size_is_chosen_held_and_bought(api: Api, page: Page) -> None:
    """Each size has its stock, live, and a price if it is another; two sizes are held at once, each with its own buttons."""
    seller, other = await make_user(api.owner), await make_user(api.owner)
    drop = await make_drop(api.http, seller, price=10, total_stock=None, variants=SIZES)
    drop_id, sizes, button, note = drop["id"], page.locator(".size"), page.locator("#buy"), page.locator("#buy-note")
    await expect(row_of(page, drop_id).locator(".terms")).to_have_text("from $10.00 · 3 sizes")
    await expect(row_of(page, drop_id).get_by_role("button")).to_have_count(0)
    await open_drop(page, drop_id)
    await expect(sizes).to_have_text(["411 left", "423 left", "432 left$12.50"])
    await expect(button).to_be_disabled()
    await expect(note).to_have_text("Choose a size first.")

    await reserve(api.http, drop_id, other, {"variant_id": drop["variants"][0]["id"]})
    await expect(sizes.first).to_have_text("41none left")
    await expect(size_of(page, "41")).to_be_disabled()

    for name in ("42", "43"):
        await choose(page, name)
        await expect(button).to_have_text(f"Reserve {name}")
        await button.click()
        await expect_outcome(page, re.compile(f"^Air One, {name} is held for you"))
    held = sizes.filter(has_text="yours")
    await expect(held.locator(".size-name")).to_have_text(["42", "43"])
    await expect(note).to_have_text(re.compile(r"^One is held for \d+:\d\d\. It costs \$12\.50\.$"))
    await choose(page, "42")
    await expect(note).to_have_text(re.compile(r"It costs \$10\.00\.$"))
    await button.click()
    await expect_outcome(page, "Air One, 42 is yours.")
    await expect(held.locator(".size-name")).to_have_text(["43"])
    bought = await api.owner.fetch(
        "select variant_id::text, amount from inventory.purchases where drop_id = $1::text::uuid", drop_id
    )
    assert [(row["variant_id"], float(row["amount"])) for row in bought] == [(drop["variants"][1]["id"], 10)]
    await expect(sizes).to_contain_text(["41none left", "422 left", "43yours"])
    await page.get_by_role("link", name="Drops").click()
    await row_of(page, drop_id).get_by_role("button", name="Pay").click()  # what is held, whichever size it is
    await expect_outcome(page, "Air One, 43 is yours.")


async def test_a_size_that_is_added(api: Api, visitor: Visitor) -> None:
    """A size is shown with the next frame, even if the clock of the page ticks between event and frame."""
    seller = await make_user(api.owner)
    drop = await make_drop(api.http, seller, total_stock=None, variants=SIZES)
    drop_id = drop["id"]
    context = await visitor.context()
    await context.clock.install()
    page = await visitor.open(context, path=f"/drops/{drop_id}")
    await expect(page.locator(".size")).to_have_count(3)
    await page.evaluate("() => { window.nextFrame = requestAnimationFrame; }")

    async def tick_before_the_frame(change: Awaitable[Any]) -> Any:
        await page.evaluate("() => { window.waiting = []; window.requestAnimationFrame = (frame) => waiting.push(frame); }")
        result = await change
        await eventually(lambda: page.evaluate("waiting.length"))
        await context.clock.fast_forward(1500)
        await page.evaluate("() => { window.requestAnimationFrame = nextFrame; waiting.forEach((frame) => frame()); }")
        return result

    kept = [{"id": variant["id"]} for variant in drop["variants"]]
    added = {"variants": [*kept, {"name": "44", "total_stock": 4}]}
    await tick_before_the_frame(update_drop(api, drop_id, **added))
    await expect(page.locator(".size-name")).to_have_text(["41", "42", "43", "44"])


async def test_a_size_that_costs_less(api: Api, visitor: Visitor) -> None:
    """The lowest price is above the sizes, so every size that costs more has its own, also one with the price of the drop."""
    sizes = [{"name": "S", "total_stock": 1, "price": 8.5}, {"name": "M", "total_stock": 1}]
    drop = await make_drop(api.http, await make_user(api.owner), price=10, total_stock=None, variants=sizes)
    page = await visitor.open()
    await expect(row_of(page, drop["id"]).locator(".terms")).to_have_text("from $8.50 · 2 sizes")
    await open_drop(page, drop["id"])
    await expect(page.locator(".size")).to_have_text(["S1 left", "M1 left$10.00"])


async def test_sizes_by_keyboard(api: Api, visitor: Visitor) -> None:
    """Arrow keys choose among the sizes of which some are left."""
    drop = await make_drop(api.http, await make_user(api.owner), name="Air", total_stock=None, variants=SIZES)
    await reserve(api.http, drop["id"], await make_user(api.owner), {"variant_id": drop["variants"][0]["id"]})
    page = await visitor.open(path=f"/drops/{drop['id']}")
    await expect(size_of(page, "41")).to_be_disabled()
    await expect(page.get_by_role("group", name="Size")).to_be_visible()
    await size_of(page, "42").focus()
    await page.keyboard.press("Space")
    for key, name in (("ArrowRight", "43"), ("ArrowRight", "42"), ("ArrowLeft", "43")):
        await page.keyboard.press(key)
        await expect(size_of(page, name)).to_be_checked()
    await page.locator("#buy").press("Enter")
    await expect_outcome(page, re.compile("^Air, 43 is held for you"))


async def test_a_paused_drop(api: Api, page: Page) -> None:
    """It says so, and cannot be reserved until it goes on."""
    seller = await make_user(api.owner)
    drop_id = (await make_drop(api.http, seller))["id"]
    for paused, shown in ((True, "Paused"), (False, "Live")):
        await api.http.patch(f"/drops/{drop_id}", json={"paused": paused}, headers={"X-User-Id": seller})
        await expect(row_of(page, drop_id).locator(".status")).to_have_text(shown)
        await expect(row_of(page, drop_id).get_by_role("button")).to_have_count(0 if paused else 1)
