-- Close a key for ever, also while the server is full. ARGV: the key's id.
return redis.call('HSET', PREFIX .. 'key:' .. ARGV[1], 'revoked_ms', server_ms())
