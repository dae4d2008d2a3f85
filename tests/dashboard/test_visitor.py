"""The tests' own Visitor: it notes every problem of a page."""

import pytest
from playwright.async_api import Browser

from tests.support.browser import Visitor
from tests.support.streams import Api
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


async def test_problems_are_noted(api: Api, browser: Browser) -> None:
    """It notes console messages, exceptions, violations of the policy, dialogs and requests to other hosts."""
    visitor = Visitor(browser, api.url)
    try:
        page = await visitor.open()
        assert visitor.problems == []
        await page.evaluate("""() => {
          console.info("hm");
          setTimeout(() => { throw new Error("oops"); });
          Promise.reject(new Error("ah"));
          document.body.append(Object.assign(document.createElement("img"), { src: "http://elsewhere.test/picture" }));
          fetch("/nowhere");
          setTimeout(() => alert("dialog"));
        }""")
        wanted = ["info: hm", "oops", "ah", "img-src http://elsewhere.test/picture", "404", "dialog: dialog"]

        async def are_all_there() -> bool:
            return all(any(word in problem for problem in visitor.problems) for word in wanted)

        await eventually(are_all_there)
        wanted = ["host: http://localhost"]
        await page.goto(api.url.replace("127.0.0.1", "localhost"))
        await eventually(are_all_there)
    finally:
        await visitor.close()
