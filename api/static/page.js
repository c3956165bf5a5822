// The page: a prompt goes out as jobs, each job is a card, and open cards are looked at until they end.
import { showReady, wireBar } from './bar.js';
import { askForMissing, drawCard, isOpen, make } from './cards.js';
import { keepChoices } from './choices.js';
import { openDoor } from './door.js';
import { openDropped } from './dropped.js';
import { openHistory } from './history.js';
import { openLooking } from './looking.js';
import { openMessage } from './message.js';
import { openOutbox } from './outbox.js';
import { drawOnEnter, ignoreHeldEnter, isDoubleClick } from './pressing.js';
import { openLength } from './prompt_length.js';
import * as service from './service.js';
import { openSelection } from './selection.js';
import { signOut, watchSession, whoIsHere } from './session.js';
import { refreshQuota } from './quota.js';
import { openRemoval } from './removal.js';
import { openStars } from './stars.js';
import { tellTabs, watchTabs } from './tabs.js';
import { isOffering, toast } from './toast.js';
import { modelOf, variationOf } from './vary.js';
import { closeViewer, loseShown, openViewer, refreshViewer, setUpViewer } from './viewer.js';
import { applyWords, say } from './words.js';
import { isGone } from './zip.js';

const $ = (id) => document.getElementById(id);
const message = openMessage($('composer-error'));
const PAGES_AT_START = 5; // what is drawn next is the oldest of what waits

const jobs = new Map();   // id -> job, as last seen
const cards = new Map();  // id -> li
const apart = new Set();  // ids that are here for their star alone: they are older than what is loaded of the history
let models = null, shapes = null;
let lastShown = null; // whose account this tab showed last
let startTimer = 0;

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
    isStarred: stars.has(job.id), isSelecting: selection.isOn(), isSelected: selection.has(job.id),
    onOpen: () => openViewer(jobs.get(job.id)), onCancel: () => cancel(job.id), onAgain: () => again(jobs.get(job.id)),
    onRemove: () => removeCard(jobs.get(job.id)),
    onSelect: () => selection.toggle(job.id),
  });
}

// A request that waits to be sent, as a card among the jobs.
const unsentId = (entry) => `unsent-${entry.key}`;

function drawUnsent(entry) {
  const id = unsentId(entry);
  if (!cards.has(id)) cards.set(id, make('li', 'card'));
  const { prompt, size } = entry.request;
  const shape = { size: size ?? shapes?.[entry.shape ?? 'square'] ?? '1x1' };
  const standing = { status: entry.isRefused ? 'refused' : 'unsent', unsent: entry, isBehind: outbox.isBehind(entry), isSending: outbox.isSending(entry) };
  const shown = { id, prompt, effective_parameters: shape, ...standing };
  drawCard(cards.get(id), shown, {
    isStarred: false, isSelecting: false, isSelected: false,
    onCancel: () => putAway(entry), onAgain: () => putAway(entry, entry.request.prompt),
  });
  return cards.get(id);
}

function write(prompt) {
  $('prompt').value = prompt;
  message.written();
  length.show();
}

function putAway(entry, prompt = $('prompt').value) {
  write(prompt);
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
  showEmpty(shown.length === 0 && service.shownFor() !== null);
  $('tools').hidden = jobs.size === 0;
  $('more').hidden = !hasMore();
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

function drop(ids) {
  for (const id of ids) {
    for (const kept of [jobs, cards, apart]) kept.delete(id);
    selection.lose(id);
  }
}

function forget(id) {
  drop([id]);
  stars.lose(id);
  arrange();
  loseShown(id);
}

function removed(id) {
  forget(id);
  tellTabs([id]);
}

// What is of the session is dealt with where it is found out whose it is now.
const tell = (problem) => problem.isOfSession || toast(problem.status ? problem.message : say('notReached'));

const { keepLooking, lookAtFailed, stop: stopLooking } = openLooking({
  jobs: () => newestFirst(), onMissing: forget,
  onSeen: (job) => jobs.has(job.id) && take(job), // and not where the list began anew meanwhile
  onAnswer(isThere) {
    if (isThere) message.answered();
    else message.ofService(() => say('offline'));
  },
});

// Drawing -------------------------------------------------------------------------------------------------------------

// A new card has no star yet: a filter that hid it would let one think that nothing happened.
function submit(request, shape) {
  if ($('starred-only').checked) showStarred(false);
  outbox.add(request, shape);
}

function showStarred(isOnly) {
  $('starred-only').checked = isOnly;
  if (isOnly) stars.load();
  else stars.stop();
  arrange();
  selection.show();
}

// What has become of a prompt; for everybody where its card, the first, is out of sight.
function tellOf({ request }, words) {
  const text = say(words, { prompt: request.prompt.slice(0, 80) });
  const place = $('grid').firstElementChild?.getBoundingClientRect();
  if (place && !isOffering() && (place.bottom <= 0 || place.top >= window.innerHeight)) toast(text);
  else $('status').textContent = text;
}

function takeDrawn(made) {
  [...made].reverse().forEach(take);
  history.noteDrawn(made);
  arrange();
  tellTabs();
  refreshQuota();
  keepLooking(150);
}

const outbox = openOutbox({
  onTaken(entry, made) {
    cards.delete(unsentId(entry));
    message.clear();
    takeDrawn(made);
    tellOf(entry, 'announceQueued');
  },
  onTakenBack: takeDrawn,
  onDelayed(entry) {
    arrange();
    tellOf(entry, 'announceUnsent');
    refreshQuota();
  },
  // Beside the prompt where it still stands; else the card keeps it.
  onRefused(entry, problem) {
    message.ofPrompt(() => problem.message);
    return $('prompt').value !== entry.request.prompt;
  },
  onChange: arrange,
  // A shape is a size of the model, which may not be known yet when it is asked for.
  requestOf: ({ request, shape }) => (shape ? { ...request, size: shapes[shape] } : request),
});

function go() {
  const prompt = $('prompt').value;
  if (!prompt.trim()) {
    message.ofPrompt(() => say('emptyPrompt'));
    return $('prompt').focus();
  }
  if (length.isTooLong()) return $('prompt').focus();
  const form = new FormData($('composer'));
  const count = Number(form.get('count'));
  if (dropped.isFor(prompt)) submit(dropped.request());
  else submit({ prompt, ...(count > 1 ? { n: count } : {}) }, form.get('shape'));
  $('prompt').focus();
  $('prompt').select();
}

const dropped = openDropped({ known: () => models, onWritten() { message.written(); length.show(); } });
const length = openLength($('prompt'), $('prompt-over'));

const again = (job) => submit({ prompt: job.prompt, size: job.effective_parameters.size, ...modelOf(job, models) });
const vary = (job) => submit({ ...variationOf(job), ...modelOf(job, models) });

async function cancel(id) {
  const hadFocus = cards.get(id)?.contains(document.activeElement);
  try { take(await service.cancel(id)); } catch (problem) { return tell(problem); }
  if (hadFocus) regainFocus(cards.get(id)?.querySelector('button'));
}

// Where what had the focus is no more, a keyboard goes on from here.
function regainFocus(place) {
  if (document.activeElement === document.body) (place ?? $('prompt')).focus();
}

const besideOf = (card) => (card?.nextElementSibling ?? card?.previousElementSibling)?.querySelector('button');

async function remove(job) {
  try { await service.remove(job.id); } catch (problem) { if (!isGone(problem)) return tell(problem); }
  const beside = besideOf(cards.get(job.id));
  removed(job.id);
  regainFocus(beside);
  toast(say('deleted'));
}

const removal = openRemoval({ onChange: arrange, onRemoved: removed });

// The focus goes on to the card beside it.
function removeCard(job) {
  const card = cards.get(job.id);
  const beside = besideOf(card);
  const hadFocus = card.contains(document.activeElement);
  removal.remove(job);
  if (hadFocus) (beside ?? $('prompt')).focus();
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
  onElsewhere() {
    redraw();
    if ($('starred-only').checked) stars.load();
  },
  onGone: forget, onChange: arrange,
});

function star(job) {
  if (!jobs.has(job.id)) return; // deleted in another tab
  stars.toggle(job.id);
  drawOne(jobs.get(job.id));
  arrange();
}

const selection = openSelection({ pictures, draw: drawOne, onGone: forget, onToast: toast });

// History, account ----------------------------------------------------------------------------------------------------

const history = openHistory({
  onOlder(found) {
    for (const job of found) if (!jobs.has(job.id) || apart.delete(job.id)) jobs.set(job.id, { ...job, order: -order++ });
    redraw();
    keepLooking(100);
  },
  // What was drawn elsewhere meanwhile: in another tab, on a phone, through the API.
  onNewer(found) {
    [...found].reverse().forEach(take);
    arrange();
    refreshQuota();
    keepLooking(100);
  },
  onAnew(fresh) {
    drop([...jobs.keys()].filter((id) => !fresh.has(id)));
    if ($('starred-only').checked) stars.load();
  },
  onGone: (ids) => ids.forEach(forget),
});

const hasMore = () => history.hasOlder() && !$('starred-only').checked; // all of those are fetched
async function loadOlder() {
  try { await history.loadOlder(); } catch (problem) { tell(problem); return false; }
  return true;
}

// The last press takes its button away: a keyboard goes on with the first of what it brought.
async function showOlder() {
  const last = $('grid').lastElementChild;
  if (!await loadOlder() || !$('more').hidden) return;
  $('more').blur();
  regainFocus(besideOf(last));
}

const loadNewest = () => document.visibilityState === 'visible' && history.loadNewer().catch(() => {}); // or the next time

const door = openDoor(begin);

// The account of `who` is shown from here on. Words that another has left in the field are not theirs.
function showAccountOf(who) {
  if (lastShown !== null && lastShown !== who.tenant) emptyComposer();
  lastShown = who.tenant;
  service.showFor(who.tenant);
  outbox.belongTo(who.tenant);
  stars.openFor(who.tenant);
}

async function start(who) {
  $('sign-out').hidden = !(who.key_required && who.signed_in);
  door.show(who);
  if (!who.signed_in) return;
  showAccountOf(who);
  models = await service.models();
  [{ shapes }] = models;
  refreshQuota();
  history.reset();
  let oldest = await history.loadOlder();
  for (let page = 1; history.hasOlder() && isOpen(oldest) && page < PAGES_AT_START; page += 1) oldest = await history.loadOlder();
  if ($('starred-only').checked) stars.load();
  message.answered();
  outbox.open();
}

async function begin(known) {
  clearTimeout(startTimer);
  try {
    await start(known ?? await whoIsHere());
  } catch (problem) {
    if (problem.isOfSession) return;
    message.ofService(() => (problem.status ? problem.message : say('offline')));
    if (service.mayPass(problem)) startTimer = setTimeout(begin, problem.retryAfterMs ?? 3000);
  }
}

function emptyComposer() {
  write('');
  dropped.putAway();
}

// Nothing of whose session it was stays to be seen.
function empty() {
  stopLooking();
  service.showFor(null);
  for (const part of [outbox, stars]) part.close();
  removal.drop();
  history.reset();
  for (const kept of [jobs, cards, apart]) kept.clear();
  message.clear();
  $('status').textContent = '';
  $('quota').hidden = true;
  selection.end();
  closeViewer();
  arrange();
}

function changeTo(who, isSignOut) {
  empty();
  if (isSignOut) emptyComposer();
  if (!who.signed_in) door.tell(() => say('sessionEnded'));
  begin(who);
}

// Wiring --------------------------------------------------------------------------------------------------------------

function wire() {
  keepChoices($('composer'));
  $('composer').addEventListener('submit', (event) => { event.preventDefault(); go(); });
  drawOnEnter($('prompt'), go);
  $('go').addEventListener('click', (event) => { if (isDoubleClick(event)) event.preventDefault(); });
  ignoreHeldEnter();
  $('prompt').addEventListener('input', message.written);
  wireBar(() => {
    for (const part of [selection, dropped, length, message]) part.show();
    redraw();
    door.sayAnew();
    refreshQuota();
    lookAtFailed();
  });
  for (const button of $('examples').querySelectorAll('button')) button.addEventListener('click', () => { write(button.textContent); $('prompt').focus(); });
  document.addEventListener('visibilitychange', loadNewest);
  for (const [where, what] of [[document, 'visibilitychange'], [window, 'online']]) where.addEventListener(what, askForMissing);
  watchTabs({ onGone: forget, onChange: loadNewest });
  $('more').addEventListener('click', showOlder);
  $('starred-only').addEventListener('change', () => showStarred($('starred-only').checked));
  $('sign-out').addEventListener('click', signOut);
  document.addEventListener('keydown', (event) => {
    if (/^(TEXTAREA|INPUT)$/.test(event.target.tagName)) return;
    if (event.key === '/') { event.preventDefault(); $('prompt').focus(); }
    if (event.key === 'z' && (event.ctrlKey || event.metaKey) && removal.takeBack()) event.preventDefault();
  });
  setUpViewer({
    cardOf: (id) => cards.get(id), onGone: forget, isStarred: (job) => stars.has(job.id), onStar: star, onAgain: again, onVary: vary, onDelete: remove, onToast: toast,
    loadOlder, isLastOfMore: (id) => hasMore() && pictures().at(-1)?.id === id,
    neighbor: (id, step) => { const all = pictures(); const at = all.findIndex((job) => job.id === id); return at < 0 ? null : all[at + step] ?? null; },
  });
}

applyWords();
wire();
watchSession(changeTo);
showReady();
begin();
