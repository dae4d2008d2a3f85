-- The picture of a drop: it is set, changed and cleared, shown wherever a drop is shown, announced, and noted in the history.
begin;
select plan(12);

select pg_temp.make_users('seller');
create temp table made on commit drop as
select id, image_url from api.create_drop(
  'shoes', 10, 5, pg_temp.user_id('seller'), now(), p_terms => '{"image_url": "https://shop.example/shoe.jpg"}');
select pg_temp.make_drop('plain', 5);

create function pg_temp.change(p_changes jsonb) returns text language sql as $$
  select coalesce(image_url, 'none') || ' ' || revision from api.update_drop((select id from made), p_changes)
$$;

select is((select image_url from made), 'https://shop.example/shoe.jpg', 'A new drop has the picture that it was made with.');
select is((select image_url from api.get_drop(pg_temp.drop_id('plain'))), null, 'A drop may do without one.');
select is(
  (select image_url from api.list_drops(p_limit => 1000) where id = (select id from made)), 'https://shop.example/shoe.jpg',
  'A list shows it.'
);
select is(
  (
    select d ->> 'image_url' from api.snapshot(array(select id from made)) s, json_array_elements(s.data -> 'drops') d
  ),
  'https://shop.example/shoe.jpg', 'So does a snapshot.'
);
select is(pg_temp.change('{"image_url": "/shoe.jpg"}'), '/shoe.jpg 2', 'It is changed, which raises the revision.');
select is(pg_temp.change('{"image_url": "/shoe.jpg"}'), '/shoe.jpg 2', 'The same picture is no change.');
select is(pg_temp.change('{"price": 11}'), '/shoe.jpg 3', 'A change of another field leaves it alone.');
select is(
  (pg_temp.announced($$select pg_temp.change('{"image_url": null}')$$))[1] ~ '^DROP_UPDATED .*"image_url":null',
  true, 'It is cleared, which is announced.'
);
select is(
  pg_temp.refusal($$select pg_temp.change('{"image_url": "http://shop.example/shoe.jpg"}')$$),
  'PT400 VALIDATION_ERROR: image_url: must be an https URL or a path on this host, such as /shoe.jpg, of at most 2000 characters; '
    'http is for localhost',
  'A bad address is refused in words.'
);
select is(
  pg_temp.refusal($$select pg_temp.change('{"image_url": 1}')$$), 'PT400 VALIDATION_ERROR: image_url: must be a string',
  'So is what is no text.'
);
select is(
  pg_temp.refusal(
    $$select api.create_drop('bad', 1, 1, pg_temp.user_id('seller'), p_terms => '{"image_url": "//shop.example/shoe.jpg"}')$$),
  'PT400 VALIDATION_ERROR: image_url: must be an https URL or a path on this host, such as /shoe.jpg, of at most 2000 characters; '
    'http is for localhost',
  'A new drop is checked as well.'
);
select results_eq(
  $$
    select h.details -> 'image_url'
    from inventory.drop_changes h
    where h.drop_id = (select id from made) and h.details ? 'image_url'
    order by h.id
  $$,
  $$
    values
      ('"https://shop.example/shoe.jpg"'::jsonb), ('{"from": "https://shop.example/shoe.jpg", "to": "/shoe.jpg"}'),
      ('{"from": "/shoe.jpg", "to": null}')
  $$,
  'The history has every picture.'
);

select * from finish();
rollback;
