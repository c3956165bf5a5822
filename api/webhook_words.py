"""Why an endpoint is off, and why an event did not arrive: what is kept of it, in English, and the Chinese for it."""

from __future__ import annotations

from scheduler.webhook_calls import BLOCKED, NOT_TRIED, OFF_SINCE_GONE

#: Why an endpoint is off that was turned off by hand.
OFF_BY_OWNER = "its owner turned it off"

#: (English, Chinese). No refusals: they need no advice, and stand in no problem.
WORDS: tuple[tuple[str, str], ...] = (
    (OFF_SINCE_GONE, "对方应答 410 Gone"),
    (OFF_BY_OWNER, "已由所有者关闭"),
    (NOT_TRIED, "未尝试：该 webhook 已关闭"),
    (f"{BLOCKED}: {{name}} leads to an internal address", "不允许：{name} 指向内部地址"),
    ("its certificate is not trusted", "对方的证书不受信任"),
    ("no TLS connection came about", "未能建立 TLS 连接"),
    ("no such host is known to the name servers", "域名服务器查不到该主机"),
    ("the address is not one that can be called", "该地址无法调用"),
    ("no answer in time", "对方未在期限内应答"),
    ("nobody takes the connection there", "对方没有接受连接"),
    ("what answers there is no web server", "应答的不是 Web 服务器"),
    ("the connection broke off", "连接中断"),
    ("it could not be sent", "未能发出"),
)
