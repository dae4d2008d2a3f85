-- Believable data for development, made with the public functions: people, drops in every status, with and without sizes, holds,
-- sales, a refund.
-- A person's id is made from the name, so a second run finds the same people and adds new drops. It is one statement that commits
-- after every step, because each sale should have its own time.

do $$
declare
  v_names text[] := array[
    'amara', 'bjorn', 'carmen', 'dmitri', 'elif', 'farid', 'grace', 'hiro', 'ines', 'jonas', 'kofi', 'lena', 'mateo', 'nadia',
    'omar', 'priya', 'quinn', 'rosa', 'soren', 'tala', 'umar', 'vera', 'wei', 'xenia', 'yusuf', 'zoe'
  ];
  v_drops json := '[
    {"name": "Aurora Runner 90 \"First Light\"", "price": 189.00, "starts": "-2 hours", "ends": "1 day", "buyers": 18, "holders": 6,
      "sizes": "38:1 39:2 40:3 41:5 42:7 43:8 44:6 45:4 46:2 47:1:199", "terms": {"limit_per_user": 2, "extension_seconds": 60}},
    {"name": "Court Classic Low, Bone/Clay", "price": 120.00, "stock": 12, "starts": "-35 minutes", "buyers": 9, "holders": 3},
    {"name": "Night Market Tee, run of 200", "price": 6800, "starts": "-3 days", "ends": "4 days", "buyers": 24, "holders": 1,
      "sizes": "S:30 M:70 L:70 XL:30", "terms": {"currency": "JPY", "limit_per_user": 4, "rehold_after_seconds": 300}},
    {"name": "Trail Guide GTX \"Fjord\"", "price": 229.99, "starts": "2 hours", "ends": "2 days",
      "sizes": "40:3 41:4 42:6 43:6 44:4 45:2", "terms": {"currency": "EUR", "limit_per_user": 1}},
    {"name": "Aurora Slide, graphite", "price": 65.00, "stock": 18, "starts": "-20 minutes", "buyers": 5, "then": {"paused": true}},
    {"name": "Velvet Hall, front row, Friday", "price": 85.00, "stock": 60, "starts": "5 minutes", "ends": "6 hours"},
    {"name": "Aurora Runner 90 \"Last Light\"", "price": 189.00, "stock": 30},
    {"name": "Studio Cap, friends and family", "price": 0, "stock": 8, "starts": "-5 days", "buyers": 7, "then": {"status": "ended"}},
    {"name": "Harbour Parka, sample colours", "price": 310.00, "stock": 5, "starts": "-1 day", "holders": 2, "then": {"status": "cancelled"}}
  ]';
  v_users uuid[];
  v_buyer uuid;
  v_drop json;
  v_drop_id uuid;
  v_wanted record; -- what somebody wants: a size, if the drop has sizes, and units
  v_first integer := 1;
begin
  select array_agg(u.id order by n.position) into v_users
  from unnest(v_names) with ordinality as n (name, position)
  cross join lateral api.ensure_user(md5('lastpair seed ' || n.name)::uuid, n.name) u;
  commit;

  for v_drop in select * from json_array_elements(v_drops) loop
    select d.id into v_drop_id
    from api.create_drop(
      v_drop ->> 'name',
      (v_drop ->> 'price')::numeric,
      (v_drop ->> 'stock')::integer,
      v_users[1],
      now() + (v_drop ->> 'starts')::interval,
      now() + (v_drop ->> 'ends')::interval,
      p_variants => (
        select jsonb_agg(
          jsonb_build_object(
            'name', split_part(s.size, ':', 1), 'total_stock', split_part(s.size, ':', 2)::integer,
            'price', nullif(split_part(s.size, ':', 3), '')::numeric)
          order by s.position)
        from string_to_table(v_drop ->> 'sizes', ' ') with ordinality as s (size, position)
      ),
      p_terms => (v_drop ->> 'terms')::jsonb
    ) d;
    commit;

    -- Everybody wants one size; if there is none left, it is another one. Every fourth wants two units, where one may have two.
    for i in 0 .. coalesce((v_drop ->> 'buyers')::integer, 0) + coalesce((v_drop ->> 'holders')::integer, 0) - 1 loop
      v_buyer := v_users[1 + (v_first + i) % cardinality(v_users)];
      select size.id, case when i % 4 = 3 and d.limit_per_user > 1 then least(2, size.available_stock) else 1 end as units
      into v_wanted
      from inventory.drops d
      left join lateral (
        select v.id, v.available_stock
        from inventory.variants v
        where v.drop_id = d.id and v.available_stock > 0
        order by md5(v_buyer::text || v.name)
        limit 1
      ) size on true
      where d.id = v_drop_id;
      perform from api.reserve(
        v_drop_id, v_buyer, p_ttl_seconds => 300 + 20 * i, p_variant_id => v_wanted.id, p_qty => v_wanted.units);
      commit;
      if i < coalesce((v_drop ->> 'buyers')::integer, 0) then
        perform from api.purchase(v_drop_id, v_buyer);
        commit;
      end if;
    end loop;
    v_first := v_first + coalesce((v_drop ->> 'buyers')::integer, 0);

    if v_drop ->> 'then' is not null then
      perform from api.update_drop(v_drop_id, (v_drop ->> 'then')::jsonb);
      commit;
    end if;
  end loop;

  -- The last buyer of two units gets a refund.
  perform from api.refund_purchase((select p.id from inventory.purchases p where p.qty > 1 order by p.created_at desc limit 1));
end
$$;
