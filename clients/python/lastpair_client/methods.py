"""The methods of both clients. Each is written once, as the request that it sends."""

from collections.abc import Callable, Coroutine, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from lastpair_client.requests import CSV, Id, ListRequest, Request, path_of
from lastpair_client.rows import (
    Activity,
    Basket,
    BasketItem,
    BuyersPayment,
    BuyersPurchase,
    BuyersReservation,
    DeliveryStatus,
    Drop,
    DropChange,
    DropChanges,
    ListedDrop,
    MoneyOfDrop,
    NewDrop,
    NewWebhookEndpoint,
    Payment,
    PaymentProblem,
    PaymentStatus,
    ProviderCall,
    Purchase,
    PurchaseStatus,
    Reservation,
    ReservationChange,
    ReservationStatus,
    Status,
    User,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEndpointChanges,
    WebhookEndpointWithSecret,
    WebhookType,
)

if TYPE_CHECKING:
    from lastpair_client.client import AsyncClient, AsyncPages, Client, Pages

P = ParamSpec("P")
T = TypeVar("T")


class Method(Generic[P, T]):
    """A method that answers a T: of Client at once, of AsyncClient when it is awaited."""

    def __init__(self, make_request: Callable[Concatenate[Any, P], Request[T]]) -> None:
        self._make_request = make_request
        self.__doc__ = make_request.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: "Client", owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: "AsyncClient", owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: "Client | AsyncClient | None", owner: type) -> Any:
        """The method of this client."""
        if client is None:
            return self

        @wraps(self._make_request)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.send(self._make_request(client, *args, **kwargs))

        return call


class ListMethod(Generic[P, T]):
    """A method that answers a list, which is read page by page while it is iterated over."""

    def __init__(self, make_request: Callable[Concatenate[Any, P], ListRequest[T]]) -> None:
        self._make_request = make_request
        self.__doc__ = make_request.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: "Client", owner: type) -> Callable[P, "Pages[T]"]: ...
    @overload
    def __get__(self, client: "AsyncClient", owner: type) -> Callable[P, "AsyncPages[T]"]: ...
    def __get__(self, client: "Client | AsyncClient | None", owner: type) -> Any:
        """The method of this client."""
        if client is None:
            return self

        @wraps(self._make_request)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.pages_of(self._make_request(client, *args, **kwargs))

        return call


def sales_query(status: str | None, variant_id: Id | None, user_id: Id | None, limit: int | None = None) -> dict[str, object]:
    """The query of a seller's list."""
    return {"status": status, "variant_id": variant_id, "user_id": user_id, "limit": limit}


class Methods:
    """What a buyer and a seller can ask for. Without an `idempotency_key` a call makes its own, and all its attempts have it."""

    # Everybody.

    @Method
    def watchers(self) -> Request[int]:
        """How many streams are open, over all processes of the service. Tabs that share a stream are one."""
        return Request("GET", "/watchers", "watchers")

    # Buyers.

    @ListMethod
    def list_drops(self, *, status: Status | None = None, limit: int | None = None) -> ListRequest[ListedDrop]:
        """The drops on sale now, or those of this status."""
        return ListRequest("GET", "/drops", "drops", query={"status": status, "limit": limit})

    @Method
    def get_drop(self, drop_id: Id) -> Request[Drop]:
        """One drop, in any status."""
        return Request("GET", path_of("drops", drop_id), "drop")

    @Method
    def reserve(
        self, drop_id: Id, *, variant_id: Id | None = None, qty: int | None = None, idempotency_key: str | None = None
    ) -> Request[Reservation]:
        """Hold units for a limited time."""
        body = {"variant_id": variant_id, "qty": qty}
        return Request("POST", path_of("drops", drop_id, "reserve"), "reservation", body, idempotency_key=idempotency_key)

    @Method
    def purchase(self, drop_id: Id, *, reservation_id: Id | None = None, idempotency_key: str | None = None) -> Request[Purchase]:
        """Buy what you hold. With a payment provider it is `pending`, and `get_payment` has what you need to pay."""
        body = {"reservation_id": reservation_id}
        return Request("POST", path_of("drops", drop_id, "purchase"), "purchase", body, idempotency_key=idempotency_key)

    @ListMethod
    def list_my_reservations(self, *, limit: int | None = None) -> ListRequest[Reservation]:
        """The units that you hold, newest first."""
        return ListRequest("GET", "/reservations/me", "reservations", query={"limit": limit})

    @Method
    def get_reservation(self, reservation_id: Id) -> Request[Reservation]:
        """One reservation: yours, or of a drop that you sell."""
        return Request("GET", path_of("reservations", reservation_id), "reservation")

    @Method
    def extend_reservation(self, reservation_id: Id, *, idempotency_key: str | None = None) -> Request[Reservation]:
        """Let a hold end later, once."""
        path = path_of("reservations", reservation_id, "extend")
        return Request("POST", path, "reservation", idempotency_key=idempotency_key)

    @Method
    def cancel_reservation(self, reservation_id: Id) -> Request[Reservation]:
        """Give back the units of a hold."""
        return Request("DELETE", path_of("reservations", reservation_id), "reservation")

    @Method
    def get_reservation_history(self, reservation_id: Id) -> Request[list[ReservationChange]]:
        """What became of a reservation, the oldest first."""
        return Request("GET", path_of("reservations", reservation_id, "history"), "history")

    @Method
    def reserve_basket(self, items: Iterable[BasketItem], *, idempotency_key: str | None = None) -> Request[Basket]:
        """Hold units of several drops: all items, or none."""
        return Request("POST", "/baskets", "basket", {"items": list(items)}, idempotency_key=idempotency_key)

    @Method
    def get_basket(self, basket_id: Id) -> Request[Basket]:
        """One of your baskets, with its reservations as they are now."""
        return Request("GET", path_of("baskets", basket_id), "basket")

    @Method
    def purchase_basket(self, basket_id: Id, *, idempotency_key: str | None = None) -> Request[list[Purchase]]:
        """Buy all that you hold in a basket, or nothing."""
        return Request("POST", path_of("baskets", basket_id, "purchase"), "purchases", idempotency_key=idempotency_key)

    @Method
    def cancel_basket(self, basket_id: Id) -> Request[Basket]:
        """Give back all that you hold in a basket."""
        return Request("DELETE", path_of("baskets", basket_id), "basket")

    @ListMethod
    def list_my_purchases(self, *, limit: int | None = None) -> ListRequest[Purchase]:
        """The units that you have bought, newest first."""
        return ListRequest("GET", "/purchases/me", "purchases", query={"limit": limit})

    @Method
    def get_purchase(self, purchase_id: Id) -> Request[Purchase]:
        """One purchase: yours, or of a drop that you sell."""
        return Request("GET", path_of("purchases", purchase_id), "purchase")

    @Method
    def get_payment(self, payment_id: Id) -> Request[Payment]:
        """One of your payments; `client_secret` or `url` is what you need to pay."""
        return Request("GET", path_of("payments", payment_id), "payment")

    @Method
    def cancel_payment(self, payment_id: Id) -> Request[Payment]:
        """Do not pay: the units go back to stock."""
        return Request("DELETE", path_of("payments", payment_id), "payment")

    @Method
    def forget_me(self) -> Request[User]:
        """Make yourself anonymous, and give back what you hold."""
        return Request("DELETE", "/users/me", "user")

    # Sellers.

    @Method
    def create_drop(self, drop: NewDrop, *, idempotency_key: str | None = None) -> Request[Drop]:
        """Put a drop up for sale."""
        return Request("POST", "/drops", "drop", drop, idempotency_key=idempotency_key)

    @Method
    def update_drop(self, drop_id: Id, changes: DropChanges, *, if_match: str | None = None) -> Request[Drop]:
        """Change the fields given; with `if_match` only if no other seller has changed the drop since that `etag`.

        After a lost connection it is not sent again, because it may add stock.
        """
        return Request("PATCH", path_of("drops", drop_id), "drop", changes, if_match=if_match)

    @Method
    def cancel_drop(self, drop_id: Id, *, refund: bool = False, idempotency_key: str | None = None) -> Request[Drop]:
        """Cancel a drop, and with `refund` refund its sales."""
        path = path_of("drops", drop_id, "cancel")
        return Request("POST", path, "drop", {"refund": refund}, idempotency_key=idempotency_key)

    @Method
    def refund_purchase(
        self, purchase_id: Id, *, qty: int | None = None, idempotency_key: str | None = None
    ) -> Request[Purchase]:
        """Refund so many units of a purchase, or all that are left; they go back to stock."""
        path = path_of("purchases", purchase_id, "refund")
        return Request("POST", path, "purchase", {"qty": qty}, idempotency_key=idempotency_key)

    @ListMethod
    def list_drop_payments(
        self, drop_id: Id, *, status: PaymentStatus | None = None, limit: int | None = None
    ) -> ListRequest[BuyersPayment]:
        """Who pays, paid or did not pay on a drop; the newest first."""
        query = {"status": status, "limit": limit}
        return ListRequest("GET", path_of("drops", drop_id, "payments"), "payments", query=query)

    @Method
    def get_drop_money(self, drop_id: Id) -> Request[list[MoneyOfDrop]]:
        """How much money a drop has earned, has given back and still waits for, in one row per currency."""
        return Request("GET", path_of("drops", drop_id, "money"), "money")

    @ListMethod
    def list_payment_problems(self, *, limit: int | None = None) -> ListRequest[PaymentProblem]:
        """What payment providers told and you have to look at; the newest first."""
        return ListRequest("GET", "/payments/problems", "problems", query={"limit": limit})

    @ListMethod
    def list_drop_provider_calls(self, drop_id: Id, *, limit: int | None = None) -> ListRequest[ProviderCall]:
        """What the payment provider was told, or is to be told; what is not done first."""
        return ListRequest("GET", path_of("drops", drop_id, "provider-calls"), "calls", query={"limit": limit})

    @Method
    def retry_provider_call(self, call_id: Id, *, idempotency_key: str | None = None) -> Request[ProviderCall]:
        """Make a call to the payment provider again that failed or was given up."""
        return Request("POST", path_of("provider-calls", call_id, "retry"), "call", idempotency_key=idempotency_key)

    @ListMethod
    def list_drop_history(self, drop_id: Id, *, limit: int | None = None) -> ListRequest[DropChange]:
        """What sellers did to a drop, the newest first."""
        return ListRequest("GET", path_of("drops", drop_id, "history"), "history", query={"limit": limit})

    @ListMethod
    def list_drop_reservations(
        self,
        drop_id: Id,
        *,
        status: ReservationStatus | None = None,
        variant_id: Id | None = None,
        user_id: Id | None = None,
        limit: int | None = None,
    ) -> ListRequest[BuyersReservation]:
        """Who holds, or held, units of a drop; the newest first."""
        query = sales_query(status, variant_id, user_id, limit)
        return ListRequest("GET", path_of("drops", drop_id, "reservations"), "reservations", query=query)

    @ListMethod
    def list_drop_purchases(
        self,
        drop_id: Id,
        *,
        status: PurchaseStatus | None = None,
        variant_id: Id | None = None,
        user_id: Id | None = None,
        limit: int | None = None,
    ) -> ListRequest[BuyersPurchase]:
        """Who bought on a drop; the newest first."""
        query = sales_query(status, variant_id, user_id, limit)
        return ListRequest("GET", path_of("drops", drop_id, "purchases"), "purchases", query=query)

    @Method
    def export_drop_reservations(
        self,
        drop_id: Id,
        *,
        status: ReservationStatus | None = None,
        variant_id: Id | None = None,
        user_id: Id | None = None,
    ) -> Request[str]:
        """The whole list of list_drop_reservations as CSV, with a line of names."""
        query = sales_query(status, variant_id, user_id)
        return Request("GET", path_of("drops", drop_id, "reservations"), "csv", query=query, accept=CSV)

    @Method
    def export_drop_purchases(
        self,
        drop_id: Id,
        *,
        status: PurchaseStatus | None = None,
        variant_id: Id | None = None,
        user_id: Id | None = None,
    ) -> Request[str]:
        """The whole list of list_drop_purchases as CSV, with a line of names."""
        query = sales_query(status, variant_id, user_id)
        return Request("GET", path_of("drops", drop_id, "purchases"), "csv", query=query, accept=CSV)

    @Method
    def create_webhook_endpoint(
        self, endpoint: NewWebhookEndpoint, *, idempotency_key: str | None = None
    ) -> Request[WebhookEndpointWithSecret]:
        """Tell a URL what happens from now on. Only this answer and that of `rotate_webhook_secret` have the secret."""
        return Request("POST", "/webhook-endpoints", "webhook_endpoint", endpoint, idempotency_key=idempotency_key)

    @ListMethod
    def list_webhook_endpoints(self, *, limit: int | None = None) -> ListRequest[WebhookEndpoint]:
        """The webhook endpoints, the newest first."""
        return ListRequest("GET", "/webhook-endpoints", "webhook_endpoints", query={"limit": limit})

    @Method
    def get_webhook_endpoint(self, endpoint_id: Id) -> Request[WebhookEndpoint]:
        """One webhook endpoint, without its secret."""
        return Request("GET", path_of("webhook-endpoints", endpoint_id), "webhook_endpoint")

    @Method
    def update_webhook_endpoint(self, endpoint_id: Id, changes: WebhookEndpointChanges) -> Request[WebhookEndpoint]:
        """Change the fields given; `active` turns it off and on."""
        return Request("PATCH", path_of("webhook-endpoints", endpoint_id), "webhook_endpoint", changes)

    @Method
    def delete_webhook_endpoint(self, endpoint_id: Id) -> Request[WebhookEndpoint | None]:
        """Remove a webhook endpoint, with its deliveries.

        It is None if the answer to the attempt that removed it was lost, because then the next attempt does not find it.
        """
        return Request("DELETE", path_of("webhook-endpoints", endpoint_id), "webhook_endpoint")

    @Method
    def rotate_webhook_secret(self, endpoint_id: Id, *, idempotency_key: str | None = None) -> Request[WebhookEndpointWithSecret]:
        """Give it a new secret. For a day messages are signed with the old one as well."""
        path = path_of("webhook-endpoints", endpoint_id, "rotate-secret")
        return Request("POST", path, "webhook_endpoint", idempotency_key=idempotency_key)

    @Method
    def send_test_webhook(self, endpoint_id: Id, *, idempotency_key: str | None = None) -> Request[WebhookDelivery]:
        """Send a message of the type webhook.test."""
        path = path_of("webhook-endpoints", endpoint_id, "test")
        return Request("POST", path, "webhook_delivery", idempotency_key=idempotency_key)

    @ListMethod
    def list_webhook_deliveries(
        self,
        endpoint_id: Id,
        *,
        status: DeliveryStatus | None = None,
        type: WebhookType | None = None,
        drop_id: Id | None = None,
        limit: int | None = None,
    ) -> ListRequest[WebhookDelivery]:
        """What was sent, or is to be sent, to a webhook endpoint; the newest first."""
        query = {"status": status, "type": type, "drop_id": drop_id, "limit": limit}
        return ListRequest("GET", path_of("webhook-endpoints", endpoint_id, "deliveries"), "webhook_deliveries", query=query)

    @Method
    def replay_webhook_delivery(self, delivery_id: Id, *, idempotency_key: str | None = None) -> Request[WebhookDelivery]:
        """Send a message once more."""
        path = path_of("webhook-deliveries", delivery_id, "replay")
        return Request("POST", path, "webhook_delivery", idempotency_key=idempotency_key)

    # Everybody.

    @Method
    def get_activity(self, *, seconds: int | None = None, drop_ids: Iterable[Id] = ()) -> Request[Activity]:
        """The events of the last `seconds` (3600), and the stock by time, of these drops, or of those on sale."""
        return Request("GET", "/activity", "activity", query={"seconds": seconds, "dropId": list(drop_ids)})
