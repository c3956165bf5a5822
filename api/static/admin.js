// The operator's page: the whole service, read every two seconds; the admin key stays in this tab.
import './account_words.js';
import './admin_words.js';
import { $, answerCell, button, cell, fitTables, keep, nameCell, number, pill, rowHead, toast, told, when, wireSecret } from './account_parts.js';
import { wirePeople, drawPeople, readPeople } from './admin_people.js';
import { waitingButton, wireWaiting } from './admin_waiting.js';
import { drawWorkers, seatsOf } from './admin_workers.js';
import { showReady, wireBar } from './bar.js';
import { make } from './cards.js';
import { ignoreHeldEnter, submitOnce } from './pressing.js';
import { ask as plainAsk, mayPass } from './service.js';
import { session } from './storage.js';
import { applyWords, say, saySize, sayTime } from './words.js';

const LIVE_MS = 2000;
const SLOW_EVERY = 5; // of live looks
const KEY = 'zimg.adminKey';
let seen = { overview: null, letters: null, hooks: null };
let looks = 0;
let timer = 0;
let visits = 0; // what was asked for before the operator left says nothing any more

function ask(path, { method = 'GET', body } = {}) {
  return plainAsk(path, { method, ...(body ? { body: JSON.stringify(body) } : {}), headers: { Authorization: `Bearer ${session.get(KEY) ?? ''}` } });
}

// Pause, drain, resume -----------------------------------------------------------------------------------------------

const SAID = { paused: 'nowPaused', draining: 'nowDraining', open: 'nowOpen' };

export function flowButtons(kind, name, shown, state) {
  const set = (wanted) => async () => {
    await ask(`/v1/admin/traffic/${kind}/${encodeURIComponent(name)}`, { method: 'PUT', body: { state: wanted } });
    toast(say(SAID[wanted], { name: shown }));
    await look();
  };
  const named = (words) => ({ label: say(words, { name: shown }) });
  if (state !== 'open') return [button(say('resume'), set('open'), named('resumeOf'))];
  return [button(say('pause'), set('paused'), named('pauseOf')), button(say('drain'), set('draining'), named('drainOf'))];
}

// What is shown ------------------------------------------------------------------------------------------------------

function drawTiles({ queue, workers, dead_letters: letters, webhook_failures: hooks, webhook_failures_off: hooksOff }) {
  const waiting = queue.lanes.reduce((sum, lane) => sum + lane.waiting, 0) + queue.retrying;
  const seats = workers.map(seatsOf);
  const sum = (what) => seats.reduce((all, one) => all + one[what], 0);
  const seatsNote = [say('slotsNote', { n: sum('slots') }), ...(sum('next') ? [say('seatsNext', { n: sum('next') })] : [])].join(say('comma'));
  const tiles = [
    ['tileWaiting', number(waiting), queue.released ? say('onTheirWay', { n: queue.released }) : ''],
    ['tileRunning', number(sum('riding')), seatsNote],
    ['tileOldest', queue.oldest_waiting_seconds ? sayTime(queue.oldest_waiting_seconds) : '–', ''],
    ['tilePace', queue.seconds_per_picture ? say('seconds', { n: queue.seconds_per_picture.toFixed(1) }) : '–', say('paceNote', { size: saySize(queue.usual_size) })],
    ['tileWorkers', number(workers.length), '', workers.length === 0],
    ['tileLetters', number(letters), '', letters > 0],
    ['tileHooks', number(hooks), hooksOff ? say('hooksOff', { n: hooksOff }) : '', hooks > 0],
  ];
  keep($('tiles'), tiles, ([name]) => name, ([name, value, note, isAlarm]) => {
    const tile = make('div', `tile${isAlarm ? ' alarm' : ''}`);
    tile.append(make('span', 'tile-name', say(name)), make('strong', '', value), make('span', 'note', note));
    return tile;
  });
}

function drawQueue({ lanes, tenants }) {
  keep($('lanes'), lanes, (one) => one.lane, ({ lane, waiting, state }) => {
    const row = make('tr');
    const shown = say(`lane_${lane}`);
    row.append(rowHead(shown), cell(number(waiting), 'num'), cell(pill(state)), cell(flowButtons('lane', lane, shown, state), 'end'));
    return row;
  });
  $('no-tenant-queue').hidden = tenants.length > 0;
  $('tenant-queue').hidden = tenants.length === 0;
  keep($('tenant-queues'), tenants, (one) => one.tenant, ({ tenant, interactive, batch, running, state }) => {
    const row = make('tr');
    row.append(rowHead(tenant), cell(number(interactive), 'num'), cell(number(batch), 'num'), cell(number(running), 'num'), cell(pill(state)), cell([...(interactive + batch ? [waitingButton(tenant)] : []), ...flowButtons('tenant', tenant, tenant, state)], 'end'));
    return row;
  });
}

function drawLetters(letters) {
  const select = $('letter-code');
  const codes = ['', ...new Set([...letters.map((one) => one.code), ...(select.value ? [select.value] : [])])];
  keep(select, codes, (code) => code, (code) => {
    const option = make('option', '', code || say('anyReason'));
    option.value = code;
    return option;
  });
  const shown = letters.filter((one) => !select.value || one.code === select.value);
  $('no-letters').hidden = letters.length > 0;
  $('letters-table').hidden = shown.length === 0;
  keep($('requeue-all'), shown.length ? [select.value] : [], (code) => `all:${code}`, (code) => button(say('requeueAll'), () => requeueAll(code)));
  keep($('letters'), shown, (one) => one.id, (one) => {
    const row = make('tr');
    const name = one.prompt.length > 90 ? `${one.prompt.slice(0, 90)}…` : one.prompt;
    const head = rowHead(name, one.reason);
    head.classList.add('prompt');
    row.append(head, cell(make('span', 'pill pill-failed', one.code)), nameCell(one.tenant), cell(number(one.attempts), 'num'), cell(when(one.died_at)),
      cell(button(say('requeue'), () => requeue(one), { label: say('requeueOf', { name }) }), 'end'));
    return row;
  });
}

async function requeue(letter) {
  await ask(`/v1/admin/dead-letters/${letter.id}/requeue`, { method: 'POST' });
  toast(say('requeued'));
  await look({ isFull: true });
}

// A call looks at so many letters at most: it may find none, and say where the next one goes on.
async function goOn(call) {
  let answer = await call('');
  while (!answer.data.length && answer.next_cursor) answer = await call(answer.next_cursor);
  return answer;
}

async function requeueAll(code) {
  const what = code ? { code } : { all: true };
  const { data } = await goOn((cursor) => ask('/v1/admin/dead-letters/requeue', { method: 'POST', body: cursor ? { ...what, cursor } : what }));
  const refused = data.filter((one) => !one.job_id).length;
  toast(say(refused ? 'requeuedRefused' : 'requeuedMany', { n: data.length - refused, refused: number(refused) }));
  await look({ isFull: true });
}

async function sendAgain(failure) {
  await ask('/v1/admin/webhook-failures/resend', { method: 'POST', body: { delivery_id: failure.delivery_id } });
  toast(say('sentAgain'));
  await look({ isFull: true });
}

function drawHooks(hooks) {
  $('no-hooks').hidden = hooks.length > 0;
  $('hooks-table').hidden = hooks.length === 0;
  keep($('hooks'), hooks, (one) => one.delivery_id, (one) => {
    const row = make('tr');
    const isOff = one.endpoint_disabled_because !== null; // nothing can be sent to it then
    const note = isOff ? say('hookOff', { reason: one.endpoint_disabled_because }) : one.type;
    const head = rowHead(one.url ?? one.endpoint_id, note);
    head.classList.add('prompt');
    row.append(head, nameCell(one.tenant), answerCell(one), cell(number(one.attempts), 'num'), cell(one.state === 'failed' ? say('givenUp') : isOff ? '–' : when(one.next_attempt_at)),
      cell(isOff ? [] : [button(say('sendAgain'), () => sendAgain(one), { label: say('sendAgainOf', { name: one.url ?? one.endpoint_id }) })], 'end'));
    return row;
  });
}

function draw() {
  applyWords();
  document.title = `${say('adminTitle')} · zimg`;
  if (!seen.overview) return;
  showAlive(true);
  drawTiles(seen.overview);
  drawQueue(seen.overview.queue);
  drawWorkers(seen.overview.workers, seen.overview.stopped);
  drawLetters(seen.letters);
  drawHooks(seen.hooks);
  drawPeople();
  fitTables();
}

function showAlive(isAlive) {
  $('alive').hidden = false;
  $('alive').classList.toggle('lost', !isAlive);
  const words = say(isAlive ? 'live' : 'lost');
  if ($('alive').textContent !== words) $('alive').textContent = words;
}

// Looking ------------------------------------------------------------------------------------------------------------

async function readAll(isFull, mine) {
  const overview = await ask('/v1/admin/overview');
  if (mine !== visits) return null;
  const before = seen.overview;
  const isChanged = !before || before.dead_letters !== overview.dead_letters || before.webhook_failures !== overview.webhook_failures;
  if (!isFull && !isChanged && looks++ % SLOW_EVERY) return { overview };
  const [letters, hooks] = await Promise.all([goOn((cursor) => ask(`/v1/admin/dead-letters?limit=200${cursor && `&cursor=${cursor}`}`)), ask('/v1/admin/webhook-failures'), readPeople()]);
  return { overview, letters: letters.data, hooks: hooks.data };
}

async function look({ isFull = false } = {}) {
  if (session.get(KEY) === null) return; // the operator has left
  const mine = visits;
  try {
    const found = await readAll(isFull, mine);
    if (mine === visits) seen = { ...seen, ...found };
  } catch (problem) { if (mine === visits) throw problem; }
  if (mine === visits) draw();
}

let isReplacing = false;

// `replace` makes a new key of one. If that was the key in use here, the new one is from then on.
async function replaceKey(replace) {
  isReplacing = true;
  try {
    const fresh = await replace();
    await look({ isFull: true }).catch(async (problem) => {
      if (problem.status !== 401) throw problem;
      session.set(KEY, fresh);
      await look({ isFull: true });
    });
  } finally {
    isReplacing = false;
  }
}

function keepLooking() {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    const [mine, key] = [visits, session.get(KEY)];
    try {
      if (!document.hidden) await look();
    } catch (problem) {
      const isRefused = problem.status === 401 || problem.status === 403;
      if (isRefused && !isReplacing && key === session.get(KEY)) return leave(told(problem));
      if (!isRefused) showAlive(false);
    }
    if (mine === visits) keepLooking();
  }, LIVE_MS);
}

function leave(why = '') {
  clearTimeout(timer);
  visits += 1;
  session.remove(KEY);
  seen = { overview: null, letters: null, hooks: null };
  $('content').hidden = true;
  $('alive').hidden = true;
  $('leave').hidden = true;
  $('gate').hidden = false;
  $('gate-error').textContent = why;
  $('admin-key').focus();
}

async function enter() {
  clearTimeout(timer);
  const mine = visits;
  try {
    await look({ isFull: true });
  } catch (problem) {
    if (!mayPass(problem)) return leave(told(problem));
    $('gate').hidden = false;
    $('gate-error').textContent = told(problem);
    timer = setTimeout(enter, problem.retryAfterMs ?? LIVE_MS); // the key may be good
    return;
  }
  if (mine !== visits) return;
  $('gate-error').textContent = '';
  $('gate').hidden = true;
  $('content').hidden = false;
  $('leave').hidden = false;
  fitTables();
  keepLooking();
}

wireBar(() => {
  draw();
  if (seen.overview) look({ isFull: true }).catch(() => {}); // reasons come in the language they are asked in; the next look tells of trouble
});
wireSecret();
ignoreHeldEnter();
wireWaiting({ ask });
wirePeople({ ask, refresh: () => look({ isFull: true }), replaceKey });
$('letter-code').addEventListener('change', () => { drawLetters(seen.letters); fitTables(); });
$('leave').addEventListener('click', () => leave());
submitOnce($('gate-form'), () => {
  session.set(KEY, $('admin-key').value.trim());
  $('admin-key').value = '';
  return enter();
});
draw();
showReady();
if (session.get(KEY)) enter();
else leave();
