-- Privileges: which role may execute which public function. PUBLIC may execute nothing, and no role may execute a private
-- function. A public function that has no line here can be executed by its owner only; db/tests/test_privileges.sql names it.
--
-- lastpair_buyer acts for one user, lastpair_seller makes and runs drops, lastpair_service is what the service works as.
-- lastpair_api is a member of all three. In a function that takes a user, inventory.require_self refuses a buyer or a seller who
-- names another user. A batch has no such check, so only lastpair_service may execute a batch.
--
-- The deployment runs this file again whenever it has applied a function file, in the same transaction, because PUBLIC may
-- execute a new function until then.

revoke all on all functions in schema inventory, api
from public, lastpair_api, lastpair_buyer, lastpair_seller, lastpair_service;

do $$
declare
  v_line record;
begin
  for v_line in
    select p.oid::regprocedure as signature, l.roles
    from (values
      -- Read what everybody may see.
      ('activity',            'lastpair_buyer, lastpair_seller, lastpair_service'),
      ('currencies',          'lastpair_buyer, lastpair_seller, lastpair_service'),
      ('errors',              'lastpair_buyer, lastpair_seller, lastpair_service'),
      ('events_after',        'lastpair_buyer, lastpair_seller, lastpair_service'),
      ('get_drop',            'lastpair_buyer, lastpair_seller, lastpair_service'),
      ('help',                'lastpair_buyer, lastpair_seller, lastpair_service'),
      ('list_drops',          'lastpair_buyer, lastpair_seller, lastpair_service'),
      ('snapshot',            'lastpair_buyer, lastpair_seller, lastpair_service'),

      -- Act for oneself. A seller is a user, too, because a drop has a creator.
      ('create_stream_ticket', 'lastpair_buyer, lastpair_seller, lastpair_service'),
      ('ensure_user',         'lastpair_buyer, lastpair_seller, lastpair_service'),
      ('get_purchase',        'lastpair_buyer, lastpair_seller, lastpair_service'),
      ('get_reservation',     'lastpair_buyer, lastpair_seller, lastpair_service'),
      ('reservation_history', 'lastpair_buyer, lastpair_seller, lastpair_service'),
      ('forget_user',         'lastpair_buyer, lastpair_seller, lastpair_service'),
      ('my_purchases',        'lastpair_buyer, lastpair_seller, lastpair_service'),
      ('my_reservations',     'lastpair_buyer, lastpair_seller, lastpair_service'),
      ('cancel_basket',       'lastpair_buyer, lastpair_service'),
      ('cancel_payment',      'lastpair_buyer, lastpair_service'),
      ('cancel_reservation',  'lastpair_buyer, lastpair_service'),
      ('extend_reservation',  'lastpair_buyer, lastpair_service'),
      ('get_basket',          'lastpair_buyer, lastpair_service'),
      ('get_payment',         'lastpair_buyer, lastpair_service'),
      ('purchase',            'lastpair_buyer, lastpair_service'),
      ('purchase_basket',     'lastpair_buyer, lastpair_service'),
      ('reserve',             'lastpair_buyer, lastpair_service'),
      ('reserve_basket',      'lastpair_buyer, lastpair_service'),

      -- Make and run drops.
      ('create_drop',         'lastpair_seller, lastpair_service'),
      ('create_drop_from_json', 'lastpair_seller, lastpair_service'),
      ('cancel_drop',         'lastpair_seller, lastpair_service'),
      ('drop_money',          'lastpair_seller, lastpair_service'),
      ('history',             'lastpair_seller, lastpair_service'),
      ('list_payment_problems', 'lastpair_seller, lastpair_service'),
      ('list_payments',       'lastpair_seller, lastpair_service'),
      ('list_provider_calls', 'lastpair_seller, lastpair_service'),
      ('list_purchases',      'lastpair_seller, lastpair_service'),
      ('list_reservations',   'lastpair_seller, lastpair_service'),
      ('refund_drop',         'lastpair_seller, lastpair_service'),
      ('refund_purchase',     'lastpair_seller, lastpair_service'),
      ('retry_provider_call', 'lastpair_seller, lastpair_service'),
      ('update_drop',         'lastpair_seller, lastpair_service'),
      ('create_webhook_endpoint', 'lastpair_seller, lastpair_service'),
      ('delete_webhook_endpoint', 'lastpair_seller, lastpair_service'),
      ('get_webhook_endpoint', 'lastpair_seller, lastpair_service'),
      ('list_webhook_deliveries', 'lastpair_seller, lastpair_service'),
      ('list_webhook_endpoints', 'lastpair_seller, lastpair_service'),
      ('replay_webhook_delivery', 'lastpair_seller, lastpair_service'),
      ('rotate_webhook_secret', 'lastpair_seller, lastpair_service'),
      ('send_test_webhook',   'lastpair_seller, lastpair_service'),
      ('update_webhook_endpoint', 'lastpair_seller, lastpair_service'),

      -- Act for many users, and keep the shop going. audit is here because it reads every row of every drop.
      ('advance_drops',       'lastpair_service'),
      ('audit',               'lastpair_service'),
      ('call',                'lastpair_service'),
      ('cancel_batch',        'lastpair_service'),
      ('count_watchers',      'lastpair_service'),
      ('claim_names',         'lastpair_service'),
      ('claim_reconciliation', 'lastpair_service'),
      ('copy_webhook_endpoint', 'lastpair_service'),
      ('count_provider_calls', 'lastpair_service'),
      ('create_user',         'lastpair_service'),
      ('create_user_outcome', 'lastpair_service'),
      ('cursor_time',         'lastpair_service'),
      ('deployed',            'lastpair_service'),
      ('ensure_epoch',        'lastpair_service'),
      ('ensure_user_batch',   'lastpair_service'),
      ('rename_user_batch',   'lastpair_service'),
      ('event_key',           'lastpair_service'),
      ('expire_payments',     'lastpair_service'),
      ('expire_reservations', 'lastpair_service'),
      ('fail_provider_call',  'lastpair_service'),
      ('finish_provider_call', 'lastpair_service'),
      ('has_idempotency_key', 'lastpair_service'),
      ('is_superseded',       'lastpair_service'),
      ('knows_payment',       'lastpair_service'),
      ('load',                'lastpair_service'),
      ('names_of',            'lastpair_service'),
      ('node',                'lastpair_service'),
      ('on_sale_version',     'lastpair_service'),
      ('open_work',           'lastpair_service'),
      ('prune_events',        'lastpair_service'),
      ('prune_idempotency_keys', 'lastpair_service'),
      ('purchase_batch',      'lastpair_service'),
      ('record_payment_event', 'lastpair_service'),
      ('redeem_stream_ticket', 'lastpair_service'),
      ('refund_purchase_outcome', 'lastpair_service'),
      ('relayed_events_after', 'lastpair_service'),
      ('release_name',        'lastpair_service'),
      ('reserve_basket_batch', 'lastpair_service'),
      ('reserve_batch',       'lastpair_service'),
      ('set_payment_provider', 'lastpair_service'),
      ('set_purchaser_names', 'lastpair_service'),
      ('take_provider_calls', 'lastpair_service'),
      ('unsettled_payments',  'lastpair_service'),
      ('fan_out_webhooks',    'lastpair_service'),
      ('take_webhook_deliveries', 'lastpair_service'),
      ('finish_webhook_deliveries', 'lastpair_service'),
      ('prune_webhooks',      'lastpair_service'),
      ('webhook_backlog',     'lastpair_service'),
      ('webhook_endpoint_copies', 'lastpair_service')
    ) as l (function, roles)
    join pg_catalog.pg_proc p on p.proname = l.function and p.pronamespace = 'api'::regnamespace
  loop
    execute format('grant execute on function %s to %s', v_line.signature, v_line.roles);
  end loop;
end
$$;
