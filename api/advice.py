"""What to do about an error, English and Chinese: said after each row of sentences.py that only says what is wrong.

A test reads every row of that table: it is here, or says by itself what to do.
"""

from __future__ import annotations

_AGAIN_LATER = ("Send it again later. Nothing was charged.", "请稍后再提交；本次不计费。")
_CHECK_MODEL = ("Send one of these, or none for the default.", "请改用其中之一，或不写以使用默认模型。")
_NEW_INVITE = ("Ask the operator for a new one.", "请向管理员索取新的邀请码。")
_ONE_OF_THESE = ("Use one of these.", "请使用其中之一。")
_SEND_LESS = ("Send less at once.", "请减少一次提交的数量。")
_EXPORT = ("Export it again as CSV in UTF-8.", "请重新导出为 UTF-8 编码的 CSV。")
_IN_SEVERAL_LISTS = ("Send it in several lists, each with a key of its own.", "请拆成几张表分别提交。")
_FEWER_CELLS = ("Leave out what is empty or not needed.", "请删去空白或不需要的部分。")
_DRAW_AGAIN = ("Send its request again: it is drawn anew.", "请重发原请求，图片会重新绘制。")
_KEYS = ("Look at `zimg keys list` and name it with more letters.", "请查看 `zimg keys list`，并写出更多位。")

#: The English sentence of the table → (English, Chinese).
ADVICE: dict[str, tuple[str, str]] = {
    "The request could not be read.": (
        "Check the address, the headers and the body, and send it again.",
        "请检查地址、请求头和请求体后重发。",
    ),
    "{name} is not written as /docs says": ("Correct it and send it again.", "请改正后重发。"),
    "There is no model {name}. The models here: {models}.": _CHECK_MODEL,
    "Each request names the URL; this endpoint has none of its own.": (
        "Send `webhook_url` with each request.",
        "请在每个请求中写 `webhook_url`。",
    ),
    "The sheet has no column {name}.": ("Add the column, or name another one.", "请添加该列，或改用其他列名。"),
    "The template has a brace without its other half.": ("Close it, or take it out.", "请补全或删去该花括号。"),
    "{name} leads to an internal address": (
        "Use an address outside, or let the operator allow this one (ZIMG_WEBHOOK_ALLOW).",
        "请使用外部地址，或请管理员放行该地址（ZIMG_WEBHOOK_ALLOW）。",
    ),
    "The tenant {name} can not be banned.": ("Pause it instead.", "可以改为暂停该租户。"),
    "A ban needs a reason; its tenant reads it.": ("Send one with the ban.", "请在停用时一并写明。"),
    "The lanes are {names}.": _ONE_OF_THESE,
    "The body is not UTF-8.": ("Save it as UTF-8 and send it again.", "请以 UTF-8 编码重发。"),
    "The body is not valid JSON (line {line}, column {place}: {reason}).": (
        "Correct it there and send it again.",
        "请改正该处后重发。",
    ),
    "The body is nested too deeply.": ("Send it with fewer levels.", "请减少嵌套层数后重发。"),
    "The body holds a number with too many digits.": ("Send a shorter number.", "请改用位数较少的数。"),
    "{name} is not a JSON value.": ("Send a number, or leave it out.", "请改为数字，或去掉它。"),
    "A member may occur once only.": ("Take out the others and send it again.", "请删去重复的字段后重发。"),
    "{name} is not known here": (
        "Correct its name as /docs shows, or take it out.",
        "请按 /docs 改正字段名，或去掉它。",
    ),
    "{name} is required": ("Add it and send the request again.", "请补上后重发。"),
    "metadata has more than {most} bytes": ("Shorten it and send it again.", "请缩短后重发。"),
    "prompt has {length} characters; at most {most} are read": ("Shorten it and send it again.", "请缩短后重发。"),
    "prompt holds a control character, such as NUL": ("Take it out and send it again.", "请删去后重发。"),
    "Half of a surrogate pair is not a character.": ("Send the whole character, or leave it out.", "请发送完整字符。"),
    "size has {pixels} pixels; at most {most} are drawn, such as {nearest}": (
        "Use a smaller size.",
        "请使用较小的尺寸。",
    ),
    "The header has no column named {names}.": (
        "Name it in the first line and send the whole list again.",
        "请在第一行写上该列名，然后整表重发。",
    ),
    "row {row}: {name} is empty": ("Fill it in and send the whole list again.", "请填写后整表重发。"),
    "row {row}: {reason}": ("Correct the line and send the whole list again.", "请改正该行后整表重发。"),
    "The file is not a CSV: it holds NUL characters.": _EXPORT,
    "The file is not a readable CSV ({reason}).": _EXPORT,
    "The file has {count} rows; at most {most} are taken.": _IN_SEVERAL_LISTS,
    "The list's prompts have more than {most} characters together.": _IN_SEVERAL_LISTS,
    "The file has {count} lines; at most {most} are read.": _FEWER_CELLS,
    "The file has {count} cells; at most {most} are read.": _FEWER_CELLS,
    "The file has a line of {count} columns; at most {most} are read.": _FEWER_CELLS,
    "The operator's content rules do not allow this prompt. Nothing was charged.": (
        "Change the prompt and send it again.",
        "请修改提示词后重发。",
    ),
    "This call asks for {count} pictures, and this account may draw {most} a day": _SEND_LESS,
    "This call asks for {count} pictures, and this key may draw {most} a day": _SEND_LESS,
    "This call asks for {count} pictures, and of this account {most} may wait": _SEND_LESS,
    "This call asks for {count} pictures, and {most} may wait here": _SEND_LESS,
    "This call asks for {count} picture, and this account may draw {most} a day": _SEND_LESS,
    "This call asks for {count} picture, and this key may draw {most} a day": _SEND_LESS,
    "This call asks for {count} picture, and of this account {most} may wait": _SEND_LESS,
    "This call asks for {count} picture, and {most} may wait here": _SEND_LESS,
    "This needs an admin key in `Authorization: Bearer KEY`.": (
        "The first start of this service put one into the file `admin.key` in its data folder.",
        "本服务首次启动时已生成一个，保存在其数据目录的 `admin.key` 文件中。",
    ),
    "This service was started without an admin key (ZIMG_ADMIN_KEY).": (
        "Start it with one, such as `ZIMG_ADMIN_KEY=$(openssl rand -hex 20) make run`, and send that.",
        "请带密钥重新启动，例如 `ZIMG_ADMIN_KEY=$(openssl rand -hex 20) make run`，然后使用该密钥。",
    ),
    "This API key is not known here; it may have been revoked or replaced.": (
        "Send another one, or ask the operator for one.",
        "请改用其他密钥，或向管理员索取。",
    ),
    "This API key was revoked or replaced, or has expired, while the request was under way.": (
        "Send the request again with the key that holds now.",
        "请用当前有效的密钥重发请求。",
    ),
    "Nobody can sign up here by themselves; the operator makes keys.": (
        "Ask the operator for one.",
        "请向管理员索取密钥。",
    ),
    "This key may not use the {lane} lane.": (
        "Use another lane, or let the operator open this one for you.",
        "请使用其他通道，或请管理员为您开放。",
    ),
    "This account was stopped: {reason}": ("Ask the operator about it.", "请联系管理员。"),
    "This invite has expired.": _NEW_INVITE,
    "This invite is used up.": _NEW_INVITE,
    "This invite is not known here; it may have been withdrawn.": (
        "Check its letters, or ask the operator for a new one.",
        "请核对邀请码，或向管理员索取新的。",
    ),
    "There is no job with this id.": (
        "Check the id: /v1/jobs lists those of your key.",
        "请检查编号；/v1/jobs 列出此密钥的任务。",
    ),
    "There is no job with the id {name}; nothing was canceled.": (
        "Take it out of the list and send the others again.",
        "请从列表中去掉它，然后重发其余编号。",
    ),
    "There is no batch with this id.": (
        "Check the id: the answer to the list's POST named it.",
        "请检查编号；提交商品表时的应答中有它。",
    ),
    "There is no such picture.": (
        "Check the address: its job under /v1/jobs names it.",
        "请检查地址；/v1/jobs 中的任务写有它。",
    ),
    "There is no webhook with this id.": (
        "Check the id: /v1/webhooks lists yours.",
        "请检查编号；/v1/webhooks 列出您的地址。",
    ),
    "There is no such delivery.": (
        "Check the id: the webhook's deliveries are listed under /v1/webhooks.",
        "请检查编号；/v1/webhooks 下列有各次投递。",
    ),
    "There is no such key, or more than one begins like this.": _KEYS,
    "This service draws from words alone; it changes no pictures.": (
        "Describe the picture that you want to POST /v1/images/generations.",
        "请把想要的画面写成文字，发送到 POST /v1/images/generations。",
    ),
    "There is no such open key, or more than one begins like this.": _KEYS,
    "There is no invite with this id.": (
        "Check the id: /v1/admin/invites lists them.",
        "请检查编号；/v1/admin/invites 列出全部邀请码。",
    ),
    "There is no dead letter with this id.": (
        "Check the id: /v1/admin/dead-letters lists them.",
        "请检查编号；/v1/admin/dead-letters 列出全部死信任务。",
    ),
    "There is no tenant of this name.": (
        "Check the name: /v1/admin/tenants lists them.",
        "请检查名称；/v1/admin/tenants 列出全部租户。",
    ),
    "No worker of this name is alive.": (
        "Check the name: /admin shows those that are.",
        "请检查名称；/admin 显示在线的工作进程。",
    ),
    "This address takes {methods}.": _ONE_OF_THESE,
    "The job does not wait in a queue; only a waiting job can be moved.": (
        "Look at its status: it runs, or has ended.",
        "请查看任务状态：它正在运行或已结束。",
    ),
    "There is no key to replace: the operator's own is ZIMG_ADMIN_KEY, and localhost needs none.": (
        "Change ZIMG_ADMIN_KEY and start the service again, or make a key with `zimg keys create`.",
        "请修改 ZIMG_ADMIN_KEY 后重启服务，或用 `zimg keys create` 创建密钥。",
    ),
    "This session is another account's by now.": ("Load the page anew.", "请重新加载页面。"),
    "This job was deleted, or its record expired.": _DRAW_AGAIN,
    "This picture expired or was deleted.": _DRAW_AGAIN,
    "The pictures of this list were deleted, or their records expired.": _DRAW_AGAIN,
    "The job was deleted while it was waited for.": _DRAW_AGAIN,
    "The body has {count} bytes; at most {most} are read.": ("Send less at once.", "请减小后重发。"),
    "The body is too large; at most {most} bytes are read.": ("Send less at once.", "请减小后重发。"),
    "The address and each header may have {most} bytes, and there may be {count} headers.": (
        "Send a shorter address, and fewer and shorter headers.",
        "请缩短地址，并减少、缩短请求头。",
    ),
    "The picture could not be made.": (
        "Change the prompt and send it again. Nothing was charged.",
        "请修改提示词后重试；本次不计费。",
    ),
    "The pipeline failed ({reason}).": _AGAIN_LATER,
    "The engine was closed.": _AGAIN_LATER,
    "No picture within {seconds} s.": _AGAIN_LATER,
    "The card had no room for this picture.": (
        "Use a smaller size, or send it again later. Nothing was charged.",
        "请使用较小的尺寸，或稍后再提交；本次不计费。",
    ),
    "The picture came out black or flat twice; another seed may do better.": (
        "Send it again with one. Nothing was charged.",
        "请换一个后重发；本次不计费。",
    ),
    "The storage refused {what} ({reason}).": _AGAIN_LATER,
    "The picture was drawn, but the storage did not take it within the deadline.": _AGAIN_LATER,
    "The picture that waited for the storage was lost from the disk.": _AGAIN_LATER,
    "The job ended its worker each time it ran alone.": (
        "Change the prompt or the size. Nothing was charged.",
        "请修改提示词或尺寸；本次不计费。",
    ),
    "The job did not finish within its deadline.": _AGAIN_LATER,
    "The job was canceled.": (
        "Send it again if you still want it. Nothing was charged.",
        "如仍需要，请重新提交；本次不计费。",
    ),
    "{count} of at least {least} workers alive": (
        "Try again shortly, or tell the operator.",
        "请稍后重试，或联系管理员。",
    ),
    "The storage can not take or give pictures now ({reason}).": ("Try again shortly.", "请稍后重试。"),
}
