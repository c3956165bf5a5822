// What was asked for and the service has not taken yet: sent in the order of asking, one after another, and again after the
// wait that the service names. Kept over a reload, so that no prompt is ever lost. Each request has a key of its own: sent
// twice, by a retry or by two tabs, it draws once.
import * as service from './service.js';
import { local } from './storage.js';

const KEPT = 'zimg.unsent.';
const OWNER = 'zimg.owner';   // whose session this browser had last: presumed until the service says whose it is
const WORTH_A_RETRY = new Set([0, 408, 425, 429, 502, 503, 504]);
// The service may have it after all of these: only their answer was lost.
const isUnsure = (status) => status === 0 || status === 408 || status >= 500;
const FIRST_WAIT_MS = 1000;   // where the service names none
const LONGEST_WAIT_MS = 5000;
const CHECK_MS = 60000;       // a longer wait is looked at again: an operator may have raised the limit
const SHOW_AFTER_MS = 700;    // what is taken sooner never shows as waiting

const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');

function keep(entry) {
  const { key, request, shape, askedAt, owner, mayBeTaken, isPutAway } = entry;
  local.set(KEPT + key, JSON.stringify({ key, request, shape, askedAt, owner, mayBeTaken, isPutAway }));
}

function stored() {
  return local.keys().filter((name) => name.startsWith(KEPT)).flatMap((name) => {
    try { return [{ ...JSON.parse(local.get(name)), since: -SHOW_AFTER_MS, problem: null }]; } catch { return []; }
  }).sort((a, b) => a.askedAt - b.askedAt);
}

// Who signs out leaves no prompt behind, in no tab.
export function forgetUnsent() {
  for (const name of local.keys()) if (name.startsWith(KEPT) || name === OWNER) local.remove(name);
}

// `onRefused` says whether a request that will never be taken stays, for its prompt to be mended; `requestOf` what is sent of
// an entry, once the box is open. Waits are counted by a clock that nobody sets.
export function openOutbox({ onTaken, onDelayed, onRefused, onChange, requestOf }) {
  const entries = new Map(); // key -> entry, in the order of asking
  let owner = null; // whose session this is
  let isOpen = false, isHidden = false; // nothing is sent before the page is ready, nor shown once a session is over
  let isSending = false, timer = 0, notBefore = 0, waitMs = FIRST_WAIT_MS;
  let wakes = 0; // how often somebody wanted all that waits sent at once

  const next = () => [...entries.values()].find((entry) => !entry.isRefused);
  const drop = (entry) => { entries.delete(entry.key); local.remove(KEPT + entry.key); };
  // Another tab has sent it, or put it away.
  const isGone = (entry) => local.get(KEPT + entry.key) === null;

  function note(entry, mayBeTaken) {
    entry.mayBeTaken = mayBeTaken;
    if (!isGone(entry)) keep(entry);
  }

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
    if (isSending || !entry || !isOpen) return;
    if (isGone(entry)) { entries.delete(entry.key); onChange(); return later(0); }
    const left = notBefore - performance.now();
    if (left > 0) return later(Math.min(left, CHECK_MS));
    isSending = true;
    note(entry, true); // a page that is left now does not hear the answer
    const wakesBefore = wakes;
    try {
      taken(entry, await service.draw(requestOf(entry), entry.key));
    } catch (problem) {
      refused(entry, problem);
      if (wakes !== wakesBefore) notBefore = 0; // what it was refused for may be over since it was sent
    }
    isSending = false;
    onChange();
    later(0);
  }

  function taken(entry, jobs) {
    drop(entry);
    [notBefore, waitMs] = [0, FIRST_WAIT_MS];
    onTaken(entry, jobs);
    if (entry.isPutAway) for (const job of jobs) service.cancel(job.id).catch(() => {});
  }

  function refused(entry, problem) {
    if (problem.isOutdated) return;
    note(entry, isUnsure(problem.status ?? 0));
    if (problem.isOfSession) { // whoever is signed in next has it sent, or dropped
      notBefore = performance.now() + LONGEST_WAIT_MS;
      return;
    }
    if (entry.isPutAway && !entry.mayBeTaken) return drop(entry);
    entry.problem = problem;
    if (!WORTH_A_RETRY.has(problem.status ?? 0)) {
      if (entry.isPutAway) return drop(entry);
      entry.isRefused = true;
      return onRefused(entry, problem) || drop(entry);
    }
    const wait = problem.retryAfterMs ?? waitMs;
    entry.opensAt = performance.now() + wait;
    notBefore = performance.now() + Math.min(wait, CHECK_MS);
    waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
    if (!entry.isTold && !entry.isPutAway) onDelayed(entry);
    entry.isTold = true;
  }

  function sendNow() {
    wakes += 1;
    [notBefore, waitMs] = [0, FIRST_WAIT_MS];
    later(0);
  }

  // What is on its way is dealt with when its answer is there.
  function dropGone() {
    for (const entry of entries.values()) if (isGone(entry) && !(isSending && next() === entry)) entries.delete(entry.key);
    onChange();
  }

  window.addEventListener('online', sendNow);
  window.addEventListener('storage', ({ key, newValue }) => {
    if (!key?.startsWith(KEPT)) return;
    const entry = entries.get(key.slice(KEPT.length));
    try { if (entry && JSON.parse(newValue)?.isPutAway) entry.isPutAway = true; } catch { /* not ours */ }
    dropGone();
  });
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
    waiting: () => (isHidden ? [] : [...entries.values()]).filter((entry) => !entry.isPutAway).filter((entry) => entry.problem || notBefore > performance.now() || performance.now() - entry.since >= SHOW_AFTER_MS),
    isSending: (entry) => isSending && next() === entry,
    isBehind: (entry) => !entry.isRefused && next() !== entry,
    // What the service may have already is sent once more under its key, out of sight, and what comes back is cancelled.
    putAway(entry) {
      entry.isPutAway = true;
      if (entry.mayBeTaken) keep(entry);
      else drop(entry);
      onChange();
      sendNow();
    },
    // The session is over: until it is known who is next nothing is sent, and nothing shown.
    close() { [owner, isOpen, isHidden] = [null, false, true]; },
    // What somebody else asked for in this browser is not sent in this session.
    belongTo(name) {
      [owner, isHidden] = [name, false];
      local.set(OWNER, name);
      for (const entry of entries.values()) {
        if (isGone(entry)) entries.delete(entry.key);
        else if ((entry.owner ?? name) !== name) drop(entry);
        else claim(entry);
      }
    },
    open() { isOpen = true; sendNow(); },
  };
}
