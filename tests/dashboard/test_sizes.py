"""A drop with sizes: what a card shows of them, and how one is chosen, held and bought."""

import re
from collections.abc import Awaitable
from typing import Any

from playwright.async_api import Locator, Page, expect

from tests.support.browser import Visitor
from tests.support.dashboard import card_of, expect_answer, press, update_drop
from tests.support.factories import make_drop, make_user, reserve
from tests.support.streams import Api
from tests.support.waiting import eventually

SIZES = [{"name": "41", "total_stock": 1}, {"name": "42", "total_stock": 3}, {"name": "43", "total_stock": 2, "price": 12.5}]


def size_of(page: Page, drop_id: str, name: str) -> Locator:
    """The choice of this size."""
    return card_of(page, drop_id).get_by_role("radio", name=name)


async def choose(page: Page, drop_id: str, name: str) -> None:
    """Click on this size."""
    await card_of(page, drop_id).locator(".size label").filter(has=page.get_by_text(name, exact=True)).click()
    await expect(size_of(page, drop_id, name)).to_be_checked()


async def test_a_size_is_chosen_held_and_bought(api: Api, page: Page) -> None:
    """Each size has its stock, live, and a price if it is another; two sizes are held at once, each with its own buttons."""
    seller, other = await make_user(api.owner), await make_user(api.owner)
    drop = await make_drop(api.http, seller, price=10, total_stock=None, variants=SIZES)
    drop_id, card = drop["id"], card_of(page, drop["id"])
    await expect(card.locator(".size")).to_have_text(["41 1 left", "42 3 left", "43 2 left $12.50"])
    await press(page, drop_id, "Reserve")
    await expect_answer(page, drop_id, "Choose a size first.")

    await reserve(api.http, drop_id, other, {"variant_id": drop["variants"][0]["id"]})
    await expect(card.locator(".size").first).to_have_text("41 none left")
    await expect(size_of(page, drop_id, "41")).to_be_disabled()

    for name in ("42", "43"):
        await choose(page, drop_id, name)
        await press(page, drop_id, "Reserve")
        await expect_answer(page, drop_id, "A unit is held for you.")
    held = card.locator(".size").filter(has_text=re.compile(r"yours, \d+ s"))
    await expect(held.locator(".size-name")).to_have_text(["42", "43"])
    await expect(card.locator(".hold")).to_have_text(re.compile(r"^43 held for \d+ s, \$12\.50$"))
    await choose(page, drop_id, "42")
    await expect(card.locator(".hold")).to_have_text(re.compile(r"^42 held for \d+ s, \$10\.00$"))
    await press(page, drop_id, "Purchase")
    await expect_answer(page, drop_id, "It is yours.")
    await expect(held.locator(".size-name")).to_have_text(["43"])
    bought = await api.owner.fetch(
        "select variant_id::text, amount from inventory.purchases where drop_id = $1::text::uuid", drop_id
    )
    assert [(row["variant_id"], float(row["amount"])) for row in bought] == [(drop["variants"][1]["id"], 10)]
    await expect(card.locator(".size")).to_contain_text(["41 none left", "42 2 left", "43 1 left"])


async def test_a_size_that_is_added(api: Api, visitor: Visitor) -> None:
    """A size, or a drop with sizes, is shown with the next frame, even if the clock of the page ticks between event and frame."""
    seller = await make_user(api.owner)
    drop = await make_drop(api.http, seller, total_stock=None, variants=SIZES)
    drop_id = drop["id"]
    context = await visitor.context()
    await context.clock.install()
    page = await visitor.open(context)
    await expect(card_of(page, drop_id).locator(".size")).to_have_count(3)
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
    await expect(card_of(page, drop_id).locator(".size-name")).to_have_text(["41", "42", "43", "44"])
    new = await tick_before_the_frame(make_drop(api.http, seller, total_stock=None, variants=SIZES))
    await expect(card_of(page, new["id"]).locator(".size-name")).to_have_text(["41", "42", "43"])


async def test_sizes_by_keyboard(api: Api, page: Page) -> None:
    """Arrow keys choose among the sizes of which some are left; the group is named after its drop."""
    drop = await make_drop(api.http, await make_user(api.owner), name="Air", total_stock=None, variants=SIZES)
    await reserve(api.http, drop["id"], await make_user(api.owner), {"variant_id": drop["variants"][0]["id"]})
    await expect(size_of(page, drop["id"], "41")).to_be_disabled()
    await expect(page.get_by_role("group", name="Air Sizes")).to_be_visible()
    await size_of(page, drop["id"], "42").focus()
    await page.keyboard.press("Space")
    for key, name in (("ArrowRight", "43"), ("ArrowRight", "42"), ("ArrowLeft", "43")):
        await page.keyboard.press(key)
        await expect(size_of(page, drop["id"], name)).to_be_checked()
    await press(page, drop["id"], "Reserve")
    await expect(card_of(page, drop["id"]).locator(".hold")).to_contain_text("43 held for")


async def test_a_paused_drop(api: Api, page: Page) -> None:
    """It says so, also to screen readers, and cannot be reserved until it goes on."""
    seller = await make_user(api.owner)
    drop_id = (await make_drop(api.http, seller))["id"]
    for paused, shown in ((True, "paused"), (False, "live")):
        await api.http.patch(f"/drops/{drop_id}", json={"paused": paused}, headers={"X-User-Id": seller})
        await expect(card_of(page, drop_id).locator(".status")).to_have_text(shown)
        button = card_of(page, drop_id).get_by_role("button", name="Reserve")
        await expect(button).to_have_attribute("aria-disabled", str(paused).lower())
