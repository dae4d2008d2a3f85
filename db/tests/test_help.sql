-- api.help lists what the caller may call, in one screen.
begin;
select plan(7);

create temp table helped on commit drop as select 'owner'::text as caller, h.* from api.help() h;
set local role lastpair_seller;
create temp table sellers on commit drop as select * from api.help();
set local role lastpair_buyer;
create temp table buyers on commit drop as select * from api.help();
reset role;

select ok((select count(*) from sellers) between 20 and 50, 'The list of a seller fits one screen.');
select is_empty('select * from helped where arguments is null or does is null or does = '''' or does ~ E''\\n''', 'Each has a line.');
select is_empty(
  $$select * from helped cross join regexp_split_to_table(arguments, E'\n') line where length(line) > 60 or length(does) > 70$$,
  'A line is no longer than a screen.'
);
select is(
  (select array_agg(arg order by arg) from helped cross join regexp_split_to_table(arguments, ',\s') arg where function = 'reserve'),
  array['[idempotency_key]', '[qty]', '[ttl_seconds]', '[variant_id]', 'drop_id', 'user_id'], 'No argument is left out.'
);
select results_eq(
  $$select arguments from helped where function = 'get_drop'$$, array['drop_id, [drafts]'], 'Arguments are named as on the wire.'
);
select is_empty('select * from helped where function ~ ''batch|outcome|json|^(take|finish|fail)_|_event$''', 'Batches, outcomes and what a worker calls are for programs.');
select ok(
  (select array_agg(function) @> array['reserve', 'help'] and not array_agg(function) && array['update_drop', 'audit'] from buyers),
  'A buyer is shown what a buyer may call.'
);

select * from finish();
rollback;
