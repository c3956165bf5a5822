-- A tenant's cap of running jobs has changed: its queues are looked at again. ARGV: tenant.
unpark(ARGV[1])
return 1
