"""What scripts leave behind in the server's Lua, which it collects in the middle of others."""

from tests.queue_kit import Kit

SERVERS_OWN_PAUSE = 200


def test_what_scripts_leave_behind_is_collected_sooner_than_by_the_servers_own_setting(valkey):
    valkey.eval(f"return collectgarbage('setpause', {SERVERS_OWN_PAUSE})", 0)

    Kit(valkey).queued()

    assert valkey.eval(f"return collectgarbage('setpause', {SERVERS_OWN_PAUSE})", 0) == 125
