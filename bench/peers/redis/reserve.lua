-- Holds a unit of a drop for a user. KEYS: the stock of the drop, the user's hold of it. ARGV: the id of the hold, its seconds.
if redis.call('exists', KEYS[2]) == 1 then return 'ALREADY_RESERVED' end
if tonumber(redis.call('get', KEYS[1]) or '0') <= 0 then return 'OUT_OF_STOCK' end
redis.call('decr', KEYS[1])
redis.call('set', KEYS[2], ARGV[1], 'EX', ARGV[2])
return 'OK'
