// The page: a prompt goes out as jobs, each job is a card, and open cards are looked at until they end.
import { wireBar } from './bar.js';
import { drawCard, isOpen, make } from './cards.js';
import { keepChoices } from './choices.js';
import { openDropped } from './dropped.js';
import { forgetUnsent, openOutbox } from './outbox.js';
import * as service from './service.js';
import { showLeft } from './quota.js';
import { openRemoval } from './removal.js';
import { openStars } from './stars.js';
import { toast } from './toast.js';
import { variationOf } from './vary.js';
import { openViewer, refreshViewer, setUpViewer } from './viewer.js';
import { applyWords, say } from './words.js';
import { isGone, saveAsZip, tellMissing } from './zip.js';

const $ = (id) => document.getElementById(id);
const PAGE = 48;
const PAGES_AT_START = 5; // what is drawn next is the oldest of what waits
const LOOK_MS = 700;      // at the jobs that come next
const LOOK_ALL_MS = 4000; // at all open ones
const NEAR = 16;

const jobs = new Map();   // id -> job, as last seen
const cards = new Map();  // id -> li
const apart = new Set();  // ids that are here for their star alone: they are older than what is loaded of the history
const selected = new Set();
let models = null, shapes = null;
let cursor = null;
let isSelecting = false, isSaving = false;
let lookTimer = 0;
let lastFullLook = 0;

const newestFirst = () => [...jobs.values()].sort((a, b) => b.created_at - a.created_at || b.order - a.order);
const isShown = (job) => job.status !== 'expired' && !removal.isRemoved(job.id) && ($('starred-only').checked ? stars.has(job.id) : !apart.has(job.id));
const pictures = () => newestFirst().filter((job) => job.status === 'succeeded' && isShown(job));

// Cards ---------------------------------------------------------------------------------------------------------------

let order = 0;

function take(job) {
  const before = jobs.get(job.id);
  apart.delete(job.id);
  jobs.set(job.id, { ...job, order: before?.order ?? order++ });
  if (before && before.status !== job.status) announce(job);
  drawOne(jobs.get(job.id));
}

function announce(job) {
  const words = { succeeded: 'announceDone', running: 'announceRunning', failed: 'announceFailed', canceled: 'announceCanceled' };
  if (words[job.status]) $('status').textContent = say(words[job.status], { prompt: job.prompt.slice(0, 80) });
  if (job.status === 'succeeded') refreshQuota();
}

function drawOne(job) {
  let card = cards.get(job.id);
  if (!card) {
    card = make('li', 'card');
    card.dataset.id = job.id;
    cards.set(job.id, card);
  }
  drawCard(card, job, {
    isStarred: stars.has(job.id), isSelecting, isSelected: selected.has(job.id),
    onOpen: () => openViewer(jobs.get(job.id)), onCancel: () => cancel(job.id), onAgain: () => again(jobs.get(job.id)),
    onRemove: () => removeCard(jobs.get(job.id)),
    onSelect: () => toggleSelected(job.id),
  });
}

// A request that waits to be sent, as a card among the jobs.
const unsentId = (entry) => `unsent-${entry.key}`;

function drawUnsent(entry) {
  const id = unsentId(entry);
  if (!cards.has(id)) cards.set(id, make('li', 'card'));
  const { prompt, size } = entry.request;
  const shape = { size: size ?? shapes?.square ?? '1x1' };
  const standing = { status: entry.isRefused ? 'refused' : 'unsent', unsent: entry, isBehind: outbox.isBehind(entry), isSending: outbox.isSending(entry) };
  const shown = { id, prompt, effective_parameters: shape, ...standing };
  drawCard(cards.get(id), shown, {
    isStarred: false, isSelecting: false, isSelected: false,
    onCancel: () => putAway(entry), onAgain: () => putAway(entry, entry.request.prompt),
  });
  return cards.get(id);
}

function putAway(entry, prompt = $('prompt').value) {
  $('prompt').value = prompt;
  outbox.putAway(entry);
  cards.delete(unsentId(entry));
  $('prompt').focus();
}

function arrange() {
  const grid = $('grid');
  const unsent = outbox.waiting().reverse();
  const shown = [...unsent.map(drawUnsent), ...newestFirst().filter(isShown).map((job) => cards.get(job.id))];
  let at = grid.firstElementChild;
  for (const card of shown) {
    if (at === card) at = at.nextElementSibling;
    else grid.insertBefore(card, at);
  }
  while (at) { const next = at.nextElementSibling; at.remove(); at = next; }
  showEmpty(shown.length === 0);
  $('tools').hidden = jobs.size === 0;
  $('more').hidden = cursor === null || $('starred-only').checked; // all of those are fetched
  keepCounting(unsent.length > 0);
}

function showEmpty(isEmpty) {
  const isFiltered = $('starred-only').checked;
  const words = isFiltered ? stars.words() : '';
  $('empty').hidden = !isEmpty && !(isFiltered && stars.isFailing());
  $('empty').textContent = words || say(isFiltered ? 'noStars' : 'empty');
  $('examples').hidden = !isEmpty || isFiltered;
}

// The wait of what is not sent yet runs down before one's eyes.
function keepCounting(isWanted) {
  if (!isWanted) clearInterval(keepCounting.timer);
  if (isWanted === Boolean(keepCounting.timer)) return;
  keepCounting.timer = isWanted ? setInterval(() => outbox.waiting().forEach(drawUnsent), 1000) : 0;
}

function redraw() {
  for (const job of jobs.values()) drawOne(job);
  arrange();
  refreshViewer();
}

function forget(id) {
  jobs.delete(id);
  cards.delete(id);
  selected.delete(id);
  stars.lose(id);
  arrange();
}

// Looking at open jobs ------------------------------------------------------------------------------------------------

async function look() {
  const open = newestFirst().filter(isOpen).reverse();
  if (!open.length) return;
  const isFull = Date.now() - lastFullLook > LOOK_ALL_MS;
  if (isFull) lastFullLook = Date.now();
  const running = open.filter((job) => job.status !== 'queued');
  const near = [...running, ...open.filter((job) => job.status === 'queued')].slice(0, isFull ? 100 : NEAR);
  const answer = await service.look(near.map((job) => job.id));
  const found = new Set(answer.data.map((job) => job.id));
  for (const job of answer.data) take(job);
  for (const job of near) if (!found.has(job.id)) forget(job.id);
  $('composer-error').textContent === say('offline') && ($('composer-error').textContent = '');
}

function keepLooking(delay = LOOK_MS) {
  clearTimeout(lookTimer);
  lookTimer = setTimeout(async () => {
    try {
      await look();
      if (newestFirst().some(isOpen)) keepLooking();
    } catch (problem) {
      if (problem.status === 401) return problem.isOutdated ? keepLooking() : askForKey();
      $('composer-error').textContent = say('offline');
      keepLooking(3000);
    }
  }, delay);
}

// Drawing -------------------------------------------------------------------------------------------------------------

const submit = (request) => outbox.add(request);

const outbox = openOutbox({
  onTaken(entry, made) {
    cards.delete(unsentId(entry));
    $('composer-error').textContent = '';
    $('status').textContent = say('announceQueued', { prompt: entry.request.prompt.slice(0, 80) });
    [...made].reverse().forEach(take);
    arrange();
    refreshQuota();
    keepLooking(150);
  },
  onDelayed(entry) {
    $('status').textContent = say('announceUnsent', { prompt: entry.request.prompt.slice(0, 80) });
    refreshQuota();
  },
  // Beside the prompt where it still stands; else the card keeps it.
  onRefused(entry, problem) {
    $('composer-error').textContent = problem.message;
    return $('prompt').value !== entry.request.prompt;
  },
  onNeedsKey: askForKey,
  onChange: arrange,
});

function go() {
  const prompt = $('prompt').value;
  if (!prompt.trim()) {
    $('composer-error').textContent = say('emptyPrompt');
    return $('prompt').focus();
  }
  const form = new FormData($('composer'));
  const count = Number(form.get('count'));
  if (dropped.isFor(prompt)) submit(dropped.request());
  else submit({ prompt, ...(shapes ? { size: shapes[form.get('shape')] } : {}), ...(count > 1 ? { n: count } : {}) });
  $('prompt').focus();
  $('prompt').select();
}

const dropped = openDropped({ known: () => models });

// The picture's own model; where that is not served any more the service's, and the page says so.
function modelOf(job) {
  const { model } = job.effective_parameters;
  if (models.some(({ id }) => id === model)) return { model };
  toast(say('drawnWith', { ours: models[0].id, theirs: model }));
  return {};
}

const again = (job) => submit({ prompt: job.prompt, size: job.effective_parameters.size, ...modelOf(job) });

const vary = (job) => submit({ ...variationOf(job), ...modelOf(job) });

async function cancel(id) {
  try { take(await service.cancel(id)); } catch (problem) { toast(problem.message); }
}

async function remove(job) {
  try { await service.remove(job.id); forget(job.id); toast(say('deleted')); } catch (problem) { toast(problem.message); }
}

const removal = openRemoval({ onChange: arrange, onRemoved: forget });

// The focus goes on to the card beside it.
function removeCard(job) {
  const card = cards.get(job.id);
  const beside = card.nextElementSibling ?? card.previousElementSibling;
  const hadFocus = card.contains(document.activeElement);
  removal.remove(job);
  if (hadFocus) (beside?.querySelector('button') ?? $('prompt')).focus();
}

const stars = openStars({
  onFound(found) {
    for (const job of found) {
      const before = jobs.get(job.id);
      if (!before) apart.add(job.id);
      jobs.set(job.id, { ...job, order: before?.order ?? -order++ });
      drawOne(jobs.get(job.id));
    }
    arrange();
  },
  onGone: forget, onChange: arrange, onNeedsKey: askForKey,
});

function star(job) {
  stars.toggle(job.id);
  drawOne(jobs.get(job.id));
  arrange();
}

// Selection -----------------------------------------------------------------------------------------------------------

function toggleSelected(id) {
  if (!selected.delete(id)) selected.add(id);
  showSelection();
}

function showSelection() {
  for (const job of pictures()) drawOne(job);
  $('select').setAttribute('aria-pressed', String(isSelecting));
  $('select').textContent = say(isSelecting ? 'selectDone' : 'select');
  $('download-selection').hidden = !isSelecting || selected.size === 0;
  $('download-selection').textContent = say('downloadSelection', { n: selected.size });
}

async function downloadSelection() {
  if (isSaving) return;
  isSaving = true;
  const chosen = newestFirst().filter((job) => selected.has(job.id));
  try {
    const missing = await saveAsZip(chosen, (at) => { $('download-selection').textContent = say('zipping', { at, of: chosen.length }); });
    for (const { job, problem } of missing) if (isGone(problem)) forget(job.id);
    if (missing.length) toast(tellMissing(missing, chosen.length));
  } finally {
    isSaving = false;
    showSelection();
  }
}

// History, account ----------------------------------------------------------------------------------------------------

async function loadHistory() {
  const answer = await service.history(cursor, PAGE);
  cursor = answer.next_cursor;
  for (const job of answer.data) if (!jobs.has(job.id) || apart.delete(job.id)) jobs.set(job.id, { ...job, order: -order++ });
  redraw();
  keepLooking(100);
  return answer.data.at(-1);
}

// What was drawn elsewhere meanwhile: in another tab, on a phone, through the API.
async function loadNewest() {
  if (document.visibilityState !== 'visible') return;
  const answer = await service.history(null, PAGE).catch(() => null);
  if (!answer) return;
  for (const job of answer.data.reverse()) take(job);
  arrange();
  refreshQuota();
  keepLooking(100);
}

async function refreshQuota() {
  const use = await service.usage().catch(() => null);
  if (!use) return;
  const left = use.daily_remaining;
  $('quota').hidden = left > use.daily_limit * 0.5 && use.daily_limit >= 100000;
  showLeft({ box: $('quota'), meter: $('quota-meter'), text: $('quota-text'), left, limit: use.daily_limit });
}

function askForKey() {
  if ($('sign-in').open) return;
  $('sign-in').showModal();
  service.isSignUpOpen().then((isOpen) => { $('to-sign-up').hidden = !isOpen; }, () => {});
}

async function signIn(event) {
  event.preventDefault();
  try {
    await service.signIn($('key').value);
    outbox.expectOwner();
    $('key').value = '';
    $('sign-in').close();
    await start();
  } catch (problem) {
    $('sign-in-error').textContent = problem.message;
  }
}

async function start() {
  const who = await service.session();
  $('sign-out').hidden = !(who.key_required && who.signed_in);
  if (!who.signed_in) return askForKey();
  stars.openFor(who.tenant);
  models = await service.models();
  [{ shapes }] = models;
  refreshQuota();
  cursor = null;
  let oldest = await loadHistory();
  for (let page = 1; cursor && isOpen(oldest) && page < PAGES_AT_START; page += 1) oldest = await loadHistory();
  if ($('starred-only').checked) stars.load();
  if ($('composer-error').textContent === say('offline')) $('composer-error').textContent = '';
  outbox.openFor(who.tenant);
}

function begin() {
  start().catch((problem) => {
    $('composer-error').textContent = problem.status ? problem.message : say('offline');
    if (!problem.status || problem.status >= 500) setTimeout(begin, 3000);
  });
}

// Wiring --------------------------------------------------------------------------------------------------------------

function wire() {
  keepChoices($('composer'));
  $('composer').addEventListener('submit', (event) => { event.preventDefault(); go(); });
  $('prompt').addEventListener('keydown', (event) => {
    // Enter that ends an input method's composition is part of typing, not a wish to draw.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    go();
  });
  wireBar(() => { showSelection(); redraw(); refreshQuota(); dropped.show(); });
  for (const button of $('examples').querySelectorAll('button')) button.addEventListener('click', () => { $('prompt').value = button.textContent; $('prompt').focus(); });
  document.addEventListener('visibilitychange', loadNewest);
  $('more').addEventListener('click', () => loadHistory().catch((problem) => toast(problem.message)));
  $('starred-only').addEventListener('change', () => ($('starred-only').checked ? stars.load() : (stars.stop(), arrange())));
  $('select').addEventListener('click', () => { isSelecting = !isSelecting; selected.clear(); showSelection(); });
  $('download-selection').addEventListener('click', downloadSelection);
  $('sign-in-form').addEventListener('submit', signIn);
  $('sign-in').addEventListener('cancel', (event) => event.preventDefault());
  $('sign-out').addEventListener('click', async () => { forgetUnsent(); await service.signOut(); location.reload(); });
  document.addEventListener('keydown', (event) => {
    if (/^(TEXTAREA|INPUT)$/.test(event.target.tagName)) return;
    if (event.key === '/') { event.preventDefault(); $('prompt').focus(); }
    if (event.key === 'z' && (event.ctrlKey || event.metaKey) && removal.takeBack()) event.preventDefault();
  });
  setUpViewer({
    cardOf: (id) => cards.get(id), isStarred: (job) => stars.has(job.id), onStar: star, onAgain: again, onVary: vary, onDelete: remove, onToast: toast,
    neighbor: (id, step) => { const all = pictures(); const at = all.findIndex((job) => job.id === id); return at < 0 ? null : all[at + step] ?? null; },
  });
}

applyWords();
wire();
begin();
