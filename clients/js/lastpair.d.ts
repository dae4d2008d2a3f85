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
    | "unknown_payment" | "wrong_amount" | "wrong_currency" | "wrong_mode" | "refunded_in_part" | "refund_failed" | "too_late"
    | "paid_twice";
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

/** An event of the last minutes, with its drop and the time of its commit. */
export interface ActivityEvent {
  id: string;
  type: string;
  dropId: string;
  at: Time;
  data: Record<string, any>;
}

/** The stock of a drop at the end of a bucket of time, and what was sold within it. */
export interface ActivityPoint {
  at: Time;
  sold: number;
  held: number | null;
  available: number | null;
}

export interface ActivityOfDrop {
  dropId: string;
  points: ActivityPoint[];
}

/** What happened lately. A stream with `position` as its `lastEventId` goes on from here. */
export interface Activity {
  position: string;
  from: Time;
  to: Time;
  events: ActivityEvent[];
  bucket_seconds: number;
  drops: ActivityOfDrop[];
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
  /** Another drop: one basket can have both. */
  near?: string | null;
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

/**
 * A refusal of the API, or a request that got no answer: then `status` is 0, and `code` is `UNREACHABLE`, with the error of `fetch`
 * as its `cause`, or `TIMEOUT`. What cannot be sent at all is a `TypeError`.
 */
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
  /** The nodes of the service that could not be reached for a page read so far, whose rows may be missing; empty if none. */
  incomplete: string[];
}

/** Rows of a page: 1 to 200, 50 if it is not given. */
export interface ListQuery {
  limit?: number;
}

/** Which rows of a drop: those of a status, a variant, a user. */
export interface Filter<RowStatus> {
  status?: RowStatus;
  variant_id?: string;
  user_id?: string;
}

export interface SalesQuery<RowStatus> extends ListQuery, Filter<RowStatus> {}

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
  /** A string if the answer is CSV. */
  data: any;
  /** `incomplete`, of a list: the nodes that cannot be reached, whose rows are missing. */
  meta: { requestId: string; nextCursor?: string; incomplete?: string[] };
  etag?: string;
}

/** The constructor throws TypeError if nothing can be sent to this URL or with this identity. */
export class Lastpair {
  constructor(settings?: RequestSettings & {
    /** The origin of the service, and the path below which a proxy has it; the page's own origin if it is not given. */
    baseUrl?: string;
    /** The bearer token (AUTH_MODE=jwt), or a function that returns it. */
    token?: string | (() => string | Promise<string>);
    /** The user's id, and the name of a user who is new (AUTH_MODE=header). */
    userId?: string;
    userName?: string;
    /** Sends the requests instead of the global `fetch`: through a proxy, for example, or to read headers of the answers. */
    fetch?: typeof fetch;
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
  /** Undefined if the answer to the attempt that removed it was lost, because then the next attempt does not find it. */
  deleteWebhookEndpoint(endpointId: string, options?: RequestOptions): Promise<WebhookEndpoint | undefined>;
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

  /** The whole list as CSV, with a line of names. If it is long, it may take more than `timeoutMs`. */
  exportDropReservations(dropId: string, query?: Filter<ReservationStatus>, options?: RequestOptions): Promise<string>;
  exportDropPurchases(dropId: string, query?: Filter<PurchaseStatus>, options?: RequestOptions): Promise<string>;

  /** The events of the last `seconds` (3600), and the stock by time, of these drops, or of those on sale. */
  getActivity(query?: { seconds?: number; dropIds?: string[] }, options?: RequestOptions): Promise<Activity>;
  /** How many streams are open, over all processes of the service. Tabs that share a stream are one. */
  watchers(options?: RequestOptions): Promise<number>;
  /** `live()` of the same service. */
  live(options?: LiveOptions): Live;
  /** Any request; `path` is what follows `/api`. A list in `query` is sent as a parameter for each. */
  request(
    method: string, path: string,
    options?: RequestOptions & { query?: Record<string, unknown>; body?: unknown; accept?: string },
  ): Promise<Answer>;
}

/** The new stock of a variant. */
export interface VariantStock {
  id: string;
  availableStock: number;
}

/** When an event was committed. */
export interface Committed {
  at: Time;
}

/** A payment as an event has it. */
export interface PaymentState {
  id: string;
  amount: number;
  currency: string;
  status: "pending" | "paid" | "failed" | "cancelled" | "refunded";
  refunded_amount: number;
  expires_at: Time;
  client_secret: string | null;
  url: string | null;
}

/** An event as it came. `id` is the position to come back with, an opaque string. PAYMENT_UPDATED takes an `identity`. */
export type LiveEvent = { id: string } & (
  | { type: "SNAPSHOT"; data: { drops: ListedDrop[]; incomplete?: string[]; completes?: string[] } }
  | { type: "PAYMENT_UPDATED"; data: Committed & { dropId: string; payment: PaymentState } }
  | { type: "DROP_CREATED" | "DROP_UPDATED"; data: Committed & { drop: Drop } }
  | { type: "DROP_REMOVED"; data: Committed & { dropId: string } }
  | { type: "STOCK_UPDATED"; data: Committed & { dropId: string; availableStock: number; variants?: VariantStock[] } }
  | { type: "RESERVATION_EXPIRED"; data: Committed & { dropId: string; reservationId: string } }
  | { type: "PURCHASE_COMPLETED"; data: Committed & { dropId: string; username: string; qty: number; purchasedAt: Time } }
  | { type: "ACTIVITY_UPDATED"; data: Committed & { dropId: string; latestPurchasers: Purchaser[] } }
  | { type: "RESYNC_REQUIRED"; data: { reason: string } }
);

/**
 * - `connecting`: there was no answer yet.
 * - `live`: events come as they happen.
 * - `reconnecting`: the connection was lost, and another try follows: after a pause, or as soon as the page is seen again or the
 *   browser is online again, but never sooner than the server asked for.
 * - `paused`: the page is hidden.
 * - `closed`: close() was called, the server refused the request, or a function returned what is no token.
 */
export type LiveStatus = "connecting" | "live" | "reconnecting" | "paused" | "closed";

export interface LiveOptions {
  baseUrl?: string;
  /** Up to 100 drops, in any status but draft. Without them: all that are scheduled or live. */
  dropIds?: string[];
  /**
   * Whose events come besides the public ones: those that are for this user alone, of whatever drop. A token that is a function is
   * called for each connection. Such a stream is not shared with other tabs. `live()` of a Lastpair object has the object's
   * identity; `null` takes it away.
   */
  identity?: { token?: string | (() => string | Promise<string>); userId?: string } | null;
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
  /** Whether tabs share a stream without an identity, by a SharedWorker where there is one. True if it is not given. */
  shared?: boolean;
  /** Closes the subscription when it is aborted. */
  signal?: AbortSignal;
}

export interface Live {
  /**
   * The drops by id, as they are now. A drop that changes is replaced by a new object. A drop that ends stays until the next
   * SNAPSHOT, or until you delete it. A drop that you add, one that is over for example, changes with its events, too. You add it
   * again after each SNAPSHOT, in onChange.
   */
  readonly drops: Map<string, ListedDrop>;
  readonly status: LiveStatus;
  /**
   * Resolves when the first SNAPSHOT has arrived. Rejects if it never will: with LastpairError, or with TypeError if a function
   * returned what is no token.
   */
  readonly ready: Promise<Live>;
  close(): void;
}

/**
 * Follow drops: their state, and each change, over lost connections, missed events and hidden pages. Throws TypeError if nothing
 * can be sent to this URL or with this identity.
 */
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
