// Words of the account page, and those that it shares with the operator's.
import { addWords } from './words.js';

addWords({
  toPictures: 'Pictures', accountTitle: 'Account', skipMain: 'Skip to the content', today: 'Today', leftToday: 'Left today', usedToday: 'Used today',
  reservedToday: 'Reserved', reservedNote: 'for jobs that have not ended', ofLimit: 'of %limit a day', resets: 'anew at 00:00 UTC', thirtyDays: 'The last 30 days', inDays: { one: '%n picture in 30 days', other: '%n pictures in 30 days' },
  dayColumn: 'Day (UTC)', usedColumn: 'Pictures', limits: 'Limits', limitDaily: 'Pictures a day', limitBurst: 'Pictures at once', limitRate: 'Pictures a second in the long run',
  limitQueued: 'Jobs waiting', limitRunning: 'Jobs running at the same time', limitWeight: 'Share when it is full', limitLanes: 'Lanes', limitPreset: 'Preset', serviceDefault: 'the service\'s own', unlimited: 'any',
  lane_interactive: 'Interactive', lane_batch: 'Batch', jobs: 'Jobs', jobColumn: 'Prompt', statusColumn: 'Status', sizeColumn: 'Size', madeColumn: 'Made', noJobs: 'No jobs yet.', moreJobs: 'Show older ones',
  status_queued: 'Waiting', status_running: 'Drawing', status_canceling: 'Stopping', status_succeeded: 'Done', status_failed: 'Did not work', status_canceled: 'Canceled', status_expired: 'Expired',
  keyTitle: 'Key', keyFact: 'ends with %hint', keyNone: 'On this machine no key is needed. The first key that is made closes this open door.', keyOperator: 'This is the operator\'s own key; it is changed where the service is started (ZIMG_ADMIN_KEY).',
  keyLabel: 'Note', keyMade: 'Made', keyUsed: 'Last used', keyEnds: 'Ends', never: 'never', rotate: 'Replace the key', rotateText: 'A new key for the same account. Whatever still uses the old one stops working after the time that you choose.',
  overlap: 'The old key works', overlap0: 'no longer', overlapHour: 'for 1 hour', overlapDay: 'for 1 day', rotated: 'The key was replaced', secretTitle: 'Shown this once', secretText: 'Copy it now and keep it in a safe place. Nobody can show it again.',
  secretLabel: 'Secret', copy: 'Copy', done: 'Done', keyCopied: 'Copied', deleteTitle: 'Delete my data', deleteText: 'Every job with its prompt and picture, every product list, every webhook. It can not be taken back. How many pictures were drawn stays, for the bill.',
  deleteLabel: 'Type %name to confirm', deleteButton: 'Delete everything', deletedAll: { one: 'Deleted: %n job', other: 'Deleted: %n jobs' }, deletedSome: { one: '%n job is still ending; delete again in a moment.', other: '%n jobs are still ending; delete again in a moment.' }, signInHere: 'Sign in', signInHereText: 'Your key is exchanged for a session that no script can read.',
  signUp: 'Sign up', signUpText: 'With an invite from the operator you make an account of your own.', inviteCode: 'Invite', accountName: 'Name of the account', nameHint: 'a–z, 0–9, dot, dash', signUpGo: 'Make my account', signedUp: 'Welcome, %name', madeNotIn: 'Your account is made. Sign in with its key. (%why)', adminLink: 'Admin',
  state_open: 'open', state_paused: 'paused', state_draining: 'draining', daily: 'Left of today’s pictures',
}, {
  toPictures: '图片', accountTitle: '账户', skipMain: '跳到内容', today: '今天', leftToday: '今日剩余', usedToday: '今日已用', reservedToday: '预留', reservedNote: '属于未结束的任务', ofLimit: '每日 %limit 张', resets: 'UTC 00:00 重置', thirtyDays: '最近 30 天', inDays: '30 天内 %n 张',
  dayColumn: '日期（UTC）', usedColumn: '张数', limits: '限额', limitDaily: '每日张数', limitBurst: '一次最多张数', limitRate: '长期每秒张数', limitQueued: '可排队任务数', limitRunning: '同时运行任务数', limitWeight: '繁忙时的份额', limitLanes: '通道', limitPreset: '预设', serviceDefault: '服务默认', unlimited: '不限',
  lane_interactive: '交互', lane_batch: '批量', jobs: '任务', jobColumn: '提示词', statusColumn: '状态', sizeColumn: '尺寸', madeColumn: '时间', noJobs: '还没有任务。', moreJobs: '显示更早的', status_queued: '排队中', status_running: '正在生成', status_canceling: '正在停止', status_succeeded: '完成', status_failed: '没有成功', status_canceled: '已取消', status_expired: '已过期',
  keyTitle: '密钥', keyFact: '结尾为 %hint', keyNone: '本机使用无需密钥。一旦创建第一个密钥，就必须使用密钥。', keyOperator: '这是管理员自己的密钥，在启动服务处更改（ZIMG_ADMIN_KEY）。', keyLabel: '备注', keyMade: '创建时间', keyUsed: '上次使用', keyEnds: '到期', never: '从未', rotate: '更换密钥', rotateText: '为同一账户换一个新密钥。仍使用旧密钥的程序会在所选时间后停止工作。',
  overlap: '旧密钥', overlap0: '立即失效', overlapHour: '1 小时后失效', overlapDay: '1 天后失效', rotated: '密钥已更换', secretTitle: '只显示这一次', secretText: '请立即复制并妥善保管，之后无法再次查看。', secretLabel: '密文', copy: '复制', done: '完成', keyCopied: '已复制', deleteTitle: '删除我的数据', deleteText: '删除所有任务及其提示词和图片、商品表和 Webhook，无法恢复。已生成的张数会保留用于计费。',
  deleteLabel: '输入 %name 以确认', deleteButton: '全部删除', deletedAll: '已删除 %n 个任务', deletedSome: '还有 %n 个任务正在结束，请稍后再删除一次。', signInHere: '登录', signInHereText: '密钥会换成会话，任何脚本都读不到它。', signUp: '注册', signUpText: '凭管理员的邀请码创建自己的账户。', inviteCode: '邀请码', accountName: '账户名', nameHint: 'a–z、0–9、点、短横线', signUpGo: '创建账户', signedUp: '欢迎，%name', madeNotIn: '账户已创建，请用其密钥登录。（%why）', adminLink: '管理',
  state_open: '正常', state_paused: '已暂停', state_draining: '排空中', daily: '今日剩余额度',
});
