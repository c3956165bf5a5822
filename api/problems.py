"""The one table of errors: code → status, OpenAI type, title and advice in English and Chinese.

A code never changes its meaning. `/problems` shows this table to people.
"""

from __future__ import annotations

from dataclasses import dataclass

IANA = "https://iana.org/assignments/http-problem-types#"


@dataclass(frozen=True, slots=True)
class Problem:
    """One row of the table. The advice says what to do; in English the error's own sentence says more."""

    status: int
    openai_type: str
    title: str
    advice: str
    title_zh: str
    advice_zh: str
    type_uri: str = ""

    @property
    def is_worth_a_retry(self) -> bool:
        """Whether the same request may succeed later; the answer then says when (`Retry-After`, `retry_at`)."""
        return self.status in (429, 503)


#: What failed for reasons that pass, told with no time: the same request again is a new one.
WORTH_ANOTHER = frozenset(
    {"internal_error", "engine_failed", "out_of_memory", "storage_failed", "deadline_exceeded", "canceled"}
)
INVALID, AUTH, LIMIT, SERVER = "invalid_request_error", "authentication_error", "rate_limit_error", "server_error"

PROBLEMS: dict[str, Problem] = {
    "invalid_request": Problem(
        400,
        INVALID,
        "The request is not valid",
        "Correct what `detail` names and send it again.",
        "请求无效",
        "请按 detail 改正请求后重发。",
    ),
    "invalid_json": Problem(
        400,
        INVALID,
        "The body is not valid JSON",
        "Check the JSON's syntax.",
        "请求体不是合法的 JSON",
        "请检查 JSON 语法。",
    ),
    "duplicate_field": Problem(
        400, INVALID, "A member occurs twice", "Send each member once.", "字段重复", "请让每个字段只出现一次。"
    ),
    "missing_field": Problem(
        400,
        INVALID,
        "A required member is missing",
        "Add the member that `field` names.",
        "缺少必填字段",
        "请补上该字段。",
    ),
    "invalid_type": Problem(
        400,
        INVALID,
        "A member has the wrong type",
        "Use the type that the documentation names.",
        "字段类型错误",
        "请使用文档规定的类型。",
    ),
    "out_of_range": Problem(
        400,
        INVALID,
        "A value is out of range",
        "Use a value within the bounds that `detail` names.",
        "数值超出范围",
        "请使用允许范围内的数值。",
    ),
    "too_long": Problem(400, INVALID, "A value is too long", "Shorten it.", "内容过长", "请缩短内容。"),
    "empty_prompt": Problem(
        400, INVALID, "The prompt is empty", "Write what to draw.", "提示词为空", "请写下想画的内容。"
    ),
    "invalid_character": Problem(
        400,
        INVALID,
        "A character is not allowed",
        "Take out the control character.",
        "含有不允许的字符",
        "请删除控制字符。",
    ),
    "invalid_size": Problem(
        400,
        INVALID,
        "The size is not possible",
        "Write WIDTHxHEIGHT in multiples of 16 from 256 to 1536, at most 1,048,576 pixels, or auto.",
        "尺寸不可用",
        "尺寸写作 宽x高，须为 16 的倍数，256 至 1536，总像素不超过 1048576，或写 auto。",
    ),
    "invalid_sheet": Problem(
        400,
        INVALID,
        "The product list has errors",
        "Correct the lines that `errors` names and send the whole list again.",
        "商品表有误",
        "请按 errors 中的行号改正后整表重发。",
    ),
    "content_policy_violation": Problem(
        400,
        INVALID,
        "Not allowed by the operator's rules",
        "Change the prompt. Nothing was charged.",
        "违反内容规则",
        "请修改提示词；本次不计费。",
    ),
    "exceeds_limits": Problem(
        400,
        INVALID,
        "More than the limits ever allow",
        "Send less at once, as `detail` says; waiting does not help. Nothing was charged.",
        "超出限额上限",
        "请按 detail 减少一次提交的数量；等待没有用。本次不计费。",
    ),
    "invalid_api_key": Problem(
        401,
        AUTH,
        "A valid API key is required",
        "Send a key as `Authorization: Bearer KEY`.",
        "需要有效的 API 密钥",
        "请在 Authorization: Bearer 中提供密钥。",
    ),
    "forbidden": Problem(
        403,
        "permission_error",
        "Not allowed",
        "This key, or this origin, may not do that; ask the operator.",
        "无权操作",
        "该密钥或来源无权执行此操作，请联系管理员。",
    ),
    "not_found": Problem(
        404,
        INVALID,
        "Not found",
        "Check the id: it does not exist, or is not this key's.",
        "未找到",
        "请检查编号；它不存在，或不属于此密钥。",
    ),
    "method_not_allowed": Problem(
        405,
        INVALID,
        "Method not allowed",
        "Use a method that the `Allow` header names.",
        "方法不被允许",
        "请使用 Allow 头中列出的方法。",
    ),
    "conflict": Problem(
        409,
        INVALID,
        "Not possible in this state",
        "Wait for the job's end, or cancel it first.",
        "当前状态下不能执行",
        "请先等待或取消任务。",
    ),
    "gone": Problem(
        410,
        INVALID,
        "It was removed",
        "It expired or was deleted; draw it again.",
        "已被删除",
        "已过期或被删除，请重新绘制。",
    ),
    "body_too_large": Problem(413, INVALID, "The body is too large", "Send less.", "请求体过大", "请减小请求体。"),
    "unsupported_media_type": Problem(
        415,
        INVALID,
        "Unsupported content type",
        "Use the Content-Type that the documentation names.",
        "不支持的内容类型",
        "请使用文档规定的 Content-Type。",
    ),
    "head_too_large": Problem(
        431,
        INVALID,
        "The request's head is too large",
        "Send a shorter address, and fewer and shorter headers.",
        "请求头过大",
        "请缩短地址，并减少、缩短请求头。",
    ),
    "range_not_satisfiable": Problem(
        416,
        INVALID,
        "The range is not in the file",
        "Ask for a range within the file.",
        "请求范围无效",
        "请使用文件大小以内的范围。",
    ),
    "idempotency_key_reuse": Problem(
        422,
        INVALID,
        "Idempotency-Key was used with another body",
        "Send a new Idempotency-Key, or exactly the body of before.",
        "幂等键已用于另一请求",
        "请换一个 Idempotency-Key，或发送与之前完全相同的请求。",
    ),
    "rate_limit_exceeded": Problem(
        429,
        LIMIT,
        "Too many requests",
        "Send it again at `retry_at`.",
        "请求过快",
        "请在 retry_at 之后重试。",
        IANA + "quota-exceeded",
    ),
    "quota_exceeded": Problem(
        429,
        LIMIT,
        "Daily quota used up",
        "Send it again at `retry_at`, when the day is over.",
        "今日额度已用完",
        "额度在 retry_at 恢复，请届时重试。",
        IANA + "quota-exceeded",
    ),
    "queue_full": Problem(
        429,
        LIMIT,
        "Too many jobs are waiting",
        "Send more when some of your waiting jobs have ended.",
        "排队任务过多",
        "请等已有任务完成后再提交。",
        IANA + "quota-exceeded",
    ),
    "too_many_streams": Problem(
        429,
        LIMIT,
        "Too many streams are open",
        "Close some, or ask for the job now and then without ?wait.",
        "打开的事件流过多",
        "请关闭一部分，或不带 ?wait 定期查询任务。",
        IANA + "quota-exceeded",
    ),
    "internal_error": Problem(
        500,
        SERVER,
        "Something went wrong here",
        "Try again; if it stays, give `request_id` to the operator.",
        "服务内部错误",
        "请重试；若仍失败，请把 request_id 告诉管理员。",
    ),
    "generation_failed": Problem(
        500,
        SERVER,
        "The picture could not be made",
        "Change the prompt and send it again. Nothing was charged.",
        "图片生成失败",
        "请修改提示词后重试；本次不计费。",
    ),
    "engine_failed": Problem(
        500,
        SERVER,
        "The engine failed",
        "It was tried several times; send it again later. Nothing was charged.",
        "生成引擎出错",
        "已多次重试仍失败，请稍后再提交；本次不计费。",
    ),
    "out_of_memory": Problem(
        500,
        SERVER,
        "The GPU had no room",
        "Use a smaller size, or send it again later. Nothing was charged.",
        "显存不足",
        "请使用较小的尺寸，或稍后再试；本次不计费。",
    ),
    "black_image": Problem(
        500,
        SERVER,
        "The picture came out empty",
        "Use another seed or prompt. Nothing was charged.",
        "生成的图片为空白",
        "请换一个种子或提示词；本次不计费。",
    ),
    "storage_failed": Problem(
        500,
        SERVER,
        "The picture could not be stored",
        "Send it again later. Nothing was charged.",
        "图片保存失败",
        "请稍后再提交；本次不计费。",
    ),
    "poison": Problem(
        500,
        SERVER,
        "The job stopped its worker repeatedly",
        "Change the prompt or the size. Nothing was charged.",
        "该任务多次使工作进程崩溃",
        "请修改提示词或尺寸；本次不计费。",
    ),
    "deadline_exceeded": Problem(
        500,
        SERVER,
        "The job was not done in time",
        "The queue was too long; send it again later. Nothing was charged.",
        "任务超时",
        "队列过长，请稍后再提交；本次不计费。",
    ),
    "canceled": Problem(
        409,
        INVALID,
        "The job was canceled",
        "Send it again if you still want it. Nothing was charged.",
        "任务已取消",
        "如仍需要，请重新提交；本次不计费。",
    ),
    "unavailable": Problem(
        503,
        SERVER,
        "Not available now",
        "Send it again after `Retry-After`.",
        "服务暂不可用",
        "请稍后重试。",
        IANA + "temporary-reduced-capacity",
    ),
    "redis_unavailable": Problem(
        503,
        SERVER,
        "The queue is not available",
        "Send it again after `Retry-After`. Nothing was charged.",
        "队列暂不可用",
        "请稍后重试，未计费。",
    ),
    "storage_unavailable": Problem(
        503,
        SERVER,
        "The storage is not available",
        "Send it again after `Retry-After`.",
        "存储暂不可用",
        "请稍后重试。",
    ),
    "overloaded": Problem(
        503,
        SERVER,
        "The service is full",
        "Send it again after `Retry-After`. Nothing was charged.",
        "服务已满",
        "请稍后重试，未计费。",
        IANA + "temporary-reduced-capacity",
    ),
    "no_worker": Problem(
        503,
        SERVER,
        "No worker is alive",
        "Send it again later, or tell the operator.",
        "没有可用的工作进程",
        "请稍后重试，或联系管理员。",
    ),
    "draining": Problem(
        503,
        SERVER,
        "No new work is taken now",
        "The operator is emptying the queue; send it again later. Nothing was charged.",
        "暂不接收新任务",
        "管理员正在清空队列，请稍后重试；未计费。",
    ),
    "still_running": Problem(
        503,
        SERVER,
        "The picture is not ready yet",
        "The job goes on: send the same request again, or look at the job.",
        "图片尚未完成",
        "任务仍在进行，请重试同一请求或查询任务。",
    ),
}

#: Which limit each refusal violates, for the problem's `violated-policies`.
VIOLATED_POLICY = {"rate_limit_exceeded": "burst", "quota_exceeded": "daily", "queue_full": "queue"}
