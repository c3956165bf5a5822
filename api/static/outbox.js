// What was asked for and the service has not taken yet: sent in the order of asking, one after another, and again after the
// wait that the service names. Kept over a reload, so that no prompt is ever lost. Each request has a key of its own: sent
// twice, by a retry or by two tabs, it draws once.
import * as service from './service.js';
import { keptUnder, local } from './storage.js';
import { openTakingBack, TAKING_BACK } from './taking_back.js';

const KEPT = 'zimg.unsent.';
const OWNER = 'zimg.owner';   // whose session this browser had last: presumed until the service says whose it is
const WORTH_A_RETRY = new Set([0, 408, 425, 429, 502, 503, 504]);
const MAY_BE_TAKEN = (status) => !status || status === 408 || status >= 500; // only its answer may have been lost
const FIRST_WAIT_MS = 1000;   // where the service names none
const LONGEST_WAIT_MS = 5000;
const CHECK_MS = 60000;       // a longer wait is looked at again: an operator may have raised the limit
const SHOW_AFTER_MS = 700;    // what is taken sooner never shows as waiting

const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');

function keep(entry) {
  const { key, request, shape, askedAt, owner, mayBeTaken } = entry;
  local.set(KEPT + key, JSON.stringify({ key, request, shape, askedAt, owner, mayBeTaken }));
}

const stored = () => keptUnder(KEPT).map((entry) => ({ ...entry, since: -SHOW_AFTER_MS, problem: null })).sort((a, b) => a.askedAt - b.askedAt);

// Who signs out leaves no prompt behind, in no tab.
export function forgetUnsent() {
  for (const name of local.keys()) if (name.startsWith(KEPT) || name.startsWith(TAKING_BACK) || name === OWNER) local.remove(name);
}

// `onRefused` says whether a request that will never be taken stays, for its prompt to be mended; `requestOf` what is sent of
// an entry, once the box is open; `onTakenBack` is told of jobs that nobody wanted any more. Waits are counted by a clock that
// nobody sets.
export function openOutbox({ onTaken, onTakenBack, onDelayed, onRefused, onChange, requestOf }) {
  const entries = new Map(); // key -> entry, in the order of asking
  let owner = null; // whose session this is
  let isOpen = false, isHidden = false; // nothing is sent before the page is ready, nor shown once a session is over
  let sending = null, timer = 0, notBefore = 0, waitMs = FIRST_WAIT_MS;
  const takingBack = openTakingBack({ requestOf, onTakenBack });
  let wakes = 0; // how often somebody wanted all that waits sent at once

  const next = () => [...entries.values()].find((entry) => !entry.isRefused);
  const drop = (entry) => { entries.delete(entry.key); local.remove(KEPT + entry.key); };
  // Another tab has sent it, or put it away.
  const isGone = (entry) => local.get(KEPT + entry.key) === null;

  function claim(entry) {
    if (entry.owner === owner) return;
    entry.owner = owner;
    if (!isGone(entry)) keep(entry);
  }

  function later(milliseconds) {
    clearTimeout(timer);
    timer = setTimeout(sendNext, milliseconds);
  }

  async function sendNext() {
    const entry = next();
    if (sending || !entry || !isOpen) return;
    if (isGone(entry)) { entries.delete(entry.key); onChange(); return later(0); }
    const left = notBefore - performance.now();
    if (left > 0) return later(Math.min(left, CHECK_MS));
    sending = entry;
    const wakesBefore = wakes;
    const wasMaybeTaken = entry.mayBeTaken;
    try {
      noteMayBeTaken(entry, true); // also where this tab does not live to see the answer
      taken(entry, await service.draw(requestOf(entry), entry.key));
    } catch (problem) {
      noteMayBeTaken(entry, wasMaybeTaken || MAY_BE_TAKEN(problem.status));
      refused(entry, problem);
      if (wakes !== wakesBefore) notBefore = 0; // what it was refused for may be over since it was sent
    }
    sending = null;
    onChange();
    later(0);
  }

  function noteMayBeTaken(entry, mayBeTaken) {
    if (Boolean(entry.mayBeTaken) === Boolean(mayBeTaken)) return;
    entry.mayBeTaken = mayBeTaken;
    if (!isGone(entry)) keep(entry);
  }

  // Another tab may have tried it since.
  const mayBeTaken = (entry) => entry.mayBeTaken || keptUnder(KEPT + entry.key).some((kept) => kept.mayBeTaken);

  function taken(entry, jobs) {
    drop(entry);
    [notBefore, waitMs] = [0, FIRST_WAIT_MS];
    if (entry.isPutAway) takingBack.add(entry);
    else onTaken(entry, jobs);
  }

  function refused(entry, problem) {
    if (entry.isPutAway) return entry.mayBeTaken ? takingBack.add(entry) : takingBack.forget(entry);
    if (problem.isOutdated) return;
    if (problem.isOfSession) { // whoever is signed in next has it sent, or dropped
      notBefore = performance.now() + LONGEST_WAIT_MS;
      return;
    }
    entry.problem = problem;
    if (!WORTH_A_RETRY.has(problem.status ?? 0)) {
      entry.isRefused = true;
      return onRefused(entry, problem) || drop(entry);
    }
    const wait = problem.retryAfterMs ?? waitMs;
    entry.opensAt = performance.now() + wait;
    notBefore = performance.now() + Math.min(wait, CHECK_MS);
    waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
    if (!entry.isTold) onDelayed(entry);
    entry.isTold = true;
  }

  function sendNow() {
    wakes += 1;
    [notBefore, waitMs] = [0, FIRST_WAIT_MS];
    later(0);
  }

  // What is on its way is dealt with when its answer is there.
  function dropGone() {
    for (const entry of entries.values()) if (isGone(entry) && entry !== sending) entries.delete(entry.key);
    onChange();
  }

  window.addEventListener('online', sendNow);
  window.addEventListener('storage', ({ key }) => { if (key?.startsWith(KEPT)) dropGone(); });
  for (const entry of stored()) entries.set(entry.key, entry);

  return {
    add(request, shape) {
      const entry = { key: newKey(), request, shape, askedAt: Date.now(), since: performance.now(), owner: owner ?? local.get(OWNER), problem: null };
      entries.set(entry.key, entry);
      keep(entry);
      sendNext();
      onChange();
      setTimeout(onChange, SHOW_AFTER_MS);
    },
    // In the order of asking; what is taken at once is never among them.
    waiting: () => (isHidden ? [] : [...entries.values()]).filter((entry) => entry.problem || notBefore > performance.now() || performance.now() - entry.since >= SHOW_AFTER_MS),
    isSending: (entry) => entry === sending,
    isBehind: (entry) => !entry.isRefused && next() !== entry,
    putAway(entry) {
      const isUnsure = mayBeTaken(entry);
      entry.isPutAway = true;
      drop(entry); // before anything else is kept: there may be no room for both
      if (isUnsure) takingBack.keep(entry);
      if (isUnsure && entry !== sending) takingBack.add(entry); // else once its answer is there, or is lost
      onChange();
      sendNow();
    },
    // The session is over: until it is known who is next nothing is sent, and nothing shown.
    close() { [owner, isOpen, isHidden] = [null, false, true]; takingBack.close(); },
    // What somebody else asked for in this browser is not sent in this session.
    belongTo(name) {
      [owner, isHidden] = [name, false];
      local.set(OWNER, name);
      for (const entry of entries.values()) {
        if (isGone(entry)) entries.delete(entry.key);
        else if ((entry.owner ?? name) !== name) drop(entry);
        else claim(entry);
      }
      takingBack.belongTo(name);
    },
    open() { isOpen = true; takingBack.open(); sendNow(); },
  };
}
