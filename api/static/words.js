import { local } from './storage.js';

// The page's words, English and Chinese. `%name` is filled in by `say`; of { one, other } it takes what fits the number `n`.
const EN = {
  skip: 'Skip to the prompt', docs: 'API', account: 'Account', theme: 'Light or dark', signOut: 'Sign out', promptLabel: 'What do you want to see?',
  shape: 'Shape', square: 'Square', portrait: 'Portrait', landscape: 'Landscape', count: 'Number of pictures', one: 'One picture',
  four: 'Four pictures', hint: 'Enter draws · Shift+Enter: new line', go: 'Go', history: 'Your pictures', starredOnly: 'Starred',
  select: 'Select', selectDone: 'Done', empty: 'Nothing here yet. What you draw stays here, also after a reload.', noStars: 'No starred pictures. The star is in the large view of a picture.',
  examples: 'For a start', example1: 'A red mug on a white background', example2: 'A green tent in a forest', example3: 'A yellow umbrella on a beach',
  dropHint: 'Drop a zimg picture: its parameters are taken', toSignUp: 'No key? Make an account with an invite', more: 'Show older ones',
  close: 'Close', download: 'Download', copyPicture: 'Copy picture', copyLink: 'Copy link', star: 'Star', again: 'Again', vary: 'Vary',
  delete: 'Delete', newer: 'Newer picture', older: 'Older picture', signInTitle: 'Your key, once',
  signInText: 'This service asks for an API key. It is exchanged for a session that no script can read.', key: 'API key', signIn: 'Sign in',
  queued: 'Waiting', place: 'Place %position in the queue', next: 'Next in the queue', onItsWay: 'Starts soon', eta: 'ready in about %time', paused: 'paused by the operator',
  running: 'Drawing', step: 'Step %step of %steps', encode: 'Reading the prompt', decode: 'Developing', upload: 'Saving', waiting: 'Getting ready',
  canceling: 'Stopping', canceled: 'Canceled', failed: 'Did not work', expired: 'Expired', cancel: 'Cancel', seconds: '%n\u00a0s', minutes: '%n\u00a0min',
  hours: '%n\u00a0h', linkCopied: 'Link copied', pictureCopied: 'Picture copied', notCopied: 'The browser does not allow copying here', deleted: 'Deleted',
  confirmDelete: 'Delete this picture for good?', remove: 'Remove', removeOf: 'Remove: %prompt', removed: 'Removed', undo: 'Undo', againOf: 'Again: %prompt', cancelOf: 'Cancel: %prompt',
  noCopyHttp: 'Browsers copy pictures only over https. Download it, or open it in a tab of its own and copy it there.',
  noCopyDenied: 'The browser does not allow it. Download the picture, or open it in a tab of its own and copy it there.', openPicture: 'Open the picture',
  sizeFact: 'Size', seedFact: 'Seed', presetFact: 'Preset', modelFact: 'Model', madeFact: 'Made',
  tookFact: 'Took', announceDone: 'Picture ready: %prompt', announceRunning: 'Drawing: %prompt', announceQueued: 'Waiting: %prompt',
  announceFailed: 'Did not work: %prompt', announceCanceled: 'Canceled: %prompt', offline: 'No answer from the service. Trying again…',
  downloadSelection: 'Download %n as ZIP', selectPicture: 'Select: %prompt', open: 'Open: %prompt', quota: '%left of %limit left today', quotaLow: 'Only %left of %limit left today', quotaNone: 'None of %limit left today', quotaMeter: 'Left today',
  emptyPrompt: 'Write what you want to see.', repeated: 'Parameters taken from the picture', notOurs: 'This picture carries no zimg parameters', repeatedChip: 'Seed %seed · %size', repeatedAway: 'Put away the parameters of the dropped picture',
  otherwise: 'Not the same picture here: %what.', otherModel: 'model %ours in place of %theirs', otherPreset: 'preset %ours in place of %theirs',
  drawnWith: 'Drawn with model %ours: %theirs is not here any more', listJoin: ', ', starsLoading: 'Looking for your starred pictures…',
  zipping: 'Fetching %at of %of', zipMissing: { one: '%n picture is missing from the ZIP: %why', other: '%n pictures are missing from the ZIP: %why' },
  zipNone: 'No ZIP: %why', whySome: '%n %why', whyGone: 'expired or deleted', whyNoAnswer: 'no answer from the service',
  sending: 'Sending', unsent: 'Not sent yet', behind: 'After the one before it', sendsIn: 'Sends by itself in %time', noAnswer: 'No answer from the service', refused: 'Not accepted', edit: 'Edit',
  announceUnsent: 'Not sent yet, waits: %prompt', sessionEnded: 'Your session has ended. Sign in again.', notReached: 'No answer from the service. Try again.', nowOf: 'Somebody else signed in here: this is the account %name now.',
  tooLong: { one: '%n character too many; at most %most are read.', other: '%n characters too many; at most %most are read.' }, pictureGone: 'This picture is gone: it expired, or it was deleted.', pictureLate: 'No answer from the service; the picture could not be loaded.',
};
const ZH = {
  skip: '跳到提示词', docs: 'API', account: '账户', theme: '浅色或深色', signOut: '退出', promptLabel: '你想看到什么？', shape: '形状', square: '方形',
  portrait: '竖版', landscape: '横版', count: '张数', one: '一张', four: '四张', hint: '回车生成 · Shift+回车换行', go: '生成', history: '我的图片',
  starredOnly: '收藏', select: '选择', selectDone: '完成', empty: '这里还没有图片。生成的图片会一直留在这里，刷新也不会丢。', noStars: '还没有收藏的图片。打开大图即可收藏。',
  examples: '不妨试试', example1: '红色马克杯，白色背景', example2: '森林里的绿色帐篷', example3: '沙滩上的黄色雨伞', dropHint: '拖入 zimg 图片，读取其参数', toSignUp: '没有密钥？凭邀请码创建账户', more: '显示更早的',
  close: '关闭', download: '下载', copyPicture: '复制图片', copyLink: '复制链接', star: '收藏', again: '再来一张', vary: '变化', delete: '删除',
  newer: '较新的图片', older: '较早的图片', signInTitle: '输入密钥', signInText: '本服务需要 API 密钥。密钥只换取一次会话，任何脚本都读不到它。',
  key: 'API 密钥', signIn: '登录', queued: '排队中', place: '排在第 %position 位', next: '下一个就是它', onItsWay: '即将开始', eta: '约 %time后完成', paused: '管理员已暂停',
  running: '正在生成', step: '第 %step 步，共 %steps 步', encode: '理解提示词', decode: '显影', upload: '保存', waiting: '准备中', canceling: '正在停止',
  canceled: '已取消', failed: '没有成功', expired: '已过期', cancel: '取消', seconds: '%n\u00a0秒', minutes: '%n\u00a0分钟', hours: '%n\u00a0小时', linkCopied: '链接已复制',
  pictureCopied: '图片已复制', notCopied: '浏览器不允许复制', deleted: '已删除', confirmDelete: '永久删除这张图片？', remove: '移除', removeOf: '移除：%prompt', removed: '已移除', undo: '撤销', againOf: '再来一张：%prompt', cancelOf: '取消：%prompt',
  noCopyHttp: '浏览器只允许通过 https 复制图片。请下载，或在新标签页打开后复制。', noCopyDenied: '浏览器不允许复制。请下载图片，或在新标签页打开后复制。', openPicture: '打开图片', sizeFact: '尺寸', seedFact: '种子',
  presetFact: '预设', modelFact: '模型', madeFact: '时间', tookFact: '用时', announceDone: '图片完成：%prompt', announceRunning: '正在生成：%prompt',
  announceQueued: '排队中：%prompt', announceFailed: '没有成功：%prompt', announceCanceled: '已取消：%prompt', offline: '服务没有回应，正在重试…',
  downloadSelection: '打包下载 %n 张', selectPicture: '选择：%prompt', open: '打开：%prompt', quota: '今日剩余 %left / %limit', quotaLow: '今日仅剩 %left / %limit', quotaNone: '今日 %limit 张已用完', quotaMeter: '今日剩余', emptyPrompt: '请写下想看到的内容。',
  repeated: '已读取图片中的参数', notOurs: '这张图片没有 zimg 参数', repeatedChip: '种子 %seed · %size', repeatedAway: '清除拖入图片的参数',
  otherwise: '这里生成的不会是同一张图：%what。', otherModel: '模型用 %ours，不用 %theirs', otherPreset: '预设用 %ours，不用 %theirs',
  drawnWith: '改用模型 %ours 生成：这里已没有 %theirs', listJoin: '；', starsLoading: '正在查找收藏的图片…', zipping: '正在获取第 %at 张，共 %of 张',
  zipMissing: '压缩包缺少 %n 张图片：%why', zipNone: '没有可打包的图片：%why', whySome: '%n 张%why', whyGone: '已过期或被删除', whyNoAnswer: '服务没有回应',
  sending: '正在提交', unsent: '尚未提交', behind: '排在前一个之后', sendsIn: '%time后自动提交', noAnswer: '服务没有回应', refused: '未被接受', edit: '修改', announceUnsent: '尚未提交，等待中：%prompt', sessionEnded: '会话已结束，请重新登录。', notReached: '服务没有回应，请重试。', nowOf: '此浏览器已由他人登录：现在显示账户 %name。',
  tooLong: '超出 %n 个字符，最多读取 %most 个。', pictureGone: '这张图片已不存在：已过期或被删除。', pictureLate: '服务没有回应，无法加载图片。',
};

const stored = local.get('zimg.language');
export let language = stored ?? (navigator.language.toLowerCase().startsWith('zh') ? 'zh-CN' : 'en');

// Other pages bring words of their own.
export function addWords(english, chinese) {
  Object.assign(EN, english);
  Object.assign(ZH, chinese);
}

export function say(key, values = {}) {
  const found = (language === 'zh-CN' ? ZH : EN)[key] ?? key;
  const text = typeof found === 'string' ? found : found[new Intl.PluralRules(language).select(values.n)] ?? found.other;
  const written = typeof values.n === 'number' ? { ...values, n: new Intl.NumberFormat(language).format(values.n) } : values;
  return text.replace(/%(\w+)/g, (whole, name) => (name in written ? String(written[name]) : whole));
}

export function sayTime(seconds) {
  if (seconds < 60) return say('seconds', { n: Math.max(1, Math.round(seconds)) });
  if (seconds < 5400) return say('minutes', { n: Math.round(seconds / 60) });
  return say('hours', { n: Math.round(seconds / 3600) });
}

export const saySize = (size) => size.replace('x', '\u00a0×\u00a0');

export function switchLanguage() {
  language = language === 'en' ? 'zh-CN' : 'en';
  local.set('zimg.language', language);
  applyWords();
}

export function applyWords(root = document) {
  document.documentElement.lang = language;
  for (const element of root.querySelectorAll('[data-i18n]')) element.textContent = say(element.dataset.i18n);
  for (const element of root.querySelectorAll('[data-i18n-placeholder]')) element.placeholder = say(element.dataset.i18nPlaceholder);
  for (const element of root.querySelectorAll('[data-i18n-label]')) {
    element.setAttribute('aria-label', say(element.dataset.i18nLabel));
    element.title = say(element.dataset.i18nLabel);
  }
}
