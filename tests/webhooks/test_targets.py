"""Where a webhook may go: never to what only the service reaches."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from standardwebhooks import Webhook

from lastpair.webhooks.sender import MAX_ANSWER_BYTES, Attempt, Sender
from lastpair.webhooks.targets import NotAllowed, Resolve, SystemResolver, Targets

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - of the tests
PUBLIC = [
    "93.184.215.14",
    "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
    "64:ff9b::5db8:d70e",
    "::ffff:93.184.215.14",
    "2002:5db8:d70e::1",
]
NOT_PUBLIC = [
    *["127.0.0.1", "127.255.255.254", "::1", "0.0.0.0", "::", "0.1.2.3"],  # noqa: S104 - local to the machine
    *["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fc00::1", "fd12:3456::1", "fec0::1"],
    *["169.254.169.254", "fe80::1", "fe80::1%eth0", "fd00:ec2::254"],
    *["224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1", "ff0e::1", "240.0.0.1"],
    *["192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "2001:db8::1", "100::1"],
    *["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::10.0.0.1"],
    *["64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::7f00:1"],
    *["2002:7f00:1::1", "2002:a00:1::1", "2001:0:a00:1::1"],
]


def resolving(**names: Sequence[str]) -> Resolve:
    """A resolver that knows these names, with _ for the dots."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        return names[host.replace(".", "_")]

    return resolve


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_what_is_not_public(address: str) -> None:
    """It is refused as the address of a name, also beside a public one, and as the host of a URL."""
    targets = Targets([], only_https=False, resolve=resolving(shop_example=[address], both_example=[PUBLIC[0], address]))
    for host in ("shop.example", "both.example"):
        with pytest.raises(NotAllowed):
            await targets.addresses(host, 443)
    if "%" not in address:
        with pytest.raises(NotAllowed):
            targets.check_url(f"https://[{address}]/" if ":" in address else f"https://{address}/")


@pytest.mark.parametrize("address", PUBLIC)
async def test_what_is_public(address: str) -> None:
    """It is allowed, also if it is an IPv6 form of a public IPv4 address."""
    targets = Targets([], only_https=True, resolve=resolving(shop_example=[address]))
    assert len(await targets.addresses("shop.example", 443)) == 1
    targets.check_url(f"https://[{address}]/" if ":" in address else f"https://{address}/")


async def test_networks_that_are_allowed() -> None:
    """Those of WEBHOOK_PRIVATE_TARGETS and no others, in whatever form."""
    resolve = resolving(
        a=["10.1.2.3"], b=["::ffff:10.1.2.3"], c=["64:ff9b::10.1.2.3"], d=["10.2.0.1"], e=["fd00::1"], f=["fd01::1"]
    )
    targets = Targets(["10.1.0.0/16", "fd00::/16"], only_https=False, resolve=resolve)
    for host in "abce":
        assert await targets.addresses(host, 80)
    for host in "df":
        with pytest.raises(NotAllowed):
            await targets.addresses(host, 80)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost"])
async def test_other_ways_to_write_this_machine(host: str) -> None:
    """The system's resolver knows them; what it answers is checked."""
    with pytest.raises(NotAllowed):
        await Targets([], only_https=False).addresses(host, 80)


async def test_the_resolver_of_the_system() -> None:
    """A name that is none is an error that an attempt reports. Two who ask together share an answer."""
    resolve = SystemResolver()
    assert "127.0.0.1" in (await asyncio.gather(resolve("127.0.0.1", 80), resolve("127.0.0.1", 80)))[1]
    for name in ("lastpair.invalid", "a..b", "a" * 64 + ".example"):
        with pytest.raises(OSError):  # noqa: PT011 - the text is the system's
            await resolve(name, 80)


def test_only_https() -> None:
    """Production takes no other scheme."""
    Targets([], only_https=True).check_url("https://shop.example/")
    with pytest.raises(NotAllowed):
        Targets([], only_https=True).check_url("http://shop.example/")


@asynccontextmanager
async def listening(answer: bytes, heads: list[bytes]) -> AsyncIterator[int]:
    """A server on this machine that gives everyone this answer, and keeps the heads of requests; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        try:
            await writer.drain()
            await reader.read()
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def send(sender: Sender, url: str) -> Attempt:
    """One attempt."""
    try:
        return await sender.send(url, [SECRET], "msg", b"{}")
    finally:
        await sender.close()


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """A name that resolves to another address the next time leads nowhere else: it is resolved once for a connection."""
    heads: list[bytes] = []
    answers = [["127.0.0.1"], ["127.0.0.2"]]

    async def resolve(host: str, port: int) -> Sequence[str]:
        return answers.pop(0)

    async with listening(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", heads) as port:
        targets = Targets(["127.0.0.1"], only_https=False, resolve=resolve)
        assert await send(Sender(targets), f"http://shop.example:{port}/hook?a=b") == Attempt(200, None)
        refused = await send(Sender(targets), f"http://shop.example:{port}/")
    assert refused == Attempt(None, "the URL leads to an address that is not public")
    [head] = heads
    assert head.startswith(b"POST /hook?a=b HTTP/1.1\r\n")
    assert f"host: shop.example:{port}".encode() in head.lower()
    fields = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:] if line)
    signed = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
    assert fields["content-type"] == "application/json"
    Webhook(SECRET).verify("{}", {name.lower(): value for name, value in signed.items()})


@pytest.mark.parametrize("length", ["content-length: 1000000000", "transfer-encoding: chunked"])
async def test_a_long_answer_is_not_read(length: str) -> None:
    """Its status counts, and the connection is closed."""
    piece = b"x" * 1024 * 1024 if "content" in length else b"100000\r\n" + b"x" * 1024 * 1024 + b"\r\n"
    assert len(piece) > MAX_ANSWER_BYTES
    async with listening(b"HTTP/1.1 200 OK\r\n" + length.encode() + b"\r\n\r\n" + piece, []) as port:
        sender = Sender(Targets(["127.0.0.1"], only_https=False))
        assert await send(sender, f"http://127.0.0.1:{port}/") == Attempt(200, None)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", "no answer within 0.5 seconds"),
        (b"", "no answer within 0.5 seconds"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000, "cannot be reached: "),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "cannot be reached: "),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "answered 404"),
    ],
    ids=["half", "nothing", "head", "ssh", "404"],
)
async def test_a_bad_answer(answer: bytes, error: str) -> None:
    """One that does not end, has no end, is none, or is a refusal: the attempt has failed and says why."""
    patience = 0.5 if "0.5" in error else 60
    async with listening(answer, []) as port:
        attempt = await send(Sender(Targets(["127.0.0.1"], only_https=False), patience), f"http://127.0.0.1:{port}/")
    assert attempt.error is not None
    assert attempt.error.startswith(error)


async def test_a_resolver_that_hangs() -> None:
    """The time of an attempt includes it."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return []

    attempt = await send(Sender(Targets([], only_https=False, resolve=resolve), 0.2), "https://shop.example/")
    assert attempt.error == "no answer within 0.2 seconds"
