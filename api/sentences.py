"""What an error says beyond its title, English and Chinese side by side: code → sentences with the same {facts}.

The parts below the API know no languages: they raise an English sentence, and a failed job keeps one. translation.py
finds the row that a sentence was made from. A test reads every `raise` of ours and finds each in this table.
"""

from __future__ import annotations

#: For each code, (English, Chinese). Of the facts, those in translation.NUMBERS are numbers.
SENTENCES: dict[str, tuple[tuple[str, str], ...]] = {
    "invalid_request": (
        ("The request could not be read.", "无法读取该请求。"),
        ("{name} is not written as /docs says", "{name} 的写法与 /docs 所述不符"),
        (
            "Idempotency-Key must have 1 to 255 printable ASCII characters without spaces.",
            "Idempotency-Key 须为 1 到 255 个可打印的 ASCII 字符，不含空格。",
        ),
        ("There is no model {name}. The models here: {models}.", "没有模型 {name}。本服务的模型：{models}。"),
        (
            "cursor is none of this list; send the request without one.",
            "cursor 不属于该列表，请不带 cursor 重新请求。",
        ),
        ("There are {most} endpoints already; remove one first.", "已有 {most} 个 webhook 地址，请先删除一个。"),
        (
            "Each request names the URL; this endpoint has none of its own.",
            "地址由每个请求自行给出，此 webhook 没有自己的地址。",
        ),
        ("confirm must be the account's own name, {name}.", "confirm 须为本账户的名称 {name}。"),
        ("The sheet has no column {name}.", "商品表中没有名为 {name} 的列。"),
        ("The template has a brace without its other half.", "模板中有未配对的花括号。"),
        (
            "A template may hold {{column}} only, nothing else in braces.",
            "模板的花括号中只能写列名，即 {{column}}，不能写其他内容。",
        ),
        ("This name is taken; choose another.", "该名称已被占用，请换一个。"),
        (
            "{name} must be http:// or https:// with a host, without a user",
            "{name} 须以 http:// 或 https:// 开头并带主机名，不能带用户名",
        ),
        (
            "{name} must be https:// (http only for hosts the operator allowed)",
            "{name} 须以 https:// 开头（只有管理员允许的主机可用 http）",
        ),
        ("{name} leads to an internal address", "{name} 指向内部地址"),
        ("weight must be from {least} to {most}.", "weight 须在 {least} 到 {most} 之间。"),
        ("burst must be 1 or more.", "burst 须不小于 1。"),
        ("{name} of a key may be at most its account's, {most}.", "密钥的 {name} 不能大于其账户的 {most}。"),
        (
            "burst_per_second must be larger: a whole burst would take more than a century to come back.",
            "burst_per_second 须更大：否则整个 burst 要一百多年才能恢复。",
        ),
        ("{name} must be 0 or more.", "{name} 须不小于 0。"),
        (
            "A tenant's name is a-z, 0-9, '_', '.', '-', at most 63 characters.",
            "租户名只能用 a-z、0-9、'_'、'.'、'-'，最多 63 个字符。",
        ),
        ("The tenant {name} can not be banned.", "不能停用租户 {name}。"),
        ("A ban needs a reason; its tenant reads it.", "停用账户须写明原因，该租户会看到。"),
    ),
    "invalid_json": (
        ("The body must be a JSON object.", "请求体须为一个 JSON 对象。"),
        ("The body is not UTF-8.", "请求体不是 UTF-8 编码。"),
        (
            "The body is not valid JSON (line {line}, column {place}: {reason}).",
            "请求体不是合法的 JSON（第 {line} 行第 {place} 列：{reason}）。",
        ),
        ("a value must stand here", "此处须有一个值"),
        ("a name in double quotes must stand here", "此处须有用双引号括起的字段名"),
        ("a colon must stand here", "此处须有冒号"),
        ("a comma or the end must stand here", "此处须有逗号或结尾"),
        ("this text needs its closing quote", "这段文本缺少结尾的引号"),
        ("a control character must be written as an escape", "控制字符须写成转义形式"),
        ("after a backslash must stand one of JSON's escapes", "反斜杠之后须为 JSON 的转义字符"),
        ("the body must end here", "请求体须在此处结束"),
        ("the comma before the end must go", "须去掉结尾前的逗号"),
        ("it must be written as RFC 8259 says", "须按 RFC 8259 书写"),
        ("The body is nested too deeply.", "请求体嵌套过深。"),
        ("The body holds a number with too many digits.", "请求体中有位数过多的数字。"),
        ("{name} is not a JSON value.", "{name} 不是合法的 JSON 值。"),
    ),
    "duplicate_field": (("A member may occur once only.", "同一字段只能出现一次。"),),
    "missing_field": (
        ("{name} is required", "缺少 {name}"),
        ("{name} is not known here", "不认识 {name}"),
        ("Name a tenant or a code, or send all: true.", "请写明 tenant 或 code，或发送 all: true。"),
        ("Send the CSV in the field `file`.", "请把 CSV 文件放在 `file` 字段中发送。"),
    ),
    "invalid_type": (
        ("{name} must be text", "{name} 须为文本"),
        ("{name} must be a whole number", "{name} 须为整数"),
        ("{name} must be true or false", "{name} 须为 true 或 false"),
        ("{name} must be an object", "{name} 须为对象"),
        ("{name} must be a list", "{name} 须为列表"),
    ),
    "out_of_range": (
        ("{name} must be {choices}", "{name} 须为 {choices}"),
        ("The lanes are {names}.", "可用的通道：{names}。"),
        ("{name} must be a number", "{name} 须为数值"),
        (
            "A number may have at most 308 digits before its point.",
            "数值的整数部分最多 308 位。",
        ),
        ("{name} must be at least {least}", "{name} 不能小于 {least}"),
        ("{name} must be at most {most}", "{name} 不能大于 {most}"),
        ("{name} must be below {most}", "{name} 须小于 {most}"),
        ("{name} must be above {least}", "{name} 须大于 {least}"),
        ("{name} must have {least} or more entries", "{name} 至少须有 {least} 项"),
        ("{name} must have {least} or more characters", "{name} 至少须有 {least} 个字符"),
    ),
    "too_long": (
        ("prompt has {length} characters; at most {most} are read", "prompt 有 {length} 个字符，最多读取 {most} 个"),
        ("metadata has more than {most} bytes", "metadata 超过 {most} 字节"),
        ("{name} may have at most {most} characters", "{name} 最多 {most} 个字符"),
        ("{name} may have at most {most} entries", "{name} 最多 {most} 项"),
    ),
    "empty_prompt": (("prompt must say what to draw", "prompt 须写明要画什么"),),
    "invalid_character": (
        ("prompt holds a control character, such as NUL", "prompt 含有控制字符，例如 NUL"),
        ("Half of a surrogate pair is not a character.", "半个代理对（surrogate）不是字符。"),
    ),
    "invalid_size": (
        (
            "size must be written WIDTHxHEIGHT, such as 1024x1024, or auto",
            "size 须写作 宽x高，例如 1024x1024，或写 auto",
        ),
        (
            "each side of size must be a multiple of {multiple} from {least} to {most}, such as {nearest}",
            "size 的每条边须为 {multiple} 的倍数，在 {least} 到 {most} 之间，例如 {nearest}",
        ),
        (
            "size has {pixels} pixels; at most {most} are drawn, such as {nearest}",
            "size 共 {pixels} 像素，最多绘制 {most} 像素，例如 {nearest}",
        ),
    ),
    "invalid_sheet": (
        ("The header has no column named {names}.", "表头中没有名为 {names} 的列。"),
        ("row {row}: {name} is empty", "第 {row} 行：{name} 为空"),
        ("row {row}: {reason}", "第 {row} 行：{reason}"),
        ("The file is not a CSV: it holds NUL characters.", "文件不是 CSV：其中有 NUL 字符。"),
        ("The file is not a readable CSV ({reason}).", "无法读取该 CSV 文件（{reason}）。"),
        ("a cell has too many characters; at most 20000 are read", "有单元格过长，最多读取 20000 个字符"),
        ("a line break inside a cell needs quotes around the cell", "含换行的单元格须用引号括起"),
        ("it must be written as RFC 4180 says", "须按 RFC 4180 书写"),
        ("The file needs a header line and at least one row.", "文件须有表头和至少一行数据。"),
        ("The file has {count} rows; at most {most} are taken.", "文件有 {count} 行，最多接受 {most} 行。"),
        ("The file has {count} lines; at most {most} are read.", "文件有 {count} 行文字，最多读取 {most} 行。"),
        ("The file has {count} cells; at most {most} are read.", "文件有 {count} 个单元格，最多读取 {most} 个。"),
        (
            "The file has a line of {count} columns; at most {most} are read.",
            "文件中有一行共 {count} 列，最多读取 {most} 列。",
        ),
        (
            "The list's prompts have more than {most} characters together.",
            "该商品表的提示词合计超过 {most} 个字符。",
        ),
        ("The file's encoding is not known; save it as UTF-8.", "无法识别文件编码，请另存为 UTF-8。"),
    ),
    "content_policy_violation": (
        (
            "The operator's content rules do not allow this prompt. Nothing was charged.",
            "管理员的内容规则不允许该提示词；本次不计费。",
        ),
    ),
    "exceeds_limits": (
        ("{reason}; send at most {most} at once.", "{reason}。请一次最多提交 {most} 张。"),
        ("{reason}; send at most {most} rows at once.", "{reason}。请一次最多提交 {most} 行。"),
        ("{reason}; send at most {most} row at once.", "{reason}。请一次最多提交 {most} 行。"),
        ("{reason}; tell the operator that you need more.", "{reason}。请联系管理员提高限额。"),
        (
            "This call asks for {count} pictures, and this account may draw {most} a day",
            "本次请求 {count} 张图片，而该账户每天可绘制 {most} 张",
        ),
        (
            "This call asks for {count} pictures, and this key may draw {most} a day",
            "本次请求 {count} 张图片，而该密钥每天可绘制 {most} 张",
        ),
        (
            "This call asks for {count} pictures, and of this account {most} may wait",
            "本次请求 {count} 张图片，而该账户可有 {most} 张排队",
        ),
        (
            "This call asks for {count} pictures, and {most} may wait here",
            "本次请求 {count} 张图片，而本服务可有 {most} 张排队",
        ),
        (
            "This call asks for {count} picture, and this account may draw {most} a day",
            "本次请求 {count} 张图片，而该账户每天可绘制 {most} 张",
        ),
        (
            "This call asks for {count} picture, and this key may draw {most} a day",
            "本次请求 {count} 张图片，而该密钥每天可绘制 {most} 张",
        ),
        (
            "This call asks for {count} picture, and of this account {most} may wait",
            "本次请求 {count} 张图片，而该账户可有 {most} 张排队",
        ),
        (
            "This call asks for {count} picture, and {most} may wait here",
            "本次请求 {count} 张图片，而本服务可有 {most} 张排队",
        ),
    ),
    "invalid_api_key": (
        (
            "Send a key as `Authorization: Bearer KEY`. The operator makes keys with `zimg keys create`.",
            "请以 `Authorization: Bearer KEY` 发送密钥。密钥由管理员用 `zimg keys create` 创建。",
        ),
        (
            "This needs the admin key (ZIMG_ADMIN_KEY) in `Authorization: Bearer KEY`.",
            "此操作需要在 `Authorization: Bearer KEY` 中提供管理员密钥（ZIMG_ADMIN_KEY）。",
        ),
        (
            "This needs an admin key in `Authorization: Bearer KEY`.",
            "此操作需要在 `Authorization: Bearer KEY` 中提供管理员密钥。",
        ),
        (
            "This service was started without an admin key (ZIMG_ADMIN_KEY).",
            "本服务启动时没有设置管理员密钥（ZIMG_ADMIN_KEY）。",
        ),
        (
            "This API key is not known here; it may have been revoked or replaced.",
            "本服务不认识该 API 密钥，它可能已被吊销或更换。",
        ),
        (
            "This API key was revoked or replaced, or has expired, while the request was under way.",
            "该 API 密钥在请求处理期间被吊销、更换或已过期。",
        ),
    ),
    "forbidden": (
        ("This needs the admin key (ZIMG_ADMIN_KEY).", "此操作需要管理员密钥（ZIMG_ADMIN_KEY）。"),
        (
            "Nobody can sign up here by themselves; the operator makes keys.",
            "本服务不开放自行注册，密钥由管理员创建。",
        ),
        (
            "Requests from other sites need a key in the Authorization header.",
            "来自其他网站的请求须在 Authorization 头中带密钥。",
        ),
        (
            "Requests from other origins need a key in the Authorization header.",
            "来自其他来源（origin）的请求须在 Authorization 头中带密钥。",
        ),
        (
            "Without keys zimg answers only to localhost. Make a key to reach it by another name.",
            "未设密钥时 zimg 只应答 localhost。如需用其他名称访问，请先创建密钥。",
        ),
        ("This key may not use the {lane} lane.", "该密钥不能使用 {lane} 通道。"),
        ("This account was stopped: {reason}", "该账户已被停用：{reason}"),
        ("This invite has expired.", "该邀请码已过期。"),
        ("This invite is used up.", "该邀请码已用完。"),
        ("This invite is not known here; it may have been withdrawn.", "本服务不认识该邀请码，它可能已被撤回。"),
    ),
    "not_found": (
        ("There is nothing at this address; /docs lists what there is.", "该地址不存在；可用的地址见 /docs。"),
        (
            "This service draws from words alone; it changes no pictures.",
            "本服务只根据文字绘图，不能修改图片。",
        ),
        ("There is no job with this id.", "没有该编号的任务。"),
        ("There is no job with the id {name}; nothing was canceled.", "没有编号为 {name} 的任务；没有取消任何任务。"),
        ("There is no batch with this id.", "没有该编号的批次。"),
        ("There is no such picture.", "没有这张图片。"),
        ("There is no webhook with this id.", "没有该编号的 webhook。"),
        ("There is no such delivery.", "没有这次投递。"),
        ("There is no such key, or more than one begins like this.", "没有这个密钥，或有多个密钥以此开头。"),
        (
            "There is no such open key, or more than one begins like this.",
            "没有这个有效的密钥，或有多个密钥以此开头。",
        ),
        ("There is no invite with this id.", "没有该编号的邀请码。"),
        ("There is no dead letter with this id.", "没有该编号的死信任务。"),
        ("There is no tenant of this name.", "没有以此命名的租户。"),
        ("No worker of this name is alive.", "没有以此命名的在线工作进程。"),
        ("There is no model {name}. The models here: {models}.", "没有模型 {name}。本服务的模型：{models}。"),
    ),
    "method_not_allowed": (("This address takes {methods}.", "该地址接受的方法：{methods}。"),),
    "conflict": (
        ("The job has not ended; cancel it first.", "任务尚未结束，请先取消。"),
        (
            "The list was canceled while it came in; send it again to draw what is missing.",
            "商品表在接收过程中被取消；如需绘制其余部分，请重新提交。",
        ),
        (
            "The job does not wait in a queue; only a waiting job can be moved.",
            "该任务不在排队；只有排队中的任务可以移动。",
        ),
        (
            "There is no key to replace: the operator's own is ZIMG_ADMIN_KEY, and localhost needs none.",
            "没有可更换的密钥：管理员自己的密钥是 ZIMG_ADMIN_KEY，而 localhost 不需要密钥。",
        ),
        ("This endpoint is off; it must be turned on first.", "该 webhook 已关闭，须先开启。"),
        ("This session is another account's by now.", "此会话现已属于另一个账户。"),
    ),
    "gone": (
        ("This job was deleted, or its record expired.", "该任务已被删除，或其记录已过期。"),
        ("This picture expired or was deleted.", "这张图片已过期或被删除。"),
        ("The job was deleted while it was waited for.", "等待期间该任务被删除。"),
        (
            "A picture of this Idempotency-Key was deleted; send another key to draw it again.",
            "该 Idempotency-Key 的图片已被删除；如需重新绘制，请换一个键。",
        ),
        (
            "The pictures of this list were deleted, or their records expired.",
            "该商品表的图片已被删除，或其记录已过期。",
        ),
        (
            "The pictures of this list were deleted; send it with another Idempotency-Key to draw it again.",
            "该商品表的图片已被删除；如需重新绘制，请换一个 Idempotency-Key 提交。",
        ),
    ),
    "body_too_large": (
        ("The body has {count} bytes; at most {most} are read.", "请求体有 {count} 字节，最多读取 {most} 字节。"),
        ("The body is too large; at most {most} bytes are read.", "请求体过大，最多读取 {most} 字节。"),
    ),
    "unsupported_media_type": (
        (
            "Send the body without Content-Encoding; compressed ones are not read.",
            "请不要压缩请求体（不带 Content-Encoding），压缩的请求体不会被读取。",
        ),
        ("Send the body as Content-Type: application/json.", "请以 Content-Type: application/json 发送请求体。"),
        (
            "Send the list as multipart/form-data with the CSV in the field `file`.",
            "请以 multipart/form-data 发送商品表，CSV 放在 `file` 字段中。",
        ),
    ),
    "head_too_large": (
        (
            "The address and each header may have {most} bytes, and there may be {count} headers.",
            "地址和每个请求头最多 {most} 字节，请求头最多 {count} 个。",
        ),
    ),
    "range_not_satisfiable": (
        ("The file has {count} bytes; ask for a range within them.", "文件有 {count} 字节，请求的范围须在其中。"),
    ),
    "idempotency_key_reuse": (
        (
            "This Idempotency-Key was used before with another body; send a new key.",
            "该 Idempotency-Key 已用于另一个请求体，请换一个新的。",
        ),
    ),
    "rate_limit_exceeded": (
        ("More than {rate} pictures a second; wait and send again.", "超过了每秒 {rate} 张图片，请稍候重发。"),
        ("More than {rate} picture a second; wait and send again.", "超过了每秒 {rate} 张图片，请稍候重发。"),
        (
            "Too many wrong keys from this address; wait, then send the right one.",
            "该地址提供错误密钥的次数过多，请稍候再发送正确的密钥。",
        ),
    ),
    "quota_exceeded": (
        (
            "This key's pictures of the day ({units}) are drawn or reserved; they return at 00:00 UTC.",
            "该密钥今日的 {units} 张额度已用完或已预留，将于 00:00 UTC 恢复。",
        ),
        (
            "The day's pictures ({units}) are drawn or reserved; they return at 00:00 UTC.",
            "今日的 {units} 张额度已用完或已预留，将于 00:00 UTC 恢复。",
        ),
    ),
    "queue_full": (
        (
            "{count} of the {most} places in your queue are taken; send again when some jobs have ended.",
            "您已有 {count} 个任务在排队，上限为 {most} 个，请等部分任务结束后再提交。",
        ),
    ),
    "too_many_streams": (
        (
            "You hold {count} of the {most} places for streams and waiting calls; what is left is for others. Close "
            "some, or poll GET /v1/jobs/{{id}} without ?wait.",
            "事件流和等待中的调用共有 {most} 个位置，您已占用 {count} 个，其余的留给他人。请关闭一部分，"
            "或轮询 GET /v1/jobs/{{id}}（不带 ?wait）。",
        ),
    ),
    "internal_error": (
        (
            "The error was recorded; tell the operator the request_id.",
            "错误已被记录，请把 request_id 告诉管理员。",
        ),
    ),
    "generation_failed": (("The picture could not be made.", "未能生成图片。"),),
    "engine_failed": (
        ("The pipeline failed ({reason}).", "生成过程出错（{reason}）。"),
        ("The engine was closed.", "生成引擎已关闭。"),
        ("No picture within {seconds} s.", "{seconds} 秒内未能生成图片。"),
    ),
    "out_of_memory": (("The card had no room for this picture.", "显存不足以绘制这张图片。"),),
    "black_image": (
        (
            "The picture came out black or flat twice; another seed may do better.",
            "图片两次都是全黑或单色，换一个种子可能会好。",
        ),
    ),
    "storage_failed": (
        ("The storage refused {what} ({reason}).", "存储拒绝了 {what}（{reason}）。"),
        (
            "The picture was drawn, but the storage did not take it within the deadline.",
            "图片已绘制，但存储未能在期限内收下。",
        ),
        (
            "The picture that waited for the storage was lost from the disk.",
            "等待存储的图片已从磁盘上丢失。",
        ),
    ),
    "poison": (("The job ended its worker each time it ran alone.", "该任务每次单独运行都使工作进程终止。"),),
    "deadline_exceeded": (("The job did not finish within its deadline.", "任务未能在期限内完成。"),),
    "canceled": (("The job was canceled.", "任务已取消。"),),
    "unavailable": (("{count} of at least {least} workers alive", "在线的工作进程有 {count} 个，至少需要 {least} 个"),),
    "redis_unavailable": (
        ("Redis did not answer ({reason}); try again shortly.", "Redis 没有应答（{reason}），请稍后重试。"),
        ("Redis did not answer; try again shortly.", "Redis 没有应答，请稍后重试。"),
        ("Redis is full and takes in nothing new; try again shortly.", "Redis 已满，不再接受新内容，请稍后重试。"),
        ("Redis takes no writes now; try again shortly.", "Redis 目前不接受写入，请稍后重试。"),
        (
            "The list took too long and is stored in part; send it again with the same key.",
            "商品表耗时过长，只保存了一部分；请用相同的 Idempotency-Key 重发。",
        ),
    ),
    "storage_unavailable": (
        ("The storage did not answer ({reason}); try again shortly.", "存储没有应答（{reason}），请稍后重试。"),
        ("The storage can not take or give pictures now ({reason}).", "存储目前无法存取图片（{reason}）。"),
        (
            "Another writer held {name} for too long; try again shortly.",
            "另一个写入者占用 {name} 的时间过长，请稍后重试。",
        ),
    ),
    "overloaded": (
        ("The service's queue is full; try again later.", "服务的队列已满，请稍后重试。"),
        ("Other lists are coming in; send this one again shortly.", "其他商品表正在接收中，请稍后重发。"),
        (
            "{count} streams and waiting calls are open already. Poll GET /v1/jobs/{{id}} without ?wait, or try again "
            "shortly.",
            "已有 {count} 个事件流和等待中的调用。请轮询 GET /v1/jobs/{{id}}（不带 ?wait），或稍后重试。",
        ),
    ),
    "no_worker": (
        (
            "No worker of this model has been alive for two minutes; the operator must start one.",
            "该模型已有两分钟没有在线的工作进程，须由管理员启动。",
        ),
    ),
    "draining": (
        ("This account takes no new work now; try again later.", "该账户目前不接收新任务，请稍后重试。"),
        ("The {lane} lane takes no new work now; try again later.", "{lane} 通道目前不接收新任务，请稍后重试。"),
    ),
    "still_running": (
        (
            "The jobs go on: send the same request again with the same Idempotency-Key, or look at the job.",
            "任务仍在进行：请用相同的 Idempotency-Key 重发同一请求，或查询该任务。",
        ),
        ("The job goes on; look at it under /v1/jobs.", "任务仍在进行，可在 /v1/jobs 查询。"),
    ),
}
