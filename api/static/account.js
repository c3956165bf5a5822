// The account page: what is left today, 30 days, limits, own jobs, the key, deleting everything; signing in and up.
import './account_words.js';
import { $, cell, chart, day, fitTables, keep, number, rowHead, showSecret, toast, told, when, whenEnds, wireSecret } from './account_parts.js';
import { openDeleting } from './account_deleting.js';
import { openWebhooks } from './account_webhooks.js';
import { showReady, wireBar } from './bar.js';
import { make } from './cards.js';
import { openGrowing } from './growing.js';
import { openMessage } from './message.js';
import { ignoreHeldEnter, submitOnce } from './pressing.js';
import { showLeft, WORDS } from './quota.js';
import * as service from './service.js';
import { signIn, signOut, stopWaiting, waitToBeLetIn, watchSession, whoIsHere } from './session.js';
import { tellTabs } from './tabs.js';
import { applyWords, say, saySize } from './words.js';

const JOBS_AT_ONCE = 10;
const REFRESH_MS = 5000;
const AGAIN_MS = 3000;
const CHART_WIDTH = 720; // until it has a place
let account = null, use = null; // use: of whichever has less left of the day, the account or the key
const jobs = openGrowing((limit, cursor) => service.history(cursor, limit), JOBS_AT_ONCE);
let timer = 0, startTimer = 0;
let refusal = ''; // why they are let in no more
const messages = Object.fromEntries(
  ['sign-in-error', 'sign-up-error', 'delete-error'].map((id) => [id, openMessage($(id))]),
);
const tellAt = (id, words) => messages[id].ofPrompt(words);

// What is of the session is dealt with where it is found out whose it is now.
const tell = (problem, field) => {
  if (problem.isOfSession && service.shownFor() !== null) return;
  if (field) tellAt(field, () => told(problem));
  else toast(told(problem));
};

const webhooks = openWebhooks((problem) => tell(problem));

const show = (id, isShown) => { $(id).hidden = !isShown; };

function fact(list, name, value) {
  list.append(make('dt', '', name), make('dd', '', value));
}

function drawToday() {
  const { limits, key, used_today: used, reserved_today: reserved } = account;
  const { daily_remaining: left, daily_limit: limit } = use;
  const isOfKey = limit !== limits.daily_units && limit === key?.daily_units;
  $('left').textContent = number(left);
  $('used').textContent = number(used);
  $('reserved').textContent = number(reserved);
  showLeft({ box: document.querySelector('.today'), meter: $('daily'), text: $('left-note'), left, limit, words: { ...WORDS, good: isOfKey ? 'ofLimitKey' : 'ofLimit' } });
}

function drawDays() {
  const { days } = account;
  $('chart').replaceChildren(chart(days, $('chart').clientWidth || CHART_WIDTH));
  $('chart-sum').textContent = say('inDays', { n: days.reduce((sum, one) => sum + one.used, 0) });
  keep($('chart-rows'), days, (one) => one.date, (one) => {
    const row = make('tr');
    row.append(rowHead(day(one.date)), cell(number(one.used)));
    return row;
  });
}

function drawLimits() {
  const { limits, lanes, preset } = account;
  const list = $('limits');
  list.replaceChildren();
  fact(list, say('limitDaily'), number(limits.daily_units));
  fact(list, say('limitBurst'), number(limits.burst));
  fact(list, say('limitRate'), limits.burst_per_second ? number(limits.burst_per_second) : say('unlimited'));
  fact(list, say('limitQueued'), number(limits.queued_jobs));
  fact(list, say('limitRunning'), number(limits.running_jobs));
  fact(list, say('limitWeight'), `× ${number(limits.weight)}`);
  fact(list, say('limitLanes'), lanes.map((lane) => say(`lane_${lane}`)).join(' · '));
  fact(list, say('limitPreset'), preset ?? say('serviceDefault'));
}

function drawKey() {
  const { key, admin } = account;
  const list = $('key-facts');
  list.replaceChildren();
  show('rotate-form', Boolean(key));
  show('key-none', !key);
  $('key-none').textContent = say(admin ? 'keyOperator' : 'keyNone');
  if (!key) return;
  fact(list, say('keyTitle'), say('keyFact', { hint: `…${key.hint}` }));
  if (key.label) fact(list, say('keyLabel'), key.label);
  fact(list, say('keyMade'), when(key.created_at));
  fact(list, say('keyUsed'), when(key.last_used_at));
  fact(list, say('keyEnds'), whenEnds(key.expires_at));
  if (key.daily_units !== null) fact(list, say('keyDaily'), number(key.daily_units));
  if (key.burst !== null) fact(list, say('keyBurst'), number(key.burst));
}

function drawJobs() {
  const shown = jobs.items();
  show('no-jobs', shown.length === 0);
  show('jobs-table', shown.length > 0);
  show('more-jobs', jobs.hasMore());
  keep($('jobs'), shown.map(({ id, prompt, status, images, created_at, effective_parameters: { size } }) => ({ id, prompt, status, images, created_at, size })), (job) => job.id, (job) => {
    const row = make('tr');
    const text = job.prompt.length > 120 ? `${job.prompt.slice(0, 120)}…` : job.prompt;
    const words = make('bdi', '', text);
    const name = make('th', 'prompt');
    name.scope = 'row';
    if (job.status === 'succeeded' && job.images.length) {
      const link = make('a');
      link.append(words);
      link.href = `/i/${job.id}.png`;
      name.append(link);
    } else name.append(words);
    row.append(name, cell(make('span', `pill pill-${job.status}`, say(`status_${job.status}`))), cell(saySize(job.size)), cell(when(job.created_at)));
    return row;
  });
  fitTables();
}

function draw() {
  applyWords();
  document.title = `${say('accountTitle')} · zimg`;
  $('tenant').textContent = account?.tenant ?? '';
  if (!account) return;
  $('confirm-label').textContent = say('deleteLabel', { name: account.tenant });
  show('admin-link', account.admin);
  drawToday();
  drawDays();
  drawLimits();
  drawKey();
  webhooks.draw();
  drawJobs();
}

async function refresh() {
  [account, use] = await Promise.all([service.account(), service.usage(), jobs.refresh(), webhooks.read()]);
  draw();
}

async function moreJobs() {
  await jobs.more();
  drawJobs();
}

function keepFresh() {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    if (!document.hidden && account) await refresh().catch(() => {});
    keepFresh();
  }, REFRESH_MS);
}

// Nothing of whose account was shown before stays.
function showAccountOf(who) {
  service.showFor(who.tenant);
  account = null;
  jobs.clear();
  webhooks.reset();
  for (const message of Object.values(messages)) message.clear();
  $('confirm').value = '';
  show('sign-out', who.key_required && who.signed_in || Boolean(who.refused));
  show('door', !who.signed_in);
  show('content', false);
  draw();
}

const waitForEnd = (delay) => waitToBeLetIn(begin, (why) => { refusal = why; messages['sign-in-error'].show(); }, delay);

async function start(who) {
  stopWaiting();
  showAccountOf(who);
  refusal = who.refused ?? '';
  if (refusal) {
    tellAt('sign-in-error', () => refusal);
    waitForEnd();
  }
  if (who.signed_in) {
    await refresh();
    show('content', true);
    drawDays(); // now that it has a width
    return fitTables();
  }
  $('key').focus();
  const { open } = await service.ask('/v1/sign-up');
  show('sign-up', open);
}

async function begin(known) {
  clearTimeout(startTimer);
  try {
    await start(known ?? await whoIsHere());
  } catch (problem) {
    if (problem.isOfSession) return;
    toast(problem.status ? problem.message : say('offline'));
    if (service.mayPass(problem)) startTimer = setTimeout(begin, problem.retryAfterMs ?? AGAIN_MS);
  }
}

async function enter() {
  messages['sign-in-error'].clear();
  try {
    const who = await signIn($('key').value);
    $('key').value = '';
    begin(who);
  } catch (problem) { tellAt('sign-in-error', () => told(problem)); }
}

// The key is shown before anything else can fail: nobody can show it again.
async function signUp() {
  messages['sign-up-error'].clear();
  try {
    const made = await service.send('/v1/sign-up', { code: $('code').value, name: $('name').value });
    $('sign-up-form').reset();
    showSecret(made.key);
    toast(say('signedUp', { name: made.tenant }));
    await enterWith(made.key);
  } catch (problem) { tellAt('sign-up-error', () => told(problem)); }
}

async function enterWith(key) {
  try {
    begin(await signIn(key));
  } catch (problem) {
    $('key').value = key; // one press signs in
    tellAt('sign-in-error', () => say('madeNotIn', { why: told(problem) }));
  }
}

function changeTo(who) {
  begin(who);
  if (!who.signed_in && !who.refused) tellAt('sign-in-error', () => say('sessionEnded'));
}

async function rotate() {
  try {
    const made = await service.send('/v1/account/key/rotate', { overlap_seconds: Number($('overlap').value) });
    showSecret(made.key);
    toast(say('rotated'));
    await refresh();
  } catch (problem) { tell(problem); }
}

openDeleting({
  onStart: messages['delete-error'].clear,
  onDone(left) {
    if (left) tellAt('delete-error', () => say('deletedSome', { n: left }));
    jobs.clear();
    tellTabs();
    return refresh();
  },
  tell: (problem) => tell(problem, 'delete-error'),
});

// In another language. Reasons come in the language that they are asked in; the next refresh tells of trouble.
function sayAnew() {
  draw();
  for (const message of Object.values(messages)) message.show();
  if (account) refresh().catch(() => {});
  if (refusal) waitForEnd(0);
}

wireBar(sayAnew);
window.addEventListener('resize', () => { if (account) drawDays(); });
wireSecret();
ignoreHeldEnter();
watchSession(changeTo);
submitOnce($('sign-in-form'), enter);
submitOnce($('sign-up-form'), signUp);
submitOnce($('rotate-form'), rotate);
$('more-jobs').addEventListener('click', () => moreJobs().catch((problem) => tell(problem)));
$('sign-out').addEventListener('click', signOut);
draw();
showReady();
begin();
keepFresh();
