// Fields have the names that they have on the wire. docs/reference.md describes each row and each refusal.

export const VERSION: string;

export type Status = "draft" | "scheduled" | "live" | "ended" | "cancelled";
export type ReservationStatus = "ACTIVE" | "EXPIRED" | "CANCELLED" | "CONSUMED";
export type PurchaseStatus = "pending" | "paid" | "failed" | "cancelled" | "refunded";
export type PaymentStatus = "pending" | "paid" | "failed" | "cancelled" | "refunded";

/** ISO 8601, with an offset from UTC. */
export type Time = string;

export interface Variant {
  id: string;
  name: string;
  price: number;
  total_stock: number;
  available_stock: number;
}

export interface Drop {
  id: string;
  name: string;
  price: number;
  currency: string;
  total_stock: number;
  available_stock: number;
  variants: Variant[];
  starts_at: Time | null;
  ends_at: Time | null;
  status: Status;
  paused_at: Time | null;
  limit_per_user: number | null;
  hold_seconds: number | null;
  rehold_after_seconds: number;
  extension_seconds: number | null;
  image_url: string | null;
  revision: number;
  created_by: string;
  createdAt: Time;
  updatedAt: Time;
}

export interface Purchaser {
  userId: string;
  username: string;
  qty: number;
  createdAt: Time;
}

export interface ListedDrop extends Drop {
  activity_feed: { latest_purchasers: Purchaser[]; held_stock: number };
}

export interface Reservation {
  id: string;
  drop_id: string;
  variant_id: string | null;
  user_id: string;
  basket_id: string | null;
  qty: number;
  unit_price: number | null;
  currency: string | null;
  amount: number | null;
  status: ReservationStatus;
  expires_at: Time;
  extended_at: Time | null;
  createdAt: Time;
  updatedAt: Time;
}

export interface Purchase {
  id: string;
  drop_id: string;
  variant_id: string | null;
  reservation_id: string;
  user_id: string;
  qty: number;
  unit_price: number | null;
  currency: string | null;
  amount: number | null;
  status: PurchaseStatus;
  refunded_amount: number | null;
  refunded_at: Time | null;
  createdAt: Time;
  updatedAt: Time;
  refunded_qty: number;
  payment_id: string | null;
}

/** A payment as its seller sees it. */
export interface BuyersPayment {
  id: string;
  drop_id: string;
  basket_id: string | null;
  user_id: string;
  amount: number;
  currency: string;
  status: PaymentStatus;
  refunded_amount: number;
  provider: string;
  provider_reference: string | null;
  expires_at: Time;
  paid_at: Time | null;
  createdAt: Time;
  updatedAt: Time;
  username: string;
}

/** What you pay for a purchase, or for all purchases of a basket. `client_secret` and `url` are there until it ends. */
export interface Payment {
  id: string;
  drop_id: string;
  basket_id: string | null;
  user_id: string;
  amount: number;
  currency: string;
  status: PaymentStatus;
  refunded_amount: number;
  provider: string;
  provider_reference: string | null;
  client_secret: string | null;
  url: string | null;
  expires_at: Time;
  paid_at: Time | null;
  createdAt: Time;
  updatedAt: Time;
}

/** Something that a payment provider told and that a seller has to look at. */
export interface PaymentProblem {
  id: number;
  at: Time;
  problem:
    | "unknown_payment" | "wrong_amount" | "wrong_currency" | "wrong_mode" | "refunded_in_part" | "refund_failed" | "too_late";
  provider: string;
  event_id: string;
  status: PaymentStatus;
  amount: number | null;
  currency: string | null;
  refunded_amount: number | null;
  payment_id: string | null;
  drop_id: string | null;
  user_id: string | null;
  username: string | null;
  payment_status: PaymentStatus | null;
  payment_amount: number | null;
  payment_currency: string | null;
}

/** Something that a payment provider was told, or is to be told. */
export interface ProviderCall {
  id: string;
  payment_id: string;
  drop_id: string;
  action: "create" | "cancel" | "refund";
  amount: number;
  currency: string;
  attempts: number;
  status: "open" | "done" | "given_up";
  next_attempt_at: Time;
  done_at: Time | null;
  gave_up_at: Time | null;
  last_error: string | null;
  createdAt: Time;
}

/** The money of a drop in one currency; `counts` says how many purchases have each status. */
export interface MoneyOfDrop {
  currency: string;
  sold_for: number;
  refunded: number;
  open: number;
  counts: Record<string, number>;
}

export interface Basket {
  id: string;
  user_id: string;
  reservations: Reservation[];
  amounts: Record<string, number>;
  expires_at: Time;
  createdAt: Time;
}

export interface User {
  id: string;
  username: string;
  createdAt: Time;
  updatedAt: Time;
}

/** The names of a row's user and variant, which a seller sees. */
export interface Named {
  username: string;
  variant_name: string | null;
}

export interface DropChange {
  id: number;
  at: Time;
  action: "created" | "updated" | "cancelled" | "refunded";
  user_id: string | null;
  username: string | null;
  db_user: string;
  details: Record<string, unknown>;
}

export interface ReservationChange {
  at: Time;
  action: "reserved" | "extended" | "expired" | "cancelled" | "purchased" | "refunded";
  user_id: string | null;
  details: Record<string, unknown>;
}

export type WebhookType =
  | "purchase.pending" | "purchase.paid" | "purchase.cancelled" | "purchase.refunded" | "hold.expired"
  | "drop.created" | "drop.updated" | "drop.sold_out" | "drop.cancelled" | "payment.flagged";
export type DeliveryStatus = "pending" | "delivered" | "given_up";

export interface NewWebhookEndpoint {
  url: string;
  event_types: WebhookType[];
}

export interface WebhookEndpointChanges {
  url?: string;
  event_types?: WebhookType[];
  active?: boolean;
}

export interface WebhookEndpoint {
  id: string;
  url: string;
  event_types: WebhookType[];
  active: boolean;
  disabled_at: Time | null;
  disabled_reason: "failing" | "gone" | null;
  failing_since: Time | null;
  previous_secret_ends_at: Time | null;
  createdAt: Time;
  updatedAt: Time;
}

export interface WebhookEndpointWithSecret extends WebhookEndpoint {
  secret: string;
}

/** A message for a webhook endpoint, and what became of it. */
export interface WebhookDelivery {
  id: string;
  endpoint_id: string;
  webhook_id: string;
  drop_id: string | null;
  type: WebhookType | "webhook.test";
  status: DeliveryStatus;
  attempts: number;
  last_attempt_at: Time | null;
  last_status: number | null;
  last_error: string | null;
  next_attempt_at: Time | null;
  give_up_at: Time;
  createdAt: Time;
}

/** What a seller decides of a drop, when it is made and later. */
export interface Terms {
  starts_at?: Time | null;
  ends_at?: Time | null;
  limit_per_user?: number | null;
  hold_seconds?: number | null;
  rehold_after_seconds?: number;
  extension_seconds?: number | null;
  image_url?: string | null;
}

export interface NewDrop extends Terms {
  name: string;
  price: number;
  total_stock?: number;
  variants?: { name: string; total_stock: number; price?: number | null }[];
  status?: "draft" | "scheduled" | "live" | null;
  currency?: string | null;
}

export interface DropChanges extends Terms {
  name?: string;
  price?: number;
  total_stock?: number;
  add_stock?: number;
  variants?: { id?: string; name?: string; total_stock?: number; add_stock?: number; price?: number | null }[];
  status?: Status;
  paused?: boolean;
}

export interface BasketItem {
  drop_id: string;
  variant_id?: string | null;
  qty?: number | null;
}

/** A refusal of the API, or a request that got no answer: then `status` is 0, and `code` is `UNREACHABLE` or `TIMEOUT`. */
export class LastpairError extends Error {
  /** The HTTP status. */
  status: number;
  /** What went wrong, for programs: one of docs/reference.md, or `UNEXPECTED_ANSWER` of something between. */
  code: string;
  /** The items of a basket that were refused. */
  items?: { index: number; code: string; message: string }[];
  /** To be quoted when you report an error. */
  requestId?: string;
  /** How long the server asks you to wait. */
  retryAfterMs?: number;
}

/** A list that is read page by page, as far as it is needed: `for await (const row of list)`. */
export interface List<Row> extends AsyncIterable<Row> {
  /** The same, a page at a time. */
  pages(): AsyncIterableIterator<Row[]>;
}

/** Rows of a page: 1 to 200, 50 if it is not given. */
export interface ListQuery {
  limit?: number;
}

export interface SalesQuery<RowStatus> extends ListQuery {
  status?: RowStatus;
  variant_id?: string;
  user_id?: string;
}

/** These go for one request, and in the constructor for all. */
export interface RequestSettings {
  /** How long an attempt may take. */
  timeoutMs?: number;
  /** How often a request is repeated after a passing failure, if it is safe to repeat. */
  retries?: number;
  /** The pause before the first repeat. It doubles each time, up to 4 s. What the server asks for is added. */
  retryMs?: number;
}

export interface RequestOptions extends RequestSettings {
  signal?: AbortSignal;
  /** Of a POST. Without one each call makes its own, and all its attempts have the same. */
  idempotencyKey?: string;
  /** Of a PATCH: the `etag` that `request("GET", "/drops/…")` answered. */
  ifMatch?: string;
}

export interface Answer {
  data: any;
  meta: { requestId: string; nextCursor?: string };
  etag?: string;
}

export class Lastpair {
  constructor(settings?: RequestSettings & {
    /** The origin of the service, and the path below which a proxy has it; the page's own origin if it is not given. */
    baseUrl?: string;
    /** The bearer token (AUTH_MODE=jwt), or a function that returns it. */
    token?: string | (() => string | Promise<string>);
    /** The user's id, and the name of a user who is new (AUTH_MODE=header). */
    userId?: string;
    userName?: string;
  });

  /** The drops on sale now, or with `status` those of this status. */
  listDrops(query?: ListQuery & { status?: Status }, options?: RequestOptions): List<ListedDrop>;
  getDrop(dropId: string, options?: RequestOptions): Promise<Drop>;
  /** Hold units for a limited time. */
  reserve(
    dropId: string, body?: { variant_id?: string | null; qty?: number | null }, options?: RequestOptions,
  ): Promise<Reservation>;
  /** Buy what you hold. With a payment provider it is `pending`, and `getPayment(payment_id)` has what you need to pay. */
  purchase(dropId: string, body?: { reservation_id?: string | null }, options?: RequestOptions): Promise<Purchase>;

  listMyReservations(query?: ListQuery, options?: RequestOptions): List<Reservation>;
  getReservation(reservationId: string, options?: RequestOptions): Promise<Reservation>;
  extendReservation(reservationId: string, options?: RequestOptions): Promise<Reservation>;
  cancelReservation(reservationId: string, options?: RequestOptions): Promise<Reservation>;
  getReservationHistory(reservationId: string, options?: RequestOptions): Promise<ReservationChange[]>;

  /** Hold units of several drops: all items, or none. */
  reserveBasket(items: BasketItem[], options?: RequestOptions): Promise<Basket>;
  getBasket(basketId: string, options?: RequestOptions): Promise<Basket>;
  purchaseBasket(basketId: string, options?: RequestOptions): Promise<Purchase[]>;
  cancelBasket(basketId: string, options?: RequestOptions): Promise<Basket>;

  listMyPurchases(query?: ListQuery, options?: RequestOptions): List<Purchase>;
  getPurchase(purchaseId: string, options?: RequestOptions): Promise<Purchase>;
  getPayment(paymentId: string, options?: RequestOptions): Promise<Payment>;
  /** Do not pay: the units go back to stock. */
  cancelPayment(paymentId: string, options?: RequestOptions): Promise<Payment>;
  /** Make yourself anonymous, and give back what you hold. */
  forgetMe(options?: RequestOptions): Promise<User>;

  createDrop(drop: NewDrop, options?: RequestOptions): Promise<Drop>;
  updateDrop(dropId: string, changes: DropChanges, options?: RequestOptions): Promise<Drop>;
  cancelDrop(dropId: string, body?: { refund?: boolean }, options?: RequestOptions): Promise<Drop>;
  /** Refund `qty` units, or all that are left. */
  refundPurchase(purchaseId: string, body?: { qty?: number | null }, options?: RequestOptions): Promise<Purchase>;
  listDropHistory(dropId: string, query?: ListQuery, options?: RequestOptions): List<DropChange>;
  listDropReservations(
    dropId: string, query?: SalesQuery<ReservationStatus>, options?: RequestOptions,
  ): List<Reservation & Named>;
  listDropPurchases(dropId: string, query?: SalesQuery<PurchaseStatus>, options?: RequestOptions): List<Purchase & Named>;
  listDropPayments(
    dropId: string, query?: ListQuery & { status?: PaymentStatus }, options?: RequestOptions,
  ): List<BuyersPayment>;
  getDropMoney(dropId: string, options?: RequestOptions): Promise<MoneyOfDrop[]>;
  listPaymentProblems(query?: ListQuery, options?: RequestOptions): List<PaymentProblem>;
  listDropProviderCalls(dropId: string, query?: ListQuery, options?: RequestOptions): List<ProviderCall>;
  /** Make a call to the payment provider again that failed or was given up. */
  retryProviderCall(callId: string, options?: RequestOptions): Promise<ProviderCall>;

  /** Tell a URL what happens from now on. Only this answer and that of `rotateWebhookSecret` have the secret. */
  createWebhookEndpoint(endpoint: NewWebhookEndpoint, options?: RequestOptions): Promise<WebhookEndpointWithSecret>;
  listWebhookEndpoints(query?: ListQuery, options?: RequestOptions): List<WebhookEndpoint>;
  getWebhookEndpoint(endpointId: string, options?: RequestOptions): Promise<WebhookEndpoint>;
  updateWebhookEndpoint(
    endpointId: string, changes: WebhookEndpointChanges, options?: RequestOptions,
  ): Promise<WebhookEndpoint>;
  deleteWebhookEndpoint(endpointId: string, options?: RequestOptions): Promise<WebhookEndpoint>;
  /** For a day messages are signed with the old secret as well. */
  rotateWebhookSecret(endpointId: string, options?: RequestOptions): Promise<WebhookEndpointWithSecret>;
  sendTestWebhook(endpointId: string, options?: RequestOptions): Promise<WebhookDelivery>;
  listWebhookDeliveries(
    endpointId: string,
    query?: ListQuery & { status?: DeliveryStatus; type?: WebhookType; drop_id?: string },
    options?: RequestOptions,
  ): List<WebhookDelivery>;
  /** Send a message once more. */
  replayWebhookDelivery(deliveryId: string, options?: RequestOptions): Promise<WebhookDelivery>;

  /** `live()` of the same service. */
  live(options?: LiveOptions): Live;
  /** Any request; `path` is what follows `/api`. */
  request(
    method: string, path: string, options?: RequestOptions & { query?: Record<string, unknown>; body?: unknown },
  ): Promise<Answer>;
}

/** The new stock of a variant. */
export interface VariantStock {
  id: string;
  availableStock: number;
}

/** An event as it came. `id` is the position to come back with, an opaque string. */
export type LiveEvent = { id: string } & (
  | { type: "SNAPSHOT"; data: { drops: ListedDrop[] } }
  | { type: "DROP_CREATED" | "DROP_UPDATED"; data: { drop: Drop } }
  | { type: "DROP_REMOVED"; data: { dropId: string } }
  | { type: "STOCK_UPDATED"; data: { dropId: string; availableStock: number; variants?: VariantStock[] } }
  | { type: "RESERVATION_EXPIRED"; data: { dropId: string; reservationId: string } }
  | { type: "PURCHASE_COMPLETED"; data: { dropId: string; username: string; qty: number; purchasedAt: Time } }
  | { type: "ACTIVITY_UPDATED"; data: { dropId: string; latestPurchasers: Purchaser[] } }
  | { type: "RESYNC_REQUIRED"; data: { reason: string } }
);

/**
 * - `connecting`: there was no answer yet.
 * - `live`: events come as they happen.
 * - `reconnecting`: the connection was lost, and another try follows.
 * - `paused`: the page is hidden.
 * - `closed`: close() was called, or the server refused the request.
 */
export type LiveStatus = "connecting" | "live" | "reconnecting" | "paused" | "closed";

export interface LiveOptions {
  baseUrl?: string;
  /** Up to 100 drops, in any status but draft. Without them: all that are scheduled or live. */
  dropIds?: string[];
  /**
   * Called for each event, after it changed the drops. `drop` is the drop of the event, and as it was before DROP_REMOVED. It is
   * undefined for a SNAPSHOT, for RESYNC_REQUIRED, and for a drop that the subscription does not have. `event` is undefined when
   * `held_stock` was read again after a refund, because no event says how many units were refunded.
   */
  onChange?: (drop: ListedDrop | undefined, event: LiveEvent | undefined) => void;
  onStatus?: (status: LiveStatus) => void;
  /** How long a page is hidden before it ends its stream. When it is seen again it gets the events that it missed. 10 s. */
  hiddenMs?: number;
  /** The pause before the first reconnect. It doubles each time, up to 30 s. 1 s. */
  retryMs?: number;
  /** Whether the tabs of a browser share a stream, by a SharedWorker where there is one. True if it is not given. */
  shared?: boolean;
  /** Closes the subscription when it is aborted. */
  signal?: AbortSignal;
}

export interface Live {
  /**
   * The drops by id, as they are now. A drop that changes is replaced by a new object. A drop that ends stays until the next
   * SNAPSHOT.
   */
  readonly drops: Map<string, ListedDrop>;
  readonly status: LiveStatus;
  /** Resolves when the first SNAPSHOT has arrived. Rejects with LastpairError if it never will. */
  readonly ready: Promise<Live>;
  close(): void;
}

/** Follow drops: their state, and each change, over lost connections, missed events and hidden pages. */
export function live(options?: LiveOptions): Live;

/** Change the drops as an event says; `live` does this. */
export function applyEvent(drops: Map<string, ListedDrop>, event: LiveEvent): void;

/** The drops as they are now, in any status but draft, and the id of the last event in them. */
export function snapshot(options?: {
  baseUrl?: string;
  dropIds?: string[];
  signal?: AbortSignal;
}): Promise<{ drops: ListedDrop[]; id: string }>;

/** What lastpair-worker.js does. */
export function serveTabs(): void;
