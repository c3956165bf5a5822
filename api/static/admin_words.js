// Words of the operator's page.
import { addWords } from './words.js';

addWords({
  adminTitle: 'Admin', gateTitle: 'The admin key', gateText: 'ZIMG_ADMIN_KEY, or any key that was made with “admin”. It stays in this tab and is forgotten when the tab closes.', adminKey: 'Admin key', live: 'live', lost: 'no answer, trying again…',
  tileWaiting: 'Waiting', tileRunning: 'Drawing', tileWorkers: 'Workers', tileLetters: 'Dead letters', tileHooks: 'Webhook errors', tileOldest: 'Longest wait', tilePace: 'A picture takes', slotsNote: '%n seats', perPicture: 'while busy',
  queue: 'Queue', lanes: 'Lanes', queueByTenant: 'Queue by tenant', lane: 'Lane', waits: 'Waiting', runs: 'Running', state: 'State', actions: 'Actions', noQueue: 'No tenant has jobs that wait or run.', tenant: 'Tenant', pause: 'Pause', drain: 'Drain', resume: 'Resume',
  pauseOf: 'Pause %name', drainOf: 'Drain %name', resumeOf: 'Resume %name', nowPaused: '%name is paused: new jobs wait', nowDraining: '%name drains: nothing new is taken', nowOpen: '%name goes on',
  workers: 'Workers', noWorkers: 'No worker is alive. Jobs wait until one is.', gpuMemory: 'GPU memory', noGpu: 'no GPU', plan: 'Memory plan', idle: 'idle', mayStop: 'It holds no job any more and may be stopped.', seats: '%used of %n seats', holds: 'Jobs of %name', upFor: 'since %time',
  letters: 'Dead letters', noLetters: 'None. Jobs that end badly are kept here with their reason.', reason: 'Reason', anyReason: 'any', tries: 'Tries', died: 'Ended', requeue: 'Try again', requeueOf: 'Try again: %name', requeueAll: 'Try all of these again', requeued: 'Queued again', requeuedMany: '%n queued again', requeuedRefused: '%n queued again, %refused refused by limits',
  tenantsAndUsage: 'Tenants and usage', weight: 'Share', edit: 'Limits', editOf: 'Limits of %name', ban: 'Ban', banOf: 'Ban %name', unban: 'End the ban', unbanOf: 'End the ban of %name', banText: 'All keys of this account are refused, with this reason, and what it has waiting is canceled.', banned: 'banned: %reason', bannedToast: '%name is banned', saved: 'Saved', save: 'Save',
  keys: 'Keys', newKey: 'New key', makeKey: 'Make a key', rotateKey: 'Replace', rotateOf: 'Replace the key …%hint of %name', revoke: 'Revoke', revokeOf: 'Revoke the key …%hint of %name', confirmRevoke: 'Revoke the key …%hint of %name? It stops at once.', confirmRotate: 'Replace the key …%hint of %name? The old one stops at once.', revoked: 'Revoked',
  invites: 'Invites', signUpOff: 'Signing up is switched off (ZIMG_SIGN_UP=invite switches it on).', left: 'Left', newInvite: 'New invite', forPeople: 'People', days: 'Days', makeInvite: 'Make an invite', withdraw: 'Withdraw', withdrawOf: 'Withdraw the invite …%hint', withdrawn: 'Withdrawn',
  hooks: 'Webhook failures', noHooks: 'None. Deliveries that fail are tried again for three days.', address: 'Address', answer: 'Answer', nextTry: 'Next try', givenUp: 'given up', noAnswer: 'no answer', hookOff: 'switched off: %reason',
}, {
  adminTitle: '管理', gateTitle: '管理员密钥', gateText: 'ZIMG_ADMIN_KEY，或任何以 admin 创建的密钥。它只保存在此标签页，关闭即忘。', adminKey: '管理员密钥', live: '实时', lost: '没有回应，正在重试…',
  tileWaiting: '排队', tileRunning: '生成中', tileWorkers: '工作进程', tileLetters: '死信', tileHooks: 'Webhook 失败', tileOldest: '最长等待', tilePace: '每张耗时', slotsNote: '%n 个席位', perPicture: '满载时',
  queue: '队列', lanes: '通道', queueByTenant: '各租户的队列', lane: '通道', waits: '排队', runs: '运行', state: '状态', actions: '操作', noQueue: '没有租户有等待或运行的任务。', tenant: '租户', pause: '暂停', drain: '排空', resume: '恢复',
  pauseOf: '暂停 %name', drainOf: '排空 %name', resumeOf: '恢复 %name', nowPaused: '%name 已暂停：新任务会等待', nowDraining: '%name 正在排空：不再接收新任务', nowOpen: '%name 已恢复',
  workers: '工作进程', noWorkers: '没有存活的工作进程，任务会一直等待。', gpuMemory: '显存', noGpu: '无 GPU', plan: '显存计划', idle: '空闲', mayStop: '已没有任务，可以停止。', seats: '%used / %n 个席位', holds: '%name 的任务', upFor: '启动于 %time',
  letters: '死信', noLetters: '没有。失败的任务会连同原因保存在这里。', reason: '原因', anyReason: '全部', tries: '次数', died: '结束时间', requeue: '重试', requeueOf: '重试：%name', requeueAll: '全部重试', requeued: '已重新排队', requeuedMany: '%n 个已重新排队', requeuedRefused: '%n 个已重新排队，%refused 个被限额拒绝',
  tenantsAndUsage: '租户与用量', weight: '份额', edit: '限额', editOf: '%name 的限额', ban: '封禁', banOf: '封禁 %name', unban: '解除封禁', unbanOf: '解除 %name 的封禁', banText: '该账户的所有密钥都会被拒绝并显示此原因，等待中的任务会被取消。', banned: '已封禁：%reason', bannedToast: '%name 已封禁', saved: '已保存', save: '保存',
  keys: '密钥', newKey: '新密钥', makeKey: '创建密钥', rotateKey: '更换', rotateOf: '更换 %name 的密钥 …%hint', revoke: '撤销', revokeOf: '撤销 %name 的密钥 …%hint', confirmRevoke: '撤销 %name 的密钥 …%hint？它会立即失效。', confirmRotate: '更换 %name 的密钥 …%hint？旧密钥会立即失效。', revoked: '已撤销',
  invites: '邀请', signUpOff: '注册已关闭（ZIMG_SIGN_UP=invite 可开启）。', left: '剩余', newInvite: '新邀请', forPeople: '人数', days: '天数', makeInvite: '创建邀请', withdraw: '收回', withdrawOf: '收回邀请 …%hint', withdrawn: '已收回',
  hooks: 'Webhook 失败', noHooks: '没有。失败的投递会在三天内重试。', address: '地址', answer: '回应', nextTry: '下次重试', givenUp: '已放弃', noAnswer: '没有回应', hookOff: '已停用：%reason',
});
