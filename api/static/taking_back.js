// What was put away after it may have reached the service, its answer lost: it is asked for once more under its own key,
// which draws nothing twice, and what comes back is cancelled. Out of sight, and over a reload.
import * as service from './service.js';
import { keptUnder, local } from './storage.js';

export const TAKING_BACK = 'zimg.takingBack.';
const WORTH_A_RETRY = new Set([0, 408, 425, 429, 500, 502, 503, 504]);
const OF_LIMITS = new Set(['rate_limit_exceeded', 'quota_exceeded', 'queue_full']); // these refuse only what is not there yet
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 60000;

const mayHelp = ({ status, code, isOfSession }) => isOfSession || (WORTH_A_RETRY.has(status ?? 0) && !OF_LIMITS.has(code));

// One that ended before, or is gone, stays as it is.
async function cancel(job) {
  try { return await service.cancel(job.id); } catch (problem) {
    if (mayHelp(problem)) throw problem;
    return job;
  }
}

// `requestOf` says what is sent of an entry, `onTakenBack` is told the jobs that it had become.
export function openTakingBack({ requestOf, onTakenBack }) {
  const entries = new Map(keptUnder(TAKING_BACK).map((entry) => [entry.key, entry]));
  let owner = null; // whose session this is; null where that is not known
  let isOpen = false, isBusy = false, timer = 0, waitMs = FIRST_WAIT_MS;

  function drop({ key }) {
    entries.delete(key);
    local.remove(TAKING_BACK + key);
  }

  // What another put away in this browser is not asked for in this session, nor what a sign-out has dropped.
  function dropStrange() {
    for (const entry of [...entries.values()]) {
      const isOfAnother = owner !== null && (entry.owner ?? owner) !== owner;
      if (isOfAnother || local.get(TAKING_BACK + entry.key) === null) drop(entry);
    }
  }

  async function takeBack(entry) {
    const jobs = await service.draw(requestOf(entry), entry.key);
    onTakenBack(await Promise.all(jobs.map(cancel)));
  }

  // How long to wait before the next one.
  async function tryOne(entry) {
    try {
      await takeBack(entry);
      waitMs = FIRST_WAIT_MS;
    } catch (problem) {
      if (mayHelp(problem)) {
        waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
        return Math.min(problem.retryAfterMs ?? waitMs / 2, LONGEST_WAIT_MS);
      }
    }
    drop(entry);
    return 0;
  }

  async function goOn() {
    clearTimeout(timer);
    const [entry] = entries.values();
    if (!entry || !isOpen || isBusy) return;
    isBusy = true;
    const wait = await tryOne(entry);
    isBusy = false;
    timer = setTimeout(goOn, wait);
  }

  function goOnAtOnce() {
    waitMs = FIRST_WAIT_MS;
    goOn();
  }

  window.addEventListener('online', goOnAtOnce);

  return {
    // Known over a reload from now on; asked for from `add` on.
    keep: ({ key, request, shape, owner }) => local.set(TAKING_BACK + key, JSON.stringify({ key, request, shape, owner })),
    add(entry) {
      entries.set(entry.key, entry);
      dropStrange(); // its answer may have come after somebody else signed in
      goOnAtOnce();
    },
    forget: drop,
    close() { [owner, isOpen] = [null, false]; },
    belongTo(name) { owner = name; dropStrange(); },
    open() { isOpen = true; goOnAtOnce(); },
  };
}
