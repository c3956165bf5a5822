// The starred pictures: kept in this browser, for each tenant apart, and fetched by their ids however far back they are.
import * as service from './service.js';
import { local } from './storage.js';
import { say } from './words.js';

const KEPT = 'zimg.starred';
const AT_ONCE = 50;     // ids in one question
const RETRY_MS = 3000;
const JOB_ID = /^[0-9a-f]{32}$/;
const ASKED_AGAIN = (status) => status === 0 || status === 429 || status >= 500;

function stored(name) {
  try { return (JSON.parse(local.get(name)) ?? []).filter((id) => JOB_ID.test(id)); } catch { return []; }
}

// `onFound` takes the jobs of starred pictures, `onGone` the id of one that is no more: it has lost its star. `onElsewhere` is
// called when another tab gave or took one.
export function openStars({ onFound, onElsewhere, onGone, onChange }) {
  let owner = null, ids = new Set();
  let round = 0, timer = 0, isLoading = false, problem = null; // of the looking for them that goes on

  // Another tab may have changed them.
  function read() {
    if (owner !== null) ids = new Set(stored(`${KEPT}.${owner}`));
  }

  function keep() {
    if (owner !== null) local.set(`${KEPT}.${owner}`, JSON.stringify([...ids]));
  }

  function lose(id) {
    read();
    if (ids.delete(id)) keep();
  }

  function settle(asked, found) {
    const there = found.filter((job) => job.status !== 'expired');
    const known = new Set(there.map((job) => job.id));
    onFound(there);
    for (const id of asked) if (!known.has(id)) { lose(id); onGone(id); }
  }

  async function lookFor(wanted, mine) {
    for (let at = 0; at < wanted.length; at += AT_ONCE) {
      const asked = wanted.slice(at, at + AT_ONCE);
      const answer = await service.patiently(() => service.look(asked));
      if (mine !== round) return;
      settle(asked, answer.data);
    }
  }

  async function load() {
    const mine = ++round;
    clearTimeout(timer);
    read();
    isLoading = true;
    onChange();
    let met = null;
    try {
      await lookFor([...ids].reverse(), mine);
    } catch (failure) {
      if (!(failure instanceof service.Problem)) throw failure;
      met = failure;
    }
    if (mine !== round) return;
    [isLoading, problem] = [false, met];
    onChange();
    if (met && (met.isOfSession || ASKED_AGAIN(met.status))) timer = setTimeout(load, RETRY_MS);
  }

  function stop() {
    round += 1;
    clearTimeout(timer);
    [isLoading, problem] = [false, null];
  }

  window.addEventListener('storage', ({ key }) => {
    if (owner === null || key !== `${KEPT}.${owner}`) return;
    read();
    onElsewhere();
  });

  return {
    has: (id) => ids.has(id),
    toggle(id) { read(); if (!ids.delete(id)) ids.add(id); keep(); },
    lose, load, stop,
    close() { stop(); [owner, ids] = [null, new Set()]; },
    isFailing: () => problem !== null,
    // Why there may be more than one sees; '' when all are there.
    words: () => (problem ? (problem.status ? problem.message : say('offline')) : isLoading ? say('starsLoading') : ''),
    openFor(name) {
      owner = name;
      read();
      if (local.get(KEPT) === null) return;
      for (const id of stored(KEPT)) ids.add(id); // from before they were kept for each tenant apart
      keep();
      local.remove(KEPT);
    },
  };
}
